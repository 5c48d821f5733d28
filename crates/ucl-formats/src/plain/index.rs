//! The index of shards: which file holds which tensor.

use crate::inventory::{Data, Inventory, Problem};
use crate::listed::listed;
use crate::named::bare;
use indexmap::IndexMap;
use serde::Deserialize;
use std::fs;
use std::path::Path;

/// An index is never larger, in bytes.
const LARGEST_INDEX: u64 = 256 << 20;

/// Which file holds which tensor.
#[derive(Deserialize)]
pub(super) struct Index {
    pub(super) weight_map: IndexMap<String, String>,
}

/// Reads an index.
pub(super) fn read_index(path: &Path) -> Result<Index, Problem> {
    let wrong = |error: String| {
        Problem::new(path, format!("the index can't be read: {error}"))
            .help("Download or copy it again; without it, all shards are read.")
    };
    let bytes = fs::metadata(path).map_err(|error| wrong(error.to_string()))?.len();
    if bytes > LARGEST_INDEX {
        return Err(wrong(format!("it has {bytes} bytes, too many for an index")));
    }
    let text = fs::read(path).map_err(|error| wrong(error.to_string()))?;
    serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))
}

/// Tensors that are not where the index puts them.
pub(super) fn misplaced(path: &Path, index: &Index, inventory: &Inventory) -> Option<Problem> {
    let file_of = |id: u32| {
        let path = &inventory.files.get(id as usize)?.path;
        Some(path.file_name()?.to_string_lossy().into_owned())
    };
    let found: IndexMap<&str, String> = inventory
        .tensors
        .iter()
        .filter_map(|tensor| match &tensor.data {
            Data::Strided { file, .. } => Some((tensor.name.as_str(), file_of(*file)?)),
            Data::Runs(_) | Data::Boxes(_) => None,
        })
        .collect();
    let mut wrong = Vec::new();
    for (name, file) in &index.weight_map {
        // Torch files are read without the prefixes of wrappers.
        let bare = bare(name, &mut false);
        let original = inventory.aliases.get(&bare).unwrap_or(&bare);
        match found.get(name.as_str()).or_else(|| found.get(original.as_str())) {
            Some(here) if here == file => {}
            Some(here) => wrong.push(format!("`{name}` is in {here}, not in {file}")),
            None => wrong.push(format!("`{name}` is not in {file}, nor anywhere else")),
        }
    }
    let message = format!("the files do not hold what it says: {}", listed(&wrong, "; "));
    let problem = || {
        Problem::new(path, message)
            .help("Index and files are of different saves; download or copy them again.")
    };
    (!wrong.is_empty()).then(problem)
}
