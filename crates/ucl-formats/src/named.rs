//! The tensors of a torch file by name, as modules nest them.

use crate::inventory::Problem;
use crate::torch::{TensorExtent, TorchError, TorchFile, Value};
use indexmap::IndexMap;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::path::Path;
use ucl_tensor::DType;

/// A tensor of a model file.
#[derive(Clone, Debug)]
pub(crate) struct Weight {
    /// Its name, without wrappers.
    pub(crate) name: String,
    /// Where it lies.
    pub(crate) extent: TensorExtent,
}

/// All tensors under a value, nested dicts joined by dots, in order.
pub(crate) fn weights(
    file: &TorchFile,
    value: Value<'_>,
    wrapped: &mut bool,
    others: &mut Vec<String>,
    problems: &mut Vec<Problem>,
) -> Vec<Weight> {
    /// Modules are not nested deeper; a dict that holds itself would not end.
    const DEEPEST: usize = 64;
    let mut found: IndexMap<String, Weight> = IndexMap::new();
    let mut open = vec![(String::new(), value, 0)];
    while let Some((name, value, depth)) = open.pop() {
        if let Some(tensor) = value.as_tensor() {
            let name = bare(&name, wrapped);
            match file.extent(tensor) {
                Ok(extent) => {
                    let weight = Weight { name: name.clone(), extent };
                    if found.insert(name.clone(), weight).is_some() {
                        problems.push(twice(&file.path, &name));
                    }
                }
                Err(error) => problems
                    .push(Problem::new(&file.path, format!("the tensor `{name}`: {}", error.kind))),
            }
        } else if value.as_dict().is_some() && depth < DEEPEST {
            let first = open.len();
            for (key, held) in value.pairs().into_iter().flatten() {
                let key = key.as_str().map_or_else(
                    || key.as_i64().map_or_else(|| "?".to_owned(), |number| number.to_string()),
                    str::to_owned,
                );
                let below = if name.is_empty() { key } else { format!("{name}.{key}") };
                open.push((below, held, depth + 1));
            }
            open[first..].reverse();
        } else if !value.is_none() {
            others.push(name);
        }
    }
    found.into_values().collect()
}

fn twice(path: &Path, name: &str) -> Problem {
    Problem::new(
        path,
        format!("two tensors are called `{name}` once wrapper prefixes are taken off"),
    )
}

/// A name without what wrappers put into it: `module.` of the engine or of data parallelism at its
/// start, `_orig_mod` of a compiled module and `_checkpoint_wrapped_module` anywhere.
pub(crate) fn bare(name: &str, wrapped: &mut bool) -> String {
    const WRAPPERS: [&str; 3] = ["_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module"];
    let kept: Vec<_> = name.split('.').filter(|part| !WRAPPERS.contains(part)).collect();
    let front = kept.iter().take_while(|part| **part == "module").count();
    let kept = &kept[front.min(kept.len().saturating_sub(1))..];
    let bare = kept.join(".");
    *wrapped |= bare.len() != name.len();
    bare
}

/// Where tensors lie, to find those that are second names of one storage.
pub(crate) struct Storages<K, N>(HashMap<K, N>);

impl<K: Eq + Hash, N> Storages<K, N> {
    pub(crate) fn new() -> Storages<K, N> {
        Storages(HashMap::new())
    }

    /// The earlier name of the same place; the first at a place is remembered. Tensors without elements
    /// lie anywhere, and have no place.
    pub(crate) fn original(&mut self, place: Option<K>, name: impl FnOnce() -> N) -> Option<&N> {
        match self.0.entry(place?) {
            Entry::Occupied(known) => Some(known.into_mut()),
            Entry::Vacant(new) => {
                new.insert(name());
                None
            }
        }
    }
}

/// Where a tensor lies in its file, and how it is read from there.
pub(crate) type Place = (u64, Vec<u64>, Vec<i64>, DType);

/// The place of a tensor; `None` if it has no elements.
pub(crate) fn place(extent: &TensorExtent) -> Option<Place> {
    let place = (extent.file_offset, extent.shape.clone(), extent.strides.clone(), extent.dtype);
    (extent.numel > 0).then_some(place)
}

/// A file that is damaged or no torch file.
pub(crate) fn unreadable(error: TorchError) -> Problem {
    Problem::new(error.path, error.kind.to_string()).help(
        "Copy it again from where it was written; a write that was cut short can't be mended.",
    )
}
