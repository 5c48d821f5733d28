//! Masters and optimizer states: the parts of all data ranks put together, per parameter.

use super::Rank;
use super::flat::{Flat, Slot};
use super::join::{Join, RankPart};
use super::laid::{Laid, Param, ROUND_ROBIN};
use super::layout::Layout;
use super::model::{ModelFile, Shapes};
use super::muon::{MOMENTUM, Momentum};
use super::shard::Shard;
use crate::inventory::{Data, FileId, Inventory, Mesh, Problem, Role, Run, Stored};
use crate::ranks::{MIXED, Opened};
use indexmap::IndexSet;
use std::collections::{HashMap, HashSet};

/// The shards that have a part of a buffer, in order; nothing where one is missing or can't be read.
pub(super) type Row<'a> = Vec<Option<&'a Opened<Shard>>>;

/// Puts the states of all shards into the inventory.
pub(super) fn collect(
    laid: &[Laid<'_>],
    shards: &[(Rank, Opened<Shard>)],
    inventory: &mut Inventory,
    problems: &mut Vec<Problem>,
) {
    let states = names(shards);
    let mut expected: HashMap<u64, usize> = HashMap::new();
    for group in laid {
        expected.insert(group.mp, group.model.content.shapes.as_ref().map_or(0, Vec::len));
    }
    let mut by_rank: HashMap<Rank, &Opened<Shard>> = HashMap::new();
    for ((mp, dp), shard) in shards {
        let word = "parameter group";
        let fits = expected.get(mp).is_none_or(|count| of_groups(shard, *count, word, problems));
        if fits {
            by_rank.insert((*mp, *dp), shard);
        }
    }
    let there: HashSet<u64> = shards.iter().map(|((mp, _), _)| *mp).collect();
    let mut found: Vec<Vec<Stored>> = vec![Vec::new(); states.len()];
    let mut swapped = HashSet::new();
    for laid in laid.iter().filter(|laid| there.contains(&laid.mp)) {
        let row = laid.ranks.iter().map(|rank| by_rank.get(rank).copied()).collect();
        let group = Group { laid, row };
        let Some(flat) = group.lay_out(problems) else { continue };
        group.whose(&flat, &mut swapped, problems);
        group.states(&flat, &states, &mut found, inventory, problems);
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
    /// A state that lies otherwise, or that can't be read.
    pub(super) other: Option<(&'static str, Option<&'a dyn Layout>)>,
    pub(super) index: usize,
    /// `group`, or `sub-group` under ZeRO-3.
    pub(super) word: &'static str,
    pub(super) shapes: &'a Shapes,
    pub(super) row: &'a Row<'a>,
    /// `mp` and data rank of each part.
    pub(super) ranks: &'a [Rank],
    /// What the ranks that share it are called.
    pub(super) among: &'static str,
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
            let part = |(shard, rank): (&Option<&'a Opened<Shard>>, &Rank)| {
                let shard: &'a Opened<Shard> = (*shard)?;
                let part = shard.content.groups.get(self.index);
                let extent = part.and_then(|part| part.flat.get(state));
                Some(RankPart { file: shard.file, path: &shard.path, rank: *rank, extent })
            };
            let other = self.other.filter(|(other, _)| other == state);
            let Some(layout) = other.map_or(Some(self.layout), |(_, layout)| layout) else {
                continue;
            };
            let join = Join {
                layout,
                shapes: self.shapes,
                state,
                role: Role::Trained,
                at: self.at,
                of: format!("{} {}", self.word, self.index),
                by: &self.model.path,
                among: self.among,
                mp: self.ranks.first().map_or(0, |(mp, _)| *mp),
                ranks: self.row.iter().zip(self.ranks).map(part).collect(),
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

/// A parameter group with its parts.
struct Group<'a> {
    laid: &'a Laid<'a>,
    row: Row<'a>,
}

impl Group<'_> {
    fn lay_out(&self, problems: &mut Vec<Problem>) -> Option<Flat> {
        let gaps = self.gaps(problems)?;
        let mut slots = Vec::with_capacity(self.laid.params.len());
        for (index, param) in self.laid.params.iter().enumerate() {
            let gap = gaps.map_or(0, |gaps| gaps[index]);
            slots.push(param.numel().map(|numel| Slot { numel, gap }));
        }
        let slots: Option<Vec<_>> = slots.into_iter().collect();
        let flat = slots.and_then(|slots| Flat::new(&slots, self.row.len() as u64));
        if flat.is_none() {
            let message = format!("the shapes of group {} have too many elements", self.laid.index);
            problems.push(Problem::new(&self.laid.model.path, message));
        }
        flat
    }

    /// Elements behind each parameter, if they are recorded; all shards have to agree.
    fn gaps(&self, problems: &mut Vec<Problem>) -> Option<Option<&[u64]>> {
        let mut usual: Option<&[u64]> = None;
        for shard in self.row.iter().flatten() {
            let Some(gaps) = shard.content.gaps.as_ref().and_then(|all| all.get(self.laid.index))
            else {
                continue;
            };
            let wrong = if gaps.len() != self.laid.params.len() {
                format!("has {} entries for {} parameters", gaps.len(), self.laid.params.len())
            } else if usual.is_some_and(|usual| usual != gaps) {
                "is not the same as in the other data ranks".to_owned()
            } else {
                usual = Some(gaps);
                continue;
            };
            let message =
                format!("`param_alignment_paddings` of group {} {wrong}", self.laid.index);
            problems.push(Problem::new(&shard.path, message));
            return None;
        }
        Some(usual)
    }

    /// Finds shards that lie under another rank's name: what they say of their own part is then not
    /// what their rank holds, but what another one does.
    fn whose(&self, flat: &Flat, swapped: &mut HashSet<FileId>, problems: &mut Vec<Problem>) {
        // Experts are numbered anew on each rank, so that several ranks say the same.
        if self.laid.experts {
            return;
        }
        // The record is of another order under round robin.
        if self.laid.model.content.zero.get(ROUND_ROBIN) == Some(&true.into()) {
            return;
        }
        let first = |rank: usize| {
            let (slot, start, len) = flat.first(rank as u64)?;
            Some((self.laid.params[slot].name.as_str(), start, len))
        };
        for (rank, shard) in self.row.iter().enumerate() {
            let Some(shard) = shard else { continue };
            let said = shard.content.firsts.get(self.laid.index).and_then(Option::as_ref);
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

    /// Stores all states; what this rank has of a stack goes to the rows of the whole one.
    fn states(
        &self,
        flat: &Flat,
        states: &IndexSet<String>,
        found: &mut [Vec<Stored>],
        inventory: &mut Inventory,
        problems: &mut Vec<Problem>,
    ) {
        let laid = self.laid;
        let params = laid.params.iter().map(|param| (param.name.clone(), param.shape.clone()));
        let shapes: Shapes = params.collect();
        let momentum = Momentum::of(flat, laid.index, &self.row, &laid.model.content);
        let other: Option<(_, Option<&dyn Layout>)> = match &momentum {
            Momentum::Cut => None,
            Momentum::Whole(matrices) => Some((MOMENTUM, Some(matrices))),
            Momentum::Lost(problem) => {
                inventory.unread.push(problem.clone());
                Some((MOMENTUM, None))
            }
        };
        let buffer = FlatBuffer {
            layout: flat,
            other,
            index: laid.index,
            word: "group",
            shapes: &shapes,
            row: &self.row,
            ranks: &laid.ranks,
            among: if laid.experts { "among the ranks of its experts, rank" } else { "data rank" },
            at: &laid.at,
            model: laid.model,
        };
        let mut own: Vec<Vec<Stored>> = vec![Vec::new(); states.len()];
        buffer.states(states, &mut own, inventory, problems);
        gathered(&laid.params, own, found);
    }
}

/// Puts the states of a buffer to the others; what a rank has of a stack goes to the rows of the whole one.
pub(super) fn gathered(params: &[Param], own: Vec<Vec<Stored>>, found: &mut [Vec<Stored>]) {
    let params: HashMap<&str, &Param> =
        params.iter().map(|param| (param.name.as_str(), param)).collect();
    for (found, own) in found.iter_mut().zip(own) {
        for mut stored in own {
            let param = params.get(stored.name.as_str());
            let rows = param.and_then(|param| Some((param.rows.as_ref()?, param.numel()?)));
            let (Some((rows, numel)), Data::Runs(runs)) = (rows, &mut stored.data) else {
                found.push(stored);
                continue;
            };
            let size = stored.dtype.size_bytes();
            let runs = of_rows(std::mem::take(runs), rows, numel, size);
            let same = |held: &&mut Stored| held.name == stored.name && held.at == stored.at;
            match found.iter_mut().find(same).map(|held| &mut held.data) {
                Some(Data::Runs(held)) => {
                    held.extend(runs);
                    held.sort_by_key(|run| run.start);
                }
                _ => found.push(Stored { data: Data::Runs(runs), ..stored }),
            }
        }
    }
}

/// The runs of a stack over all ranks, from those of the rows that one rank has.
fn of_rows(runs: Vec<Run>, rows: &[u64], numel: u64, size: u64) -> Vec<Run> {
    let row = numel / (rows.len() as u64).max(1);
    let mut whole = Vec::new();
    for run in runs {
        let mut done = 0;
        while done < run.len && row > 0 {
            let (at, within) = ((run.start + done) / row, (run.start + done) % row);
            let len = (row - within).min(run.len - done);
            let Some(number) = rows.get(at as usize) else { break };
            whole.push(Run {
                start: number * row + within,
                len,
                offset: run.offset + done * size,
                ..run
            });
            done += len;
        }
    }
    whole
}
