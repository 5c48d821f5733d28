//! Floor 3: runs a plan. Reads windows of the sources, moves their bytes, writes, syncs, and publishes.
//!
//! A run goes through these stages, each in a module:
//!
//! | stage | module | what |
//! | --- | --- | --- |
//! | tasks | `task` | the target's tensors, cut into windows in the order of its files |
//! | windows | `window` | one window: its moves and its checks |
//! | reads | `read` | which byte ranges of a source a move needs, and how they lie in a buffer |
//! | storage | `storage`, `sink`, `source`, `target` | files: opened, read, written, synced |
//! | staging | `staging` | the folder that becomes the destination, or nothing |
//! | outcome | `digest`, `outcome` | what is known of the result |
//!
//! What holds:
//!
//! - The destination is absent, or what it was, or complete. It appears by one rename, after everything
//!   in it was synced; a failed run removes what it wrote.
//! - Memory for data is [`Options::memory`], whatever the sizes of tensors and files, but at least
//!   [`MEMORY_FLOOR`]. With a small budget fewer workers run.
//! - The result depends neither on the number of workers nor on the budget.
//! - A failed sync is final: no file is synced twice.
//! - Nothing is printed.

#![forbid(unsafe_code)]

mod compare;
mod digest;
mod error;
mod options;
mod outcome;
mod product;
mod read;
mod reader;
mod run;
mod seal;
mod sink;
mod source;
mod staging;
mod storage;
mod target;
mod task;
mod window;
mod workers;

pub use compare::{Difference, compare};
pub use digest::{DigestRange, digest_range, digest_ranges};
pub use error::{Doing, ExecError};
pub use options::{Options, Progress, Silent};
pub use outcome::{CheckResult, First, Outcome};
pub use reader::Reader;
pub use run::{Finish, SmallFiles, run, run_on};
pub use storage::{Disk, Sink, Source, Stamp, Storage};
pub use workers::MEMORY_FLOOR;
