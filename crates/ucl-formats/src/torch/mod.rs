//! Files of `torch.save`, read and written without Python and without running anything in them.
//!
//! [`TorchFile::open`] reads the directory and the pickle, never a storage. The pickle is an arena
//! of nodes ([`Pickle`]), read through [`Value`]; [`TorchFile::extent`] says where the elements of a
//! tensor lie. [`emit`] turns a pickle back into bytes, [`TorchLayout`] lays out a file around it
//! before any data is known.
//!
//! Invariant: a class or function met in a pickle is a name. It is compared with a few known names
//! (`torch._utils._rebuild_tensor_v2`, `collections.OrderedDict`, …) and else kept with its
//! arguments, so that it can be written back unchanged.

mod cursor;
mod emit;
mod error;
mod extent;
mod file;
mod fold;
mod graft;
pub(crate) mod json;
mod keys;
mod legacy;
pub mod limits;
mod local;
mod machine;
mod names;
mod node;
mod opcode;
mod pickle;
mod same;
mod source;
#[cfg(test)]
mod tests;
mod text;
mod value;
mod write;
mod zip;

pub use emit::{EmitError, emit};
pub use error::{
    EntryProblem, PickleError, PickleProblem, TensorProblem, TorchError, TorchErrorKind,
};
pub use extent::{StorageExtent, TensorExtent};
pub use file::TorchFile;
pub use node::{Dict, Element, Global, Made, Node, NodeId, Object, Pair, Set, Storage, Tensor};
pub use pickle::Pickle;
pub use same::same;
pub use value::{Items, Pairs, Value};
pub use write::{LayoutError, TorchLayout};
