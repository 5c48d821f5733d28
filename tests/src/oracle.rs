//! What a fixture is known to hold.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// A tensor, by the digest of its little-endian contiguous bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Known {
    /// The dtype's name in safetensors.
    pub dtype: String,
    /// The shape.
    pub shape: Vec<u64>,
    /// SHA-256 in hex.
    pub sha256: String,
}

/// Tensors by name.
pub type Tensors = BTreeMap<String, Known>;

#[derive(Deserialize)]
struct File {
    sets: BTreeMap<String, Set>,
}

#[derive(Deserialize)]
struct Set {
    tensors: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    #[serde(flatten)]
    known: Known,
}

/// The sets of an oracle file, by name (`live.fp32`).
pub fn sets(path: &Path) -> BTreeMap<String, Tensors> {
    let text =
        std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file: File = serde_json::from_str(&text).expect("an oracle");
    let tensors =
        |set: Set| set.tensors.into_iter().map(|tensor| (tensor.name, tensor.known)).collect();
    file.sets.into_iter().map(|(name, set)| (name, tensors(set))).collect()
}
