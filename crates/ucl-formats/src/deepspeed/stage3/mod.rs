//! ZeRO-3, where each parameter is cut over the data ranks by itself.
//!
//! `runtime/zero/stage3.py` packs the parameters of a group into sub-groups. A rank's part of a
//! sub-group is its pieces of the parameters, one behind the other. The model files of all ranks have
//! the same shapes, each its own pieces of what is frozen, and no weights: an empty tensor stands for
//! each, which says its type.

mod cut;
mod frozen;
mod same;
#[cfg(test)]
mod tests;
mod weights;

use super::Rank;
use super::mesh::{Degrees, Step};
use super::model::ModelFile;
use super::most_are_missing;
use super::states::{self, FlatBuffer};
use crate::inventory::{Inventory, Problem, Stored};
use crate::ranks::Opened;
use cut::Cut;
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
    let uneven = step.shards.iter().find(|(_, shard)| shard.content.uneven);
    if let Some((_, shard)) = uneven {
        let message = "this version can't read ZeRO-3 with AutoEP, where experts are cut over fewer \
                       ranks than the rest";
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
    for (mp, model) in first(step) {
        let Some(shapes) = &model.content.shapes else { continue };
        let count = (shapes.len(), "sub-group");
        let Some(row) = states::row(step.shards, mp, degrees.dp, count, problems) else { continue };
        if most_are_missing(row.iter().flatten().count(), degrees) {
            continue;
        }
        let at = degrees.at(mp);
        let ranks: Vec<Rank> = (0..degrees.dp).map(|dp| (mp, dp)).collect();
        for (index, shapes) in shapes.iter().enumerate() {
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
    inventory.tensors.extend(found.into_iter().flatten());
}
