//! Masters and moments, under the names of the parameters that they belong to.

mod flat;
mod groups;

use super::mesh::{Held, Step};
use super::names::Files;
use super::optimizer::{PartGroup, Slot};
use super::order::{Members, Param, assign};
use super::weights::aliases;
use crate::inventory::{Buffer, Data, FileId, Inventory, Problem, Role, Stored};
use crate::named::Weight;
use crate::ranks::count;
use crate::torch::TensorExtent;
use groups::Known;
use std::collections::HashSet;
use ucl_tensor::DType;

/// What to do where states can't be read.
pub(super) const WAYS: &str = "`--states weights` converts the weights alone. A run that saves with \
     `--ckpt-format torch_dist` (and `--dist-ckpt-optim-fully-reshardable` for the distributed \
     optimizer) records whose each state is.";

/// Puts the states of all ranks into the inventory, all or none.
pub(super) fn collect(
    step: &Step<'_>,
    files: &Files,
    inventory: &mut Inventory,
    problems: &mut Vec<Problem>,
) {
    let mut unread = elsewhere(files);
    let mut found = Found::default();
    let distributed = flat::open(files, inventory, &mut unread);
    if unread.is_empty() {
        for held in step.ranks.iter().filter(|held| !held.file.content.optimizer.is_empty()) {
            let parts = &held.file.content.optimizer;
            let apart = parts.iter().any(|part| !part.states && !part.groups.is_empty());
            let result = match distributed.get(&held.numbers) {
                Some(opened) if apart => found.flat(step, held, opened),
                None if apart => {
                    Err("its optimizer keeps the states in a distrib_optim.pt, which \
                                      is not here"
                        .to_owned())
                }
                _ => found.rank(step, held),
            };
            if let Err(message) = result {
                unread.push(Problem::new(&held.file.path, message).help(WAYS));
            }
        }
    }
    let with = step.contents().filter(|rank| !rank.optimizer.is_empty()).count();
    if unread.is_empty() && with > 0 && with < step.ranks.len() {
        let without = step.ranks.iter().filter(|held| held.file.content.optimizer.is_empty());
        unread.extend(without.map(|held| {
            let message = format!("it has no optimizer, {} have one", count(with as u64, "file"));
            Problem::new(&held.file.path, message).help(WAYS)
        }));
    }
    inventory.optimizer = groups::optimizer(&found.known, problems);
    if !unread.is_empty() {
        inventory.unread = unread;
        return;
    }
    if with > 0 {
        for stored in &mut inventory.tensors {
            if let Data::Strided { file, offset, .. } = stored.data
                && !found.trained.contains(&(file, offset))
            {
                stored.role = Role::Frozen;
            }
        }
    }
    inventory.tensors.append(&mut found.tensors);
    inventory.buffers.append(&mut found.buffers);
}

/// States that are not in the ranks' own files.
fn elsewhere(files: &Files) -> Vec<Problem> {
    let mut unread = Vec::new();
    let mut add = |path: &std::path::Path, message: &str| {
        unread.push(Problem::new(path, message).help(WAYS));
    };
    if let Some(path) = files.early.first() {
        add(
            path,
            "this version can't read the states of early 2023's distributed optimizer: each data \
             rank's part is without names and without a place",
        );
    }
    if let Some(path) = files.layer_wise.first() {
        add(path, "this version can't read the states of the layer-wise optimizer");
    }
    unread
}

/// What the ranks' files give.
#[derive(Default)]
struct Found<'a> {
    tensors: Vec<Stored>,
    /// Weights that have states.
    trained: HashSet<(FileId, u64)>,
    known: Vec<Known<'a>>,
    /// Flat buffers of the distributed optimizer.
    buffers: Vec<Buffer>,
}

impl<'a> Found<'a> {
    /// Adds one rank's states.
    fn rank(&mut self, step: &Step<'_>, held: &'a Held) -> Result<(), String> {
        let content = &held.file.content;
        let weights = own(&content.chunks);
        let params: Vec<Param<'_>> = weights
            .iter()
            .map(|(_, weight)| Param { name: &weight.name, shape: &weight.extent.shape })
            .collect();
        let groups = || content.optimizer.iter().flat_map(|part| &part.groups);
        let members: Vec<Members<'_>> = groups()
            .map(|group| Ok(Members { hyper: &group.hyper, shapes: shapes(group)? }))
            .collect::<Result<_, String>>()?;
        let assigned = assign(&params, &members)?;
        for (group, assigned) in groups().zip(&assigned) {
            let of_group: Vec<(u64, &'a Weight)> =
                assigned.iter().map(|index| weights[*index]).collect();
            self.group(step, held, group, &of_group)?;
        }
        Ok(())
    }

    fn group(
        &mut self,
        step: &Step<'_>,
        held: &'a Held,
        group: &'a PartGroup,
        weights: &[(u64, &'a Weight)],
    ) -> Result<(), String> {
        let store = |chunk: u64, weight: &Weight, state: &str, extent: &TensorExtent| Stored {
            name: weight.name.clone(),
            state: state.to_owned(),
            dtype: extent.dtype,
            shape: extent.shape.clone(),
            at: step.degrees.at(held.rank, chunk),
            role: Role::Trained,
            data: Data::Strided {
                file: held.file.file,
                offset: extent.file_offset,
                strides: extent.strides.clone(),
            },
        };
        let halves = weights.iter().filter(|(_, weight)| weight.extent.dtype != DType::F32);
        let halves: Vec<_> = halves.collect();
        if !group.masters.is_empty() && halves.len() != group.masters.len() {
            return Err(format!(
                "a group has {} masters for {} parameters that are not fp32",
                group.masters.len(),
                halves.len()
            ));
        }
        for ((chunk, weight), master) in halves.into_iter().zip(&group.masters) {
            if weight.extent.shape != master.shape {
                return Err(format!(
                    "the master of `{}` has the shape {:?}, the weight {:?}",
                    weight.name, master.shape, weight.extent.shape
                ));
            }
            self.tensors.push(store(*chunk, weight, "fp32", master));
        }
        for ((chunk, weight), slot) in weights.iter().zip(&group.slots) {
            for (state, extent) in &slot.states {
                self.tensors.push(store(*chunk, weight, state, extent));
            }
        }
        let places = weights.iter().map(|(_, weight)| (held.file.file, weight.extent.file_offset));
        self.trained.extend(places);
        let names = weights.iter().map(|(_, weight)| weight.name.as_str()).collect();
        self.known.push(Known { path: &held.file.path, group, names });
        Ok(())
    }
}

/// The weights of all chunks that have a storage of their own, in the order of the module.
fn own(chunks: &[Vec<Weight>]) -> Vec<(u64, &Weight)> {
    let aliases = aliases(chunks);
    chunks
        .iter()
        .enumerate()
        .flat_map(|(chunk, weights)| weights.iter().map(move |weight| (chunk, weight)))
        .filter(|(chunk, weight)| !aliases.contains_key(&(*chunk, weight.name.as_str())))
        .map(|(chunk, weight)| (chunk as u64, weight))
        .collect()
}

/// The shapes of a group's parameters, by their states or masters.
fn shapes(group: &PartGroup) -> Result<Vec<&[u64]>, String> {
    let all_masters = group.masters.len() == group.slots.len();
    let mut shapes = Vec::with_capacity(group.slots.len());
    for (index, slot) in group.slots.iter().enumerate() {
        let master = group.masters.get(index).filter(|_| all_masters);
        let mut known = slot.states.values().chain(master).map(|extent| extent.shape.as_slice());
        let Some(first) = known.next() else {
            return Err(nameless(index, slot));
        };
        if let Some(other) = known.find(|other| *other != first) {
            return Err(format!(
                "the states of the optimizer's parameter {index} have the shapes {first:?} and \
                 {other:?}: one of them is no value per element"
            ));
        }
        shapes.push(first);
    }
    Ok(shapes)
}

fn nameless(index: usize, slot: &Slot) -> String {
    let held = match slot.scalars.len() {
        0 => "no state".to_owned(),
        _ => format!("only {}", slot.scalars.keys().cloned().collect::<Vec<_>>().join(", ")),
    };
    format!("the optimizer's parameter {index} has {held} and no master: nothing tells which it is")
}
