//! What the model files hold besides shapes: buffers, frozen pieces, and the types of what is cut.

use super::super::mesh::{Degrees, Step};
use super::super::model::ModelFile;
use super::super::weights::{Held, Known, Places, without_weights};
use super::{first, frozen};
use crate::inventory::{Inventory, Problem};
use crate::named::Weight;
use crate::ranks::{Opened, count};
use indexmap::IndexSet;
use std::collections::{HashMap, HashSet};
use ucl_tensor::DType;

/// Puts the model's own tensors into the inventory.
pub(super) fn collect(
    step: &Step<'_>,
    degrees: Degrees,
    inventory: &mut Inventory,
    problems: &mut Vec<Problem>,
) {
    let models = first(step).map(|(_, model)| &model.content);
    let shapes = models.clone().filter_map(|model| model.shapes.as_ref()).flatten().flatten();
    let known = Known::new(models, shapes.map(|(name, shape)| (name.as_str(), shape.as_slice())));
    let mut stored = Places::new();
    for (mp, model) in first(step) {
        let held = Held { file: model.file, at: degrees.at(mp) };
        let (whole, empty): (Vec<&Weight>, Vec<&Weight>) =
            model.content.weights.iter().partition(|weight| is_whole(&known, weight));
        known.store(whole.iter().copied().cloned().collect(), &held, &mut stored, inventory);
        let have = whole.iter().map(|weight| weight.name.as_str()).collect();
        frozen::collect(step.models, (mp, model), degrees, &have, inventory, problems);
        stand_ins(&known, model, &empty, inventory, problems);
    }
    let own: IndexSet<DType> = inventory.own_types.values().copied().collect();
    if !own.is_empty() {
        let own: Vec<&str> = own.iter().map(|dtype| dtype.name()).collect();
        inventory.notes.push(format!(
            "ZeRO-3 saves no trained weights beside the masters; the model's own are {}.",
            own.join(", ")
        ));
    }
    differing(step, &known, inventory);
}

/// Whether a tensor of the module is there, and not only its stand-in.
fn is_whole(known: &Known<'_>, weight: &Weight) -> bool {
    weight.extent.numel > 0 || known.buffers.contains(weight.name.as_str())
}

/// What the empty tensors of a module say: the types of its weights, and which names are second ones.
fn stand_ins(
    known: &Known<'_>,
    model: &Opened<ModelFile>,
    empty: &[&Weight],
    inventory: &mut Inventory,
    problems: &mut Vec<Problem>,
) {
    let frozen: HashSet<&str> =
        model.content.frozen_shapes.iter().map(|(name, _)| name.as_str()).collect();
    let is_held = |name: &str| known.trained.contains_key(name) || frozen.contains(name);
    let mut lost = Vec::new();
    for weight in empty {
        let name = weight.name.as_str();
        let original = known.shared.get(name).filter(|original| is_held(original));
        if known.trained.contains_key(name) {
            inventory.own_types.insert(name.to_owned(), weight.extent.dtype);
        } else if let Some(original) = original {
            inventory.aliases.insert(name.to_owned(), (*original).to_owned());
        } else if !frozen.contains(name) {
            lost.push(name);
        }
    }
    if let Some(first) = lost.first() {
        inventory.notes.push(format!(
            "In no file, as they were frozen and left out when this was saved: {} of the module, such as `{first}`.",
            count(lost.len() as u64, "parameter")
        ));
    }
    let here: HashSet<&str> = model.content.weights.iter().map(|w| w.name.as_str()).collect();
    let shapes = model.content.shapes.iter().flatten().flatten();
    let absent = shapes.map(|(name, _)| name.as_str()).filter(|name| !here.contains(name));
    // Nothing stands for AutoEP's stacks.
    let (stacks, absent): (Vec<&str>, Vec<&str>) =
        absent.partition(|name| model.content.stacked(name).is_some());
    of_one_type(&stacks, inventory);
    problems.extend(without_weights(&model.path, &absent));
}

/// Stacks of experts are of the type that all other weights have, if they have one.
fn of_one_type(stacks: &[&str], inventory: &mut Inventory) {
    let Some(first) = stacks.first() else { return };
    let mut types = inventory.own_types.values().copied();
    let own = types.next().filter(|own| types.all(|other| other == *own));
    if let Some(own) = own {
        inventory.own_types.extend(stacks.iter().map(|name| ((*name).to_owned(), own)));
        return;
    }
    inventory.notes.push(format!(
        "No file says of which type the model's own experts were, such as `{first}`, and its other weights \
         are of several."
    ));
}

/// Every data rank saves its own buffers, and statistics of what a rank saw are its own: the files'
/// checksums tell.
fn differing(step: &Step<'_>, known: &Known<'_>, inventory: &mut Inventory) {
    let firsts: HashMap<u64, HashMap<&str, _>> =
        first(step).map(|(mp, model)| (mp, sums(known, &model.content))).collect();
    let mut differing: IndexSet<&str> = IndexSet::new();
    for ((mp, _), model) in step.models {
        let Some(ours) = firsts.get(mp) else { continue };
        let theirs = sums(known, &model.content);
        let differs = |name: &&&str| matches!((ours.get(**name), theirs.get(**name)), (Some(a), Some(b)) if a != b);
        differing.extend(ours.keys().filter(differs));
    }
    differing.sort_unstable();
    if let Some(first) = differing.first() {
        inventory.notes.push(format!(
            "Data ranks do not agree on {}, such as `{first}`: what the first rank has counts.",
            count(differing.len() as u64, "buffer")
        ));
    }
}

/// The checksums of what is whole, with the place in the storage that they are of.
fn sums<'m>(known: &Known<'_>, model: &'m ModelFile) -> HashMap<&'m str, (&'m [u64], u64, u32)> {
    let whole = model.weights.iter().filter(|weight| is_whole(known, weight));
    let sums = whole.filter_map(|weight| {
        let extent = &weight.extent;
        let sum = *model.checksums.get(&extent.storage_key)?;
        Some((weight.name.as_str(), (extent.shape.as_slice(), extent.storage_offset, sum)))
    });
    sums.collect()
}
