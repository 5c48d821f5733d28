//! Sets the tensors of adapters apart from the model's own.

use super::names::{Half, Named, bare, is_half, named};
use super::{Adapters, Convention, Pair, config};
use crate::inventory::{Inventory, Problem, Survey};
use crate::listed::listed;
use crate::rename::rename;
use indexmap::{IndexMap, IndexSet};
use std::path::Path;

/// Finds the low-rank pairs of a checkpoint, and gives what PEFT wraps its own names back.
///
/// `beside` is the `adapter_config.json` that goes with it. A universal folder says itself what it
/// holds, and an adapter without a model keeps its names.
pub(crate) fn set_apart(beside: Option<&Path>, survey: &mut Survey) {
    let inventory = &mut survey.inventory;
    if let Some(manifest) = &inventory.universal {
        inventory.adapters = manifest.adapters.clone();
        return;
    }
    let names: IndexSet<&str> =
        inventory.tensors.iter().map(|stored| stored.name.as_str()).collect();
    let is_own = |name: &&&str| matches!(named(bare(name)), Named::Own(_));
    if !names.iter().any(|name| is_half(name)) || names.iter().find(is_own).is_none() {
        return;
    }
    let new: IndexMap<String, String> =
        names.iter().map(|name| ((*name).to_owned(), unwrapped(name))).collect();
    let mut adapters = pairs_of(new.values().map(String::as_str));
    let mut distinct = IndexSet::new();
    let twice: Vec<&String> = new.values().filter(|name| !distinct.insert(*name)).collect();
    if let Some(name) = twice.first() {
        let message = format!("two tensors are called `{name}` once PEFT's wrappers are taken off");
        survey.problems.push(Problem::new(&inventory.root, message));
        return;
    }
    unwrap(inventory, &new);
    if let Some(path) = beside {
        match config::read(path) {
            Ok(config) => {
                let found = config::apply(&config, &mut adapters.pairs, true);
                adapters.obstacles.extend(found);
            }
            Err(problem) => survey.problems.push(problem),
        }
    }
    survey.inventory.adapters = adapters;
}

/// A name without PEFT's wrappers.
fn unwrapped(name: &str) -> String {
    match named(bare(name)) {
        Named::Own(own) => own,
        Named::Half(_) | Named::Other => bare(name).to_owned(),
    }
}

/// Sorts the names of adapters' tensors into pairs; says what is left.
pub(super) fn pairs_of<'n>(names: impl Iterator<Item = &'n str>) -> Adapters {
    let mut found: IndexMap<(String, String), Vec<(Half, &str)>> = IndexMap::new();
    let mut adapters = Adapters::default();
    let mut others = Vec::new();
    for name in names {
        match named(name) {
            Named::Own(_) => continue,
            Named::Half(half) => {
                let key = (half.module.clone(), half.adapter.clone());
                found.entry(key).or_default().push((half, name));
            }
            Named::Other => others.push(name.to_owned()),
        }
        adapters.tensors.push(name.to_owned());
    }
    let several: IndexSet<&String> = found.keys().map(|(_, adapter)| adapter).collect();
    if several.len() > 1 {
        let several: Vec<String> = several.into_iter().map(|name| format!("`{name}`")).collect();
        adapters.obstacles.push(format!(
            "there are {} adapters: {}",
            several.len(),
            listed(&several, ", ")
        ));
    }
    for ((module, _), halves) in found {
        match pair(&module, &halves) {
            Ok(pair) => adapters.pairs.push(pair),
            Err(why) => adapters.obstacles.push(why),
        }
    }
    if !others.is_empty() {
        adapters.obstacles.push(format!(
            "some tensors of the adapter are no halves of pairs: {}",
            listed(&others, ", ")
        ));
    }
    adapters
}

/// The pair of a module.
fn pair(module: &str, halves: &[(Half, &str)]) -> Result<Pair, String> {
    let find = |down: bool| halves.iter().filter(move |(half, _)| half.down == down);
    let one = |down: bool| match find(down).collect::<Vec<_>>().as_slice() {
        [one] => Some(*one),
        _ => None,
    };
    let (Some((down, first)), Some((up, second))) = (one(true), one(false)) else {
        let there: Vec<String> = halves.iter().map(|(_, name)| format!("`{name}`")).collect();
        return Err(format!(
            "{} {} no pair",
            listed(&there, ", "),
            if there.len() == 1 { "alone is" } else { "are" }
        ));
    };
    if (down.convention, down.embedding) != (up.convention, up.embedding) {
        return Err(format!("`{first}` and `{second}` are halves of different kinds"));
    }
    Ok(Pair {
        weight: format!("{module}.weight"),
        down: (*first).to_owned(),
        up: (*second).to_owned(),
        convention: down.convention,
        alpha: None,
        root: false,
        rank: None,
        // DeepSpeed-Chat wraps `nn.Linear` alone; an embedding's input is its rows.
        transposed: match (down.convention, down.embedding) {
            (_, true) => Some(true),
            (Convention::DeepspeedChat, false) => Some(false),
            (Convention::Peft, false) => None,
        },
    })
}

/// Takes PEFT's wrappers off.
fn unwrap(inventory: &mut Inventory, new: &IndexMap<String, String>) {
    if new.iter().all(|(old, new)| old == new) {
        return;
    }
    rename(inventory, &|name| new.get(name).cloned().unwrap_or_else(|| unwrapped(name)));
    inventory.notes.push(
        "PEFT's wrappers (`base_model.model.`, `base_layer`) were taken off the names.".to_owned(),
    );
}
