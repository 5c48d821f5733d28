//! ZeRO-3, where each parameter is cut over the data ranks by itself.
//!
//! `runtime/zero/stage3.py` packs the parameters of a group into sub-groups. A rank's part of a
//! sub-group is its pieces of the parameters, one behind the other. The model files of all ranks have
//! the same shapes, each its own pieces of what is frozen, and no weights: an empty tensor stands for
//! each, which says its type.

mod cut;
mod experts;
mod frozen;
mod same;
#[cfg(test)]
mod tests;
mod weights;

use super::Rank;
use super::mesh::{Degrees, Step};
use super::model::{ModelFile, Shapes};
use super::most_are_missing;
use super::states::{self, FlatBuffer, Row};
use crate::inventory::{Inventory, Mesh, Problem, Stored};
use crate::ranks::Opened;
use cut::Cut;
use experts::{Models, Share};
use indexmap::IndexSet;
use std::path::Path;

/// Puts all tensors into the inventory.
pub(super) fn collect(
    step: &Step<'_>,
    degrees: Degrees,
    inventory: &mut Inventory,
    problems: &mut Vec<Problem>,
) {
    same::shapes(step, problems);
    weights::collect(step, degrees, inventory, problems);
    masters(step, degrees, inventory, problems);
    if let Some(size) = step.models.iter().find_map(|(_, model)| model.content.shard_size()) {
        inventory.notes.push(format!(
            "MiCS: weights are cut over groups of {size} data ranks, and the files are of the first \
             group; the others held the same."
        ));
    }
}

/// What is in a sub-group, over all `mp` ranks; data ranks have the same.
pub(super) fn params(step: &Step<'_>, buffer: usize) -> IndexSet<String> {
    let shapes = first(step).filter_map(|(_, model)| model.content.shapes.as_ref()?.get(buffer));
    shapes.flatten().map(|(name, _)| name.clone()).collect()
}

/// What this version can't read of ZeRO-3.
pub(super) fn unsupported(root: &Path, step: &Step<'_>) -> Option<Problem> {
    // Who shares a sub-group is told by the numbers of all ranks, tensor ranks among them.
    let shared = step.shards.iter().find(|(_, shard)| !shard.content.shared.is_empty());
    if let Some((_, shard)) = shared.filter(|_| step.shards.iter().any(|((mp, _), _)| *mp > 0)) {
        let message = "this version can't read ZeRO-3 with AutoEP on tensor-parallel ranks";
        let help = "Save the run with ZeRO stage 2 or lower, where each expert has a file.";
        return Some(Problem::new(&shard.path, message).help(help));
    }
    let masters = |shard: &Opened<_>| masters_of(shard).map(|count| count == 0);
    let empty = step.shards.iter().filter(|(_, shard)| masters(shard) == Some(true)).count();
    if empty == 0 {
        return None;
    }
    let message = format!(
        "`fp32_flat_groups` is empty in {empty} of {} shards: the masters were swapped to NVMe and are \
         not in these files",
        step.shards.len()
    );
    let help = "Load the step once with `offload_optimizer` on the CPU or off, and save it again.";
    Some(Problem::new(root, message).help(help))
}

/// The elements of all masters of a shard that has parameters.
fn masters_of(shard: &Opened<super::shard::Shard>) -> Option<u64> {
    let masters = shard.content.groups.iter().filter_map(|part| part.flat.get("fp32"));
    let mut counts = masters.map(|extent| extent.numel);
    let first = counts.next()?;
    Some(counts.fold(first, u64::saturating_add))
}

/// The model files of the first data rank.
fn first<'a>(
    step: &Step<'a>,
) -> impl Iterator<Item = (u64, &'a Opened<ModelFile>)> + Clone + use<'a> {
    let models: &'a [(Rank, Opened<ModelFile>)] = step.models;
    models.iter().filter(|((_, dp), _)| *dp == 0).map(|((mp, _), model)| (*mp, model))
}

/// Masters and the optimizer's states.
fn masters(
    step: &Step<'_>,
    degrees: Degrees,
    inventory: &mut Inventory,
    problems: &mut Vec<Problem>,
) {
    let states = states::names(step.shards);
    let mut found: Vec<Vec<Stored>> = vec![Vec::new(); states.len()];
    let mut spread = 0;
    for (mp, model) in first(step) {
        let Some(shapes) = &model.content.shapes else { continue };
        let count = (shapes.len(), "sub-group");
        let Some(row) = states::row(step.shards, mp, degrees.dp, count, problems) else { continue };
        if most_are_missing(row.iter().flatten().count(), degrees) {
            continue;
        }
        let at = degrees.at(mp);
        let ranks: Vec<Rank> = (0..degrees.dp).map(|dp| (mp, dp)).collect();
        let files = step.models.iter().filter(|((of, _), _)| *of == mp);
        let files: Models<'_> = files.map(|((_, dp), model)| (*dp, model)).collect();
        for (index, shapes) in shapes.iter().enumerate() {
            if let Some(shares) = experts::shares(index, &row, &files, problems) {
                let of = Of { index, mp, model, row: &row, at: &at, states: &states };
                for share in &shares {
                    of.store(share, &mut found, inventory, problems);
                }
                spread = spread.max(shares.len());
                continue;
            }
            let Some(layout) = Cut::new(shapes.iter().map(|(_, shape)| shape), degrees.dp) else {
                let message = format!("the shapes of sub-group {index} have too many elements");
                problems.push(Problem::new(&model.path, message));
                continue;
            };
            let buffer = FlatBuffer {
                layout: &layout,
                other: None,
                index,
                word: "sub-group",
                shapes,
                row: &row,
                ranks: &ranks,
                among: "data rank",
                at: &at,
                model,
            };
            buffer.states(&states, &mut found, inventory, problems);
        }
    }
    if spread > 1 {
        inventory.notes.push(format!(
            "Experts are spread over {spread} ranks, each of which stacks its own; here a stack is that of all \
             ranks."
        ));
    }
    inventory.tensors.extend(found.into_iter().flatten());
}

/// A sub-group that not all ranks share.
struct Of<'a> {
    index: usize,
    mp: u64,
    model: &'a Opened<ModelFile>,
    row: &'a Row<'a>,
    at: &'a Mesh,
    states: &'a IndexSet<String>,
}

impl Of<'_> {
    /// Stores what some ranks have of it.
    fn store(
        &self,
        share: &Share,
        found: &mut [Vec<Stored>],
        inventory: &mut Inventory,
        problems: &mut Vec<Problem>,
    ) {
        let Some(layout) = Cut::new(share.shapes.iter(), share.ranks.len() as u64) else {
            let message = format!("the shapes of sub-group {} have too many elements", self.index);
            problems.push(Problem::new(&self.model.path, message));
            return;
        };
        let params = share.params.iter().map(|param| (param.name.clone(), param.shape.clone()));
        let shapes: Shapes = params.collect();
        let shard = |rank: &u64| self.row.get(*rank as usize).copied().flatten();
        let row: Row<'_> = share.ranks.iter().map(shard).collect();
        let ranks: Vec<Rank> = share.ranks.iter().map(|dp| (self.mp, *dp)).collect();
        let buffer = FlatBuffer {
            layout: &layout,
            other: None,
            index: self.index,
            word: "sub-group",
            shapes: &shapes,
            row: &row,
            ranks: &ranks,
            among: "among the ranks of its experts, rank",
            at: self.at,
            model: self.model,
        };
        let mut own: Vec<Vec<Stored>> = vec![Vec::new(); self.states.len()];
        buffer.states(self.states, &mut own, inventory, problems);
        states::gathered(&share.params, own, found);
    }
}
