//! Masters and optimizer states: the parts of all data ranks put together, per parameter.

use super::Rank;
use super::flat::{Flat, Slot};
use super::join::{Join, RankPart, numel};
use super::layout::Layout;
use super::mesh::Degrees;
use super::model::{ModelFile, Shapes};
use super::shard::Shard;
use crate::inventory::{FileId, Inventory, Mesh, Problem, Role, Stored};
use crate::ranks::{MIXED, Opened};
use indexmap::IndexSet;
use std::collections::{HashMap, HashSet};

/// The shards of one `mp` rank by data rank; nothing where one is missing or can't be read.
pub(super) type Row<'a> = Vec<Option<&'a Opened<Shard>>>;

/// Puts the states of all shards into the inventory.
pub(super) fn collect(
    models: &[(Rank, Opened<ModelFile>)],
    shards: &[(Rank, Opened<Shard>)],
    degrees: Degrees,
    inventory: &mut Inventory,
    problems: &mut Vec<Problem>,
) {
    let states = names(shards);
    let mut found: Vec<Vec<Stored>> = vec![Vec::new(); states.len()];
    for ((mp, _), model) in models {
        let Some(shapes) = &model.content.shapes else { continue };
        let Some(row) = row(shards, *mp, degrees.dp, (shapes.len(), "parameter group"), problems)
        else {
            continue;
        };
        let mut swapped = HashSet::new();
        for (index, shapes) in shapes.iter().enumerate() {
            let group = Group { index, shapes, row: &row, at: degrees.at(*mp), model };
            let Some(flat) = group.lay_out(degrees.dp, problems) else { continue };
            group.whose(&flat, &mut swapped, problems);
            group.buffer(&flat, "group").states(&states, &mut found, inventory, problems);
        }
    }
    inventory.tensors.extend(found.into_iter().flatten());
}

/// The names of all states that any shard has, masters first.
pub(super) fn names(shards: &[(Rank, Opened<Shard>)]) -> IndexSet<String> {
    let mut states: IndexSet<String> = IndexSet::from(["fp32".to_owned()]);
    let parts = shards.iter().flat_map(|(_, shard)| &shard.content.groups);
    states.extend(parts.flat_map(|part| part.flat.keys().cloned()));
    states
}

/// The shards of an `mp` rank that have as many buffers as the shapes; nothing if there are none.
pub(super) fn row<'a>(
    shards: &'a [(Rank, Opened<Shard>)],
    mp: u64,
    ranks: u64,
    (buffers, word): (usize, &str),
    problems: &mut Vec<Problem>,
) -> Option<Row<'a>> {
    let own = shards.iter().filter(|((of, _), _)| *of == mp);
    let by_rank: HashMap<u64, _> = own.map(|((_, dp), shard)| (*dp, shard)).collect();
    let mut row: Row<'_> = (0..ranks).map(|dp| by_rank.get(&dp).copied()).collect();
    if row.iter().all(Option::is_none) {
        return None;
    }
    for shard in &mut row {
        *shard = shard.filter(|shard| of_groups(shard, buffers, word, problems));
    }
    Some(row)
}

/// The parts that the data ranks of one `mp` rank have of a flat buffer.
pub(super) struct FlatBuffer<'a> {
    pub(super) layout: &'a dyn Layout,
    pub(super) index: usize,
    /// `group`, or `sub-group` under ZeRO-3.
    pub(super) word: &'static str,
    pub(super) shapes: &'a Shapes,
    pub(super) row: &'a Row<'a>,
    pub(super) at: &'a Mesh,
    pub(super) model: &'a Opened<ModelFile>,
}

impl<'a> FlatBuffer<'a> {
    /// Stores all states, each with those of its kind.
    pub(super) fn states(
        &self,
        states: &IndexSet<String>,
        found: &mut [Vec<Stored>],
        inventory: &mut Inventory,
        problems: &mut Vec<Problem>,
    ) {
        let before = problems.len();
        for (state, found) in states.iter().zip(found) {
            let rank = |shard: &Option<&'a Opened<Shard>>| {
                let shard: &'a Opened<Shard> = (*shard)?;
                let part = shard.content.groups.get(self.index);
                let extent = part.and_then(|part| part.flat.get(state));
                Some(RankPart { file: shard.file, path: &shard.path, extent })
            };
            let join = Join {
                layout: self.layout,
                shapes: self.shapes,
                state,
                role: Role::Trained,
                at: self.at,
                of: format!("{} {}", self.word, self.index),
                by: &self.model.path,
                ranks: self.row.iter().map(rank).collect(),
            };
            join.store(found, inventory, problems);
            // What is wrong with one state is wrong with all.
            if problems.len() > before {
                break;
            }
        }
    }
}

/// Whether a shard has as many buffers as the shapes have dicts.
fn of_groups(
    shard: &Opened<Shard>,
    expected: usize,
    word: &str,
    problems: &mut Vec<Problem>,
) -> bool {
    let found = shard.content.groups.len();
    if found != expected {
        let message = format!("{word}s: {found} here, {expected} in `param_shapes`");
        problems.push(Problem::new(&shard.path, message).help(MIXED));
    }
    found == expected
}

/// A parameter group on one `mp` rank.
struct Group<'a> {
    index: usize,
    shapes: &'a Shapes,
    row: &'a Row<'a>,
    at: Mesh,
    model: &'a Opened<ModelFile>,
}

impl Group<'_> {
    fn lay_out(&self, ranks: u64, problems: &mut Vec<Problem>) -> Option<Flat> {
        let gaps = self.gaps(problems)?;
        let mut slots = Vec::with_capacity(self.shapes.len());
        for (index, (_, shape)) in self.shapes.iter().enumerate() {
            let gap = gaps.map_or(0, |gaps| gaps[index]);
            slots.push(numel(shape).map(|numel| Slot { numel, gap }));
        }
        let slots: Option<Vec<_>> = slots.into_iter().collect();
        let flat = slots.and_then(|slots| Flat::new(&slots, ranks));
        if flat.is_none() {
            let message = format!("the shapes of group {} have too many elements", self.index);
            problems.push(Problem::new(&self.model.path, message));
        }
        flat
    }

    /// Elements behind each parameter, if they are recorded; all shards have to agree.
    fn gaps(&self, problems: &mut Vec<Problem>) -> Option<Option<&[u64]>> {
        let mut usual: Option<&[u64]> = None;
        for shard in self.row.iter().flatten() {
            let Some(gaps) = shard.content.gaps.as_ref().and_then(|all| all.get(self.index)) else {
                continue;
            };
            let wrong = if gaps.len() != self.shapes.len() {
                format!("has {} entries for {} parameters", gaps.len(), self.shapes.len())
            } else if usual.is_some_and(|usual| usual != gaps) {
                "is not the same as in the other data ranks".to_owned()
            } else {
                usual = Some(gaps);
                continue;
            };
            let message = format!("`param_alignment_paddings` of group {} {wrong}", self.index);
            problems.push(Problem::new(&shard.path, message));
            return None;
        }
        Some(usual)
    }

    /// Finds shards that lie under another rank's name: what they say of their own part is then not
    /// what their rank holds, but what another one does.
    fn whose(&self, flat: &Flat, swapped: &mut HashSet<FileId>, problems: &mut Vec<Problem>) {
        // The record is of another order under round robin.
        if self.model.content.zero.get("round_robin_gradients") == Some(&true.into()) {
            return;
        }
        let first = |rank: usize| {
            let (slot, start, len) = flat.first(rank as u64)?;
            Some((self.shapes[slot].0.as_str(), start, len))
        };
        for (rank, shard) in self.row.iter().enumerate() {
            let Some(shard) = shard else { continue };
            let said = shard.content.firsts.get(self.index).and_then(Option::as_ref);
            let said = said.map(|(name, start, len)| (name.as_str(), *start, *len));
            if said.is_none() || said == first(rank) {
                continue;
            }
            let owner = (0..self.row.len()).find(|other| first(*other) == said);
            if let Some(owner) = owner.filter(|_| swapped.insert(shard.file)) {
                let message = format!(
                    "it is called data rank {rank}, but holds the part of data rank {owner}"
                );
                problems.push(
                    Problem::new(&shard.path, message)
                        .help("Files were renamed or copied over one another: copy them again."),
                );
            }
        }
    }

    fn buffer<'s>(&'s self, layout: &'s Flat, word: &'static str) -> FlatBuffer<'s> {
        let Group { index, shapes, row, at, model } = self;
        FlatBuffer { layout, index: *index, word, shapes, row, at, model }
    }
}
