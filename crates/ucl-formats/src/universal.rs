//! The universal checkpoint: `ucl.json` beside series of safetensors files.

mod read;
mod write;

use crate::inventory::{Mesh, Optimizer, Role};
use crate::lora::Adapters;
use indexmap::{IndexMap, IndexSet};
use serde::{Deserialize, Serialize};
use ucl_tensor::DType;

pub(crate) use read::{AGAIN, hold, read_manifest};
pub use read::{manifest, survey};
pub(crate) use write::files;

/// The name of the manifest in a universal folder.
pub const MANIFEST: &str = "ucl.json";

/// What it says that it is.
const FORMAT: &str = "ucl.universal";

/// The version of the format that this program writes.
pub const VERSION: u64 = 1;

/// `ucl.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Always `ucl.universal`.
    pub format: String,
    /// [`VERSION`].
    pub version: u64,
    /// The training step.
    pub step: Option<u64>,
    /// Where it came from.
    pub source: Origin,
    /// The model's name; `identity` where no spec was needed.
    pub model: String,
    /// Whose names the tensors have: `universal`, a view's name, or `stored`.
    pub view: String,
    /// The prefix that the source's names came without, by the view in which they would have it: names
    /// of that view go back without it.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub without_prefix: IndexMap<String, String>,
    /// Sizes of dims.
    pub dims: IndexMap<String, u64>,
    /// Other numbers that the spec's lines took from the source's documents (`m`, `c1`).
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub numbers: IndexMap<String, i64>,
    /// The spec, one text without inheritance; it decides. Missing for `identity`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<String>,
    /// Every tensor, in the order of the model.
    pub tensors: Vec<Entry>,
    /// The optimizer's groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optimizer: Option<Optimizer>,
    /// What the source's files said of themselves beside their tensors.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub metadata: IndexMap<String, String>,
    /// Low-rank pairs among the tensors.
    #[serde(default, skip_serializing_if = "Adapters::is_empty")]
    pub adapters: Adapters,
    /// Files under `extra/`.
    #[serde(default)]
    pub extra: Vec<String>,
}

/// Where a universal checkpoint came from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// The kind of checkpoint, in words.
    pub kind: String,
    /// The framework's version.
    pub version: Option<String>,
    /// The mesh that wrote it.
    pub mesh: Mesh,
    /// The view that it was stored in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view: Option<String>,
    /// What the stages of a pipeline without a spec train, see [`crate::Inventory::stages`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<IndexSet<String>>,
    /// How its tensor ranks were cut, where it said so itself: a spec of its stored names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cuts: Option<String>,
}

/// A tensor of a universal checkpoint, in all its states.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name in the safetensors files.
    pub name: String,
    /// The dims of its shape, one text per stored dim (`n`, `d`, `(k d)`); empty where none are known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dims: Vec<String>,
    /// Its shape.
    pub shape: Vec<u64>,
    /// What it is.
    pub role: Role,
    /// The type of the model's own weights, which `--to hf` writes.
    pub dtype: DType,
    /// Other names of it in the source.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// Its states: `fp32` or `param`, `exp_avg`, …
    pub states: IndexMap<String, StateEntry>,
}

/// One state of a tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StateEntry {
    /// The file.
    pub file: String,
    /// The element type.
    pub dtype: DType,
    /// The digest, `xxh3:` and 32 hex digits.
    pub digest: String,
}
