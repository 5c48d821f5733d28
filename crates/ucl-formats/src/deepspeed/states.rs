//! Masters and optimizer states: the parts of all data ranks put together, per parameter.

use super::flat::{Flat, Part, Slot};
use super::mesh::Degrees;
use super::model::{ModelFile, Shapes};
use super::shard::Shard;
use crate::inventory::{Buffer, Data, FileId, Inventory, Mesh, Problem, Role, Stored};
use crate::ranks::Opened;
use crate::ranks::{MIXED, name_of};
use crate::torch::TensorExtent;
use indexmap::IndexSet;
use std::collections::{HashMap, HashSet};

/// The shards of one `mp` rank by data rank; nothing where one is missing or can't be read.
type Row<'a> = Vec<Option<&'a Opened<Shard>>>;

/// Puts the states of all shards into the inventory.
pub(super) fn collect(
    models: &[(u64, Opened<ModelFile>)],
    shards: &[((u64, u64), Opened<Shard>)],
    degrees: Degrees,
    inventory: &mut Inventory,
    problems: &mut Vec<Problem>,
) {
    let mut states: IndexSet<String> = IndexSet::from(["fp32".to_owned()]);
    let parts = shards.iter().flat_map(|(_, shard)| &shard.content.groups);
    states.extend(parts.flat_map(|part| part.flat.keys().cloned()));
    let by_rank: HashMap<_, _> = shards.iter().map(|(key, shard)| (*key, shard)).collect();
    let mut found: Vec<Vec<Stored>> = vec![Vec::new(); states.len()];
    for (mp, model) in models {
        let Some(shapes) = &model.content.shapes else { continue };
        let mut row: Row<'_> = (0..degrees.dp).map(|dp| by_rank.get(&(*mp, dp)).copied()).collect();
        if row.iter().all(Option::is_none) {
            continue;
        }
        for shard in row.iter_mut() {
            *shard = shard.filter(|shard| of_groups(shard, shapes.len(), problems));
        }
        let mut swapped = HashSet::new();
        for (index, shapes) in shapes.iter().enumerate() {
            let group = Group { index, shapes, row: &row, at: degrees.at(*mp), model };
            let Some(flat) = group.lay_out(degrees.dp, problems) else { continue };
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
            let numel = shape.iter().try_fold(1u64, |numel, size| numel.checked_mul(*size));
            let gap = gaps.map_or(0, |gaps| gaps[index]);
            slots.push(numel.map(|numel| Slot { numel, gap }));
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
            .map(|shard| Some((*shard)?.content.groups.get(self.index)?.flat.get(state)))
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
        for ((name, shape), runs) in self.shapes.iter().zip(flat.runs(&parts)) {
            found.push(Stored {
                name: name.clone(),
                state: state.to_owned(),
                dtype,
                shape: shape.clone(),
                at: self.at.clone(),
                role: Role::Trained,
                data: Data::Runs(runs),
            });
        }
    }

    /// A rank's part, if it is there and has the length that its place asks for.
    fn checked<'e>(
        &self,
        state: &str,
        flat: &Flat,
        rank: u64,
        extent: Option<&'e TensorExtent>,
        dtype: ucl_tensor::DType,
    ) -> Result<Option<&'e TensorExtent>, String> {
        let group = self.index;
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
            "`{state}` of group {group} has {} elements, expected {full}{without}: data rank {rank} \
             of {} holds its part of {} elements, by the shapes in {}",
            extent.numel,
            self.row.len(),
            flat.total,
            name_of(&self.model.path)
        ))
    }

    fn label(&self, state: &str, rank: usize) -> String {
        let mut label = format!("group {} of {state}, dp rank {rank}", self.index);
        for (axis, index) in &self.at {
            label += &format!(", {axis} rank {index}");
        }
        label
    }
}
