//! Floor 4: checkpoints for programs. A path becomes a model ([`Checkpoint`]), and any rank of any mesh its
//! slices of it ([`Ranks`]), read straight from the files of whatever framework wrote them.
//!
//! Headers are read once, by [`Checkpoint::open`]; then only the bytes that a slice is made of. The
//! command `ucl` is written on this.

#![forbid(unsafe_code)]

mod bind;
mod checkpoint;
pub mod derive;
mod failure;
mod held;
mod ordered;
mod ranks;
pub mod specs;

pub use bind::Unbound;
pub use checkpoint::{Checkpoint, Source, config};
pub use failure::{Failure, of_problem};
pub use ranks::{Ranks, Slice, Wanted};
pub use ucl_exec::{Options, Reader};
pub use ucl_plan::States;
