//! Masters and optimizer states: the parts of all data ranks put together, per parameter.

use super::agree::{MIXED, name_of};
use super::flat::{Flat, Part, Slot};
use super::laid::{Laid, Param};
use super::open::Opened;
use super::shard::Shard;
use crate::inventory::{Buffer, Data, FileId, Inventory, Problem, Role, Run, Stored};
use crate::torch::TensorExtent;
use indexmap::IndexSet;
use std::collections::{HashMap, HashSet};
use ucl_tensor::DType;

/// The shards that have a part of a group, in order; nothing where one is missing or can't be read.
type Row<'a> = Vec<Option<&'a Opened<Shard>>>;

/// Puts the states of all shards into the inventory.
pub(super) fn collect(
    laid: &[Laid<'_>],
    shards: &[((u64, u64), Opened<Shard>)],
    inventory: &mut Inventory,
    problems: &mut Vec<Problem>,
) {
    let mut states: IndexSet<String> = IndexSet::from(["fp32".to_owned()]);
    let parts = shards.iter().flat_map(|(_, shard)| &shard.content.groups);
    states.extend(parts.flat_map(|part| part.flat.keys().cloned()));
    let mut expected: HashMap<u64, usize> = HashMap::new();
    for group in laid {
        expected.insert(group.mp, group.model.content.shapes.as_ref().map_or(0, Vec::len));
    }
    let mut by_rank: HashMap<(u64, u64), &Opened<Shard>> = HashMap::new();
    for ((mp, dp), shard) in shards {
        let fits = expected.get(mp).is_none_or(|count| of_groups(shard, *count, problems));
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
        let before = problems.len();
        for (state, found) in states.iter().zip(&mut found) {
            group.state(state, &flat, found, inventory, problems);
            // What is wrong with one state is wrong with all.
            if problems.len() > before {
                break;
            }
        }
    }
    inventory.tensors.extend(found.into_iter().flatten());
}

/// Whether a shard has as many groups as the shapes.
fn of_groups(shard: &Opened<Shard>, expected: usize, problems: &mut Vec<Problem>) -> bool {
    let found = shard.content.groups.len();
    if found != expected {
        let message = format!("parameter groups: {found} here, {expected} in `param_shapes`");
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
        if self.laid.model.content.zero.get("round_robin_gradients") == Some(&true.into()) {
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

    /// One state of the group: its parameters, and the buffers that they lie in.
    fn state(
        &self,
        state: &str,
        flat: &Flat,
        found: &mut Vec<Stored>,
        inventory: &mut Inventory,
        problems: &mut Vec<Problem>,
    ) {
        let extents: Vec<_> = self
            .row
            .iter()
            .map(|shard| Some((*shard)?.content.groups.get(self.laid.index)?.flat.get(state)))
            .collect();
        let Some(dtype) = extents.iter().flatten().flatten().map(|extent| extent.dtype).next()
        else {
            // Muon keeps no second moment, SGD nothing before its first step: none of the ranks has it.
            return;
        };
        let mut parts = Vec::with_capacity(extents.len());
        for (rank, (shard, extent)) in self.row.iter().zip(&extents).enumerate() {
            let file = shard.map_or(0, |shard| shard.file);
            let mut part = Part { file, offset: 0, len: 0, size: dtype.size_bytes() };
            if let (Some(shard), Some(extent)) = (shard, extent) {
                match self.checked(state, flat, rank as u64, *extent, dtype) {
                    Ok(Some(extent)) => {
                        part = Part { offset: extent.file_offset, len: extent.numel, ..part };
                        inventory.buffers.push(Buffer {
                            label: self.label(state, rank),
                            file: shard.file,
                            offset: part.offset,
                            len: part.len,
                            dtype,
                            padding: flat.padding(rank as u64, part.len),
                        });
                    }
                    Ok(None) => {}
                    Err(message) => problems.push(Problem::new(&shard.path, message).help(MIXED)),
                }
            }
            parts.push(part);
        }
        for (param, runs) in self.laid.params.iter().zip(flat.runs(&parts)) {
            let Some(rows) = &param.rows else {
                found.push(self.stored(param, state, dtype, runs));
                continue;
            };
            let runs = of_rows(runs, rows, param.numel().unwrap_or(0), dtype.size_bytes());
            let whole =
                found.iter_mut().find(|held| held.name == param.name && held.at == self.laid.at);
            match whole.map(|held| &mut held.data) {
                Some(Data::Runs(held)) => {
                    held.extend(runs);
                    held.sort_by_key(|run| run.start);
                }
                _ => found.push(self.stored(param, state, dtype, runs)),
            }
        }
    }

    fn stored(&self, param: &Param, state: &str, dtype: DType, runs: Vec<Run>) -> Stored {
        Stored {
            name: param.name.clone(),
            state: state.to_owned(),
            dtype,
            shape: param.shape.clone(),
            at: self.laid.at.clone(),
            role: Role::Trained,
            data: Data::Runs(runs),
        }
    }

    /// A rank's part, if it is there and has the length that its place asks for.
    fn checked<'e>(
        &self,
        state: &str,
        flat: &Flat,
        rank: u64,
        extent: Option<&'e TensorExtent>,
        dtype: DType,
    ) -> Result<Option<&'e TensorExtent>, String> {
        let group = self.laid.index;
        let (full, stripped) = (flat.width, flat.stripped(rank));
        let Some(extent) = extent else {
            if stripped == 0 {
                return Ok(None);
            }
            return Err(format!("it has no `{state}` of group {group}, other data ranks have"));
        };
        if extent.dtype != dtype {
            return Err(format!(
                "`{state}` of group {group} is {}, in other data ranks {dtype}",
                extent.dtype
            ));
        }
        // All of the group's padding is taken off the last rank. If that is more than its part, the
        // negative length counts from the end (`group[:lean_length]`) and some padding stays.
        let only_padding = stripped == 0 && extent.numel <= full;
        if extent.numel == full || extent.numel == stripped || only_padding {
            return Ok(Some(extent));
        }
        let without = if stripped == full {
            String::new()
        } else {
            format!(", or {stripped} without its padding")
        };
        Err(format!(
            "`{state}` of group {group} has {} elements, expected {full}{without}: {} {rank} \
             of {} holds its part of {} elements, by the shapes in {}",
            extent.numel,
            if self.laid.experts { "among the ranks of its experts, rank" } else { "data rank" },
            self.row.len(),
            flat.total,
            name_of(&self.laid.model.path)
        ))
    }

    fn label(&self, state: &str, part: usize) -> String {
        let (mp, dp) = self.laid.ranks.get(part).copied().unwrap_or_default();
        let mut label = format!("group {} of {state}, dp rank {dp}", self.laid.index);
        for (axis, index) in &self.laid.at {
            label += &format!(", {axis} rank {index}");
        }
        if mp != self.laid.mp {
            label += &format!(", mp rank {mp}");
        }
        label
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
