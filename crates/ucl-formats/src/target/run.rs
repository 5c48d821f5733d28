//! What is written of a run that is cut over a mesh, and the files that it becomes.

use super::Seal;
use crate::inventory::{Group, Inventory, Mesh, Problem, Role};
use crate::safetensors::Unwritable;
use crate::torch::{EmitError, LayoutError};
use indexmap::IndexMap;
use serde_json::{Map, Value};
use std::sync::Arc;
use ucl_tensor::DType;

/// A run to write: what every model-parallel rank of a mesh holds.
pub struct Run<'a> {
    /// The sizes of the axes, `dp` too; one that is left out has one rank.
    pub mesh: Mesh,
    /// How many layers every pipeline stage has, in the order of the model; empty where all have the same.
    pub stages: Vec<u64>,
    /// The step that it is saved at.
    pub step: Option<u64>,
    /// The model-parallel ranks, the last axis fastest.
    pub ranks: Vec<Rank>,
    /// The optimizer's groups, without the names in them: see [`Held::place`].
    pub groups: Vec<Group>,
    /// The extent that the vocabulary is padded to, where the ranks' shares are equal.
    pub padded_vocab: Option<u64>,
    /// Megatron's arguments as far as the model's dims tell them, for a run under Megatron's names.
    pub args: Option<Map<String, Value>>,
    /// Whether the names are the source's own, or Megatron's: else arguments of Megatron's that the source
    /// carries say nothing of them.
    pub keeps_args: bool,
    /// The class that loads it, by the view's own word.
    pub class: Option<String>,
    /// How long a sequence may be, by the view's own number (`positions`).
    pub positions: Option<u64>,
    /// The checkpoint that it is made of: what it carries goes along where the format has a place for it.
    pub source: &'a Inventory,
    /// Every tensor whole, in formats that are cut as they are loaded. As a rank it comes behind all others.
    pub uncut: Option<Uncut>,
}

impl Run<'_> {
    /// A rank by its number, or what is whole.
    pub(crate) fn rank(&self, number: usize) -> &Rank {
        match &self.uncut {
            Some(uncut) if number == self.ranks.len() => &uncut.rank,
            _ => &self.ranks[number],
        }
    }
}

/// Whole tensors, and how the ranks of the mesh are to cut them.
#[derive(Clone, Debug, Default)]
pub struct Uncut {
    /// The tensors.
    pub rank: Rank,
    /// For each of them, how it is cut over the tensor ranks; `None` if each has all of it.
    pub splits: Vec<Option<Split>>,
}

/// How tensor ranks cut a whole tensor: as the tensor `[before, sum of parts, after]`, of whose middle dim
/// every part is cut into equal shares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// The elements of the dims before.
    pub before: u64,
    /// The parts of the dim that is cut.
    pub parts: Vec<u64>,
    /// The elements of the dims behind.
    pub after: u64,
    /// Whether zeros are put behind it until it can be cut.
    pub padded: bool,
    /// Whether the first ranks get one more where it cannot be cut into equal shares.
    pub uneven: bool,
}

/// What a model-parallel rank holds.
#[derive(Clone, Debug, Default)]
pub struct Rank {
    /// Its coordinates.
    pub at: Mesh,
    /// Its tensors, in the order of the model.
    pub tensors: Vec<Held>,
    /// Second names of them, in formats that repeat these: alias to name.
    pub aliases: IndexMap<String, String>,
}

/// A run, laid out.
#[derive(Debug, Default)]
pub struct RunLayout {
    /// Its files.
    pub files: Vec<RunFile>,
    /// The names of the source's carried files whose content goes along in them.
    pub along: Vec<String>,
    /// What the format could not keep as it was, a sentence each.
    pub lossy: Vec<String>,
    /// What the one who loads them has to know.
    pub notes: Vec<String>,
}

/// A tensor of a rank, in all its states.
#[derive(Clone, Debug)]
pub struct Held {
    /// Its name.
    pub name: String,
    /// Its shape on the rank.
    pub shape: Vec<u64>,
    /// The type of the model's own weights.
    pub dtype: DType,
    /// What it is.
    pub role: Role,
    /// Whether it repeats, under a name of its own, what this rank or another one holds: a tied head.
    pub copy: bool,
    /// Another name of it, that it has in the tied state alone: that of a pipeline's tied module.
    pub tied_name: Option<String>,
    /// For what is trained, its group and where it stands in it.
    pub place: Option<(usize, usize)>,
    /// The optimizer's states of it and their types, masters (`fp32`) first; empty if it has none.
    pub states: IndexMap<String, DType>,
    /// Its step, where that is not its group's.
    pub step: Option<Value>,
}

impl Held {
    /// Its number of elements.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }

    /// Its name in the optimizer of a pipeline: that of a tied module, if it is in one.
    pub(crate) fn trained_name(&self, layered: bool) -> &str {
        self.tied_name.as_deref().filter(|_| layered).unwrap_or(&self.name)
    }

    /// Whether the optimizer has it.
    pub fn is_trained(&self) -> bool {
        self.role == Role::Trained && !self.states.is_empty()
    }
}

/// Consecutive elements of a rank's tensor, in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The rank, as an index into [`Run::ranks`].
    pub rank: usize,
    /// The tensor, as an index into its tensors.
    pub tensor: usize,
    /// The first of the tensor's elements that is here.
    pub first: u64,
    /// How many are.
    pub len: u64,
    /// Where in the buffer they begin, in elements.
    pub start: u64,
}

/// Dense elements in a file. What no part fills is zero.
#[derive(Clone, Debug)]
pub struct Buffer {
    /// What a person calls it.
    pub name: String,
    /// The state that it is of: `param` for the model's own weights.
    pub state: String,
    /// Its element type.
    pub dtype: DType,
    /// Its shape.
    pub shape: Vec<u64>,
    /// What is in it, ascending; states of one buffer share them.
    pub parts: Arc<[Part]>,
}

impl Buffer {
    /// A rank's tensor as it is, in one of its states.
    pub(crate) fn whole(run: &Run<'_>, (rank, tensor): (usize, usize), state: &str) -> Buffer {
        let held = &run.rank(rank).tensors[tensor];
        let part = Part { rank, tensor, first: 0, len: held.elements(), start: 0 };
        Buffer {
            name: held.name.clone(),
            state: state.to_owned(),
            dtype: held.states.get(state).copied().unwrap_or(held.dtype),
            shape: held.shape.clone(),
            parts: Arc::new([part]),
        }
    }

    /// Its length in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.shape.iter().product::<u64>() * self.dtype.size_bytes()
    }
}

/// A file of a run, laid out.
#[derive(Debug)]
pub struct RunFile {
    /// Its path in the folder.
    pub path: String,
    /// Its length in bytes.
    pub len: u64,
    /// What is known of it, by offset.
    pub fixed: Vec<(u64, Vec<u8>)>,
    /// The buffers in it with their absolute byte offsets, ascending.
    pub buffers: Vec<(u64, Buffer)>,
    /// What closes it once the sums of its buffers are known.
    pub seal: Option<Seal>,
}

impl RunFile {
    /// A file of text.
    pub(crate) fn text(path: impl Into<String>, text: impl Into<Vec<u8>>) -> RunFile {
        let text = text.into();
        RunFile {
            path: path.into(),
            len: text.len() as u64,
            fixed: vec![(0, text)],
            buffers: Vec::new(),
            seal: None,
        }
    }
}

/// Why a run cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The pickle.
    #[error(transparent)]
    Emit(#[from] EmitError),
    /// The zip.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A safetensors file.
    #[error(transparent)]
    Safetensors(#[from] Unwritable),
    /// What goes along cannot be read.
    #[error("{0}")]
    Carried(Problem),
    /// A type that torch files have no storage for.
    #[error("torch has no storage of {0}")]
    DType(DType),
    /// What the format cannot hold, and what to do.
    #[error("{message}")]
    Refused {
        /// What.
        message: String,
        /// What to do.
        help: String,
    },
}

impl WriteError {
    /// What the format cannot hold, and what to do.
    pub(crate) fn refused(message: impl Into<String>, help: impl Into<String>) -> WriteError {
        WriteError::Refused { message: message.into(), help: help.into() }
    }
}

impl From<Problem> for WriteError {
    fn from(problem: Problem) -> WriteError {
        WriteError::Carried(problem)
    }
}
