//! Which of a pipeline's layers are modules that several of them share.
//!
//! The optimizer calls what is in such a module `tied_modules.<key>.<name>`, the files of its layers call it
//! `<name>`, and nothing says which layers these are (`runtime/pipe/module.py`, `_build` and `save_state_dict`).

use super::model::ModelFile;
use crate::inventory::{is_shared, module_of_pipeline};
use crate::ranks::Opened;
use indexmap::IndexMap;
use std::collections::{BTreeSet, HashMap};

/// A tensor's name in its module, and its shape on some rank.
type Part<'a> = (&'a str, &'a [u64]);

/// The shared modules that layers are, by the layer; `trained` are the optimizer's names and shapes.
///
/// A layer without parameters of its own that has all of a module's is that module. Where several modules are
/// alike, equal files are of one module, and modules come in the order in which layers first use them.
pub(super) fn layers<'a>(
    trained: impl Iterator<Item = (&'a str, &'a [u64])>,
    layers: &[((u64, u64), Opened<ModelFile>)],
) -> HashMap<u64, &'a str> {
    let mut modules: IndexMap<&str, BTreeSet<Part<'_>>> = IndexMap::new();
    let mut own: BTreeSet<u64> = BTreeSet::new();
    for (name, shape) in trained {
        let Some(module) = module_of_pipeline(name) else { continue };
        if is_shared(name) {
            let local = &name[module.len() + 1..];
            modules.entry(module).or_default().insert((local, shape));
        } else if let Ok(layer) = module.parse() {
            own.insert(layer);
        }
    }
    let mut found: HashMap<u64, &str> = HashMap::new();
    let mut unsure: Vec<(u64, &ModelFile, Vec<&str>)> = Vec::new();
    let mut last = None;
    for ((layer, _), file) in layers {
        // One tensor rank stands for all.
        if own.contains(layer) || last.replace(*layer) == Some(*layer) {
            continue;
        }
        let alike = modules.iter().filter(|(_, parts)| has_all(&file.content, parts));
        let alike: Vec<&str> = alike.map(|(module, _)| *module).collect();
        match alike.as_slice() {
            [] => {}
            [one] => _ = found.insert(*layer, one),
            _ => unsure.push((*layer, &file.content, alike)),
        }
    }
    let mut known: Vec<(&ModelFile, &str)> = Vec::new();
    for (layer, file, alike) in unsure {
        let same = known.iter().find(|(other, _)| other.checksums == file.checksums);
        let module = same.map(|(_, module)| *module).or_else(|| {
            let taken = |module: &&&str| {
                known.iter().any(|(_, known)| known == *module)
                    || found.values().any(|known| known == *module)
            };
            alike.iter().find(|module| !taken(module)).copied()
        });
        if let Some(module) = module {
            known.push((file, module));
            found.insert(layer, module);
        }
    }
    found
}

/// Whether a layer has everything that is trained of a module. Tensor ranks may have different shares of it.
fn has_all(file: &ModelFile, parts: &BTreeSet<Part<'_>>) -> bool {
    let locals: BTreeSet<&str> = parts.iter().map(|(local, _)| *local).collect();
    locals.into_iter().all(|local| {
        file.weights.iter().any(|weight| {
            weight.name == local && parts.contains(&(local, weight.extent.shape.as_slice()))
        })
    })
}
