//! What is in a checkpoint, without its data.

use indexmap::{IndexMap, IndexSet};
use serde::Serialize;
use std::path::PathBuf;
use ucl_tensor::DType;

/// Sizes or coordinates by mesh axis (`dp`, `tp`, `pp`, `ep`).
pub type Mesh = IndexMap<String, u64>;

/// A checkpoint as its headers tell it.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// The step's folder, or the file, that was read.
    pub root: PathBuf,
    /// The framework that wrote it.
    pub framework: Framework,
    /// The kind of checkpoint in words for a person: `DeepSpeed ZeRO-1, BF16_Optimizer, pipeline`.
    pub kind: String,
    /// The framework's version, if it is recorded.
    pub version: Option<String>,
    /// The training step, if it is recorded.
    pub step: Option<u64>,
    /// The mesh that wrote it; an axis of size 1 may be left out.
    pub mesh: Mesh,
    /// All files that were opened, indexed by [`FileId`].
    pub files: Vec<SourceFile>,
    /// Every stored tensor of every rank and state.
    pub tensors: Vec<Stored>,
    /// The types of the model's own weights, by name, where they are known and only masters are stored.
    pub own_types: IndexMap<String, DType>,
    /// Flat buffers whose every byte has to be claimed.
    pub buffers: Vec<Buffer>,
    /// Documents to read dims from, by kind: `config`, `args`, `params`. What a reader adds under
    /// names of its own (`original_vocab_size`) stands among `args`.
    pub documents: IndexMap<String, serde_json::Map<String, serde_json::Value>>,
    /// For a pipeline whose names are of layers numbered over all stages, the modules that each stage
    /// trains: see [`module_of_pipeline`].
    pub stages: Vec<IndexSet<String>>,
    /// The optimizer's groups, if there is an optimizer.
    pub optimizer: Option<Optimizer>,
    /// Second names of the same storage: alias to original.
    pub aliases: IndexMap<String, String>,
    /// What the files say of themselves beside their tensors; empty if that is only that they are
    /// torch's.
    pub metadata: IndexMap<String, String>,
    /// What is carried as it is.
    pub carried: Vec<Carried>,
    /// What a reader did or saw that a person should know, a sentence each.
    pub notes: Vec<String>,
    /// Why the optimizer's states can't be read, where the weights can.
    pub unread: Vec<Problem>,
    /// Files of an optimizer whose states are numbered in the order of the model's modules, which no file
    /// tells; see [`crate::plain::in_order`].
    pub unordered: Vec<PathBuf>,
    /// Low-rank pairs beside the model's weights.
    pub adapters: crate::lora::Adapters,
    /// For a universal folder: its manifest's model, view and spec.
    pub universal: Option<crate::universal::Manifest>,
}

/// How the kind of a Hugging Face folder begins.
pub(crate) const HUGGING_FACE: &str = "Hugging Face ";

/// How the kind of an adapter's folder begins.
pub(crate) const ADAPTER: &str = "Hugging Face adapter, ";

/// An index into [`Inventory::files`].
pub type FileId = u32;

/// A file of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its length in bytes.
    pub bytes: u64,
    /// How many of them were read for its headers.
    pub header_bytes: u64,
}

/// A framework; it restricts the views that can be meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Framework {
    /// Plain files of named tensors (safetensors, one torch file).
    #[default]
    Files,
    /// DeepSpeed's engine around any model: names are the model's own.
    DeepSpeed,
    /// Megatron-DeepSpeed: tensor and pipeline parallelism under Megatron's names.
    MegatronDeepSpeed,
    /// Megatron-LM's own files, one for each tensor, pipeline and expert rank.
    Megatron,
    /// Megatron-core's sharded files (`torch_dist`): whole tensors under names without layer numbers.
    MegatronDist,
    /// Megatron-core's FSDP (`fsdp_dtensor`): whole tensors under names with global numbers.
    MegatronFsdp,
    /// PyTorch's own sharding (FSDP, DCP): names are the model's own.
    TorchDistributed,
    /// A universal folder of ours.
    Universal,
    /// Hugging Face.
    HuggingFace,
}

/// One tensor, as one rank (or one set of data-parallel ranks together) stores it in one state.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Its name, wrapper prefixes taken off, nested dicts joined by dots.
    pub name: String,
    /// `param` for the model's own weights and buffers, else the optimizer's word (`fp32` for master
    /// weights, `exp_avg`, …).
    pub state: String,
    /// Its element type.
    pub dtype: DType,
    /// Its shape on this rank.
    pub shape: Vec<u64>,
    /// Where on the mesh it was stored; axes that say nothing about it are left out. Data-parallel
    /// cuts are undone in `data`, so `dp` is not among them.
    pub at: Mesh,
    /// What it is.
    pub role: Role,
    /// Where its elements are.
    pub data: Data,
}

/// What a stored tensor is to the training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A trained parameter (or a state of one).
    Trained,
    /// A parameter without an optimizer state.
    Frozen,
    /// A buffer.
    Buffer,
}

/// Where the elements of a tensor are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// In one storage, with a stride for each stored dim, in elements.
    Strided {
        /// The file.
        file: FileId,
        /// The byte offset of the first element in the file.
        offset: u64,
        /// Elements from one index to the next, per stored dim.
        strides: Vec<i64>,
    },
    /// In runs of the row-major order, ascending; what no run holds is not stored.
    Runs(Vec<Run>),
    /// In boxes that do not overlap; what no box holds is not stored.
    Boxes(Vec<Chunk>),
}

impl Inventory {
    /// Whether it is a Hugging Face folder, or a universal folder that was made of one.
    pub fn is_of_hugging_face(&self) -> bool {
        self.framework == Framework::HuggingFace || self.origin().starts_with(HUGGING_FACE)
    }

    /// Whether its tensors are an adapter's, which is no model without the one that it was made for.
    pub fn is_adapter(&self) -> bool {
        self.origin().starts_with(ADAPTER)
    }

    /// Parameters that have no state, where others have some, were not trained.
    pub(crate) fn freeze(&mut self, untrained: impl Fn(&str) -> bool) {
        let weights = self.tensors.iter_mut().filter(|tensor| tensor.state == "param");
        for tensor in weights.filter(|tensor| tensor.role == Role::Trained) {
            if untrained(&tensor.name) {
                tensor.role = Role::Frozen;
            }
        }
    }

    /// The kind of what was read, or of what a universal folder was made of.
    pub(crate) fn origin(&self) -> &str {
        self.universal.as_ref().map_or(&self.kind, |manifest| &manifest.source.kind)
    }
}

impl Data {
    /// The chunks of a tensor of this shape.
    pub(crate) fn of_chunks(shape: &[u64], chunks: Vec<Chunk>) -> Data {
        match chunks.as_slice() {
            [one] if one.shape == shape => {
                Data::Strided { file: one.file, offset: one.offset, strides: one.strides.clone() }
            }
            _ => Data::Boxes(chunks),
        }
    }
}

/// What a pipeline of DeepSpeed's begins the names of modules with that several of its layers share.
const TIED: &str = "tied_modules.";

/// The module of a pipeline that a name begins with: a layer, by its number over all stages (`3`), or what
/// several layers share (`tied_modules.embed`).
pub fn module_of_pipeline(name: &str) -> Option<&str> {
    let shared = name.strip_prefix(TIED).map_or(0, |_| TIED.len());
    let end = shared + name.get(shared..)?.find('.')?;
    let module = &name[..end];
    (shared > 0 || module.parse::<u64>().is_ok()).then_some(module)
}

/// Whether a parameter of a pipeline is of a module that several of its layers share.
pub fn is_shared(name: &str) -> bool {
    name.starts_with(TIED)
}

/// The strides of a tensor without holes, in elements.
pub fn row_major(shape: &[u64]) -> Vec<i64> {
    let mut strides = vec![1_i64; shape.len()];
    for dim in (1..shape.len()).rev() {
        // A tensor without elements may name any extents.
        strides[dim - 1] = strides[dim].wrapping_mul(shape[dim].max(1) as i64);
    }
    strides
}

/// A run of consecutive elements of a tensor, in row-major order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first element.
    pub start: u64,
    /// How many.
    pub len: u64,
    /// The file.
    pub file: FileId,
    /// The byte offset of the first element in the file.
    pub offset: u64,
}

/// A box of a tensor, as sharded saves cut it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The index of its first element, per stored dim.
    pub offsets: Vec<u64>,
    /// Its extents, per stored dim.
    pub shape: Vec<u64>,
    /// The file.
    pub file: FileId,
    /// The byte offset of its first element in the file.
    pub offset: u64,
    /// Elements from one index to the next, per stored dim.
    pub strides: Vec<i64>,
}

impl Chunk {
    /// How many elements it has.
    pub fn elements(&self) -> u64 {
        self.shape.iter().fold(1, |product: u64, size| product.saturating_mul(*size))
    }
}

/// A flat buffer in a file: the tensors whose runs lie in it and its padding have to tile it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// What a person calls it: `group 0 of exp_avg, dp rank 1`.
    pub label: String,
    /// The file.
    pub file: FileId,
    /// Its first byte in the file.
    pub offset: u64,
    /// Its length in elements.
    pub len: u64,
    /// Its element type.
    pub dtype: DType,
    /// Ranges of elements that belong to nothing: alignment gaps and the tail. `(start, len)`.
    pub padding: Vec<(u64, u64)>,
}

/// An optimizer's groups and hyper-parameters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, serde::Deserialize)]
pub struct Optimizer {
    /// What is known of its class (`BF16_Optimizer`, `ZeRO-2`), for a person.
    pub name: Option<String>,
    /// Its parameter groups, in order.
    pub groups: Vec<Group>,
    /// Whether the order of the parameters in their groups is not recorded: it is then the model's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unordered: bool,
}

/// A parameter group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, serde::Deserialize)]
pub struct Group {
    /// Hyper-parameters as they are recorded (`lr`, `betas`, …), without `params`.
    pub hyper: IndexMap<String, serde_json::Value>,
    /// The step that all of its parameters are at, if the optimizer keeps one.
    pub step: Option<serde_json::Value>,
    /// Steps of single parameters where they differ from the group's.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub steps: IndexMap<String, serde_json::Value>,
    /// The names of its parameters, in the order of the group.
    pub params: Vec<String>,
    /// The same as the run itself called them, where these are other names: in a universal folder several
    /// may be one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stored: Vec<String>,
}

impl Group {
    /// The names that the run itself has for its parameters, in its order.
    pub fn saved(&self) -> &[String] {
        if self.stored.is_empty() { &self.params } else { &self.stored }
    }
}

/// A file that goes along: as it is, or a torch file without the tensors that were converted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// Its name in the target; under `extra/` in a universal folder.
    pub name: String,
    /// The file that it comes from.
    pub source: PathBuf,
    /// The bytes of that file that it is, `(first, how many)`; all if `None`.
    pub slice: Option<(u64, u64)>,
    /// Paths of keys that are left out because they were converted.
    pub without: Vec<Vec<String>>,
}

/// Something that is wrong with a checkpoint: the file, what was expected, what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", file.display())]
pub struct Problem {
    /// The file or folder.
    pub file: PathBuf,
    /// What is wrong; names the tensor, the expected and the found.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

/// What could be read of a checkpoint, and everything that is wrong with it.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// As far as it could be read.
    pub inventory: Inventory,
    /// All problems, over all files. A conversion needs none.
    pub problems: Vec<Problem>,
}

impl Problem {
    /// A problem with a file.
    pub fn new(file: impl Into<PathBuf>, message: impl Into<String>) -> Problem {
        Problem { file: file.into(), message: message.into(), help: None }
    }

    /// Says what to do.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Problem {
        self.help = Some(text.into());
        self
    }
}
