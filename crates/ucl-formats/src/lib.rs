//! Floor 1: bytes on disk. Readers make an [`Inventory`] from headers alone; writers lay files out
//! before a byte of data is known.
//!
//! Nothing found in a checkpoint is executed: a pickled class is a name with arguments.

mod apart;
pub mod carry;
mod consolidated;
mod dcp;
pub mod deepspeed;
mod fastgen;
pub mod flat;
mod fsdp;
mod grid;
pub mod huggingface;
pub mod inventory;
mod listed;
pub mod locate;
pub mod lora;
mod megatron;
mod named;
mod optimizer;
pub mod plain;
mod ranks;
mod rename;
pub mod safetensors;
mod sharded;
mod survey;
pub mod target;
pub mod torch;
pub mod universal;
pub mod verify;

pub use apart::{apart, spared};
pub use inventory::{Inventory, Problem, Stored, Survey};
pub use megatron::write::argument as megatron_argument;
pub use rename::unheld;
pub use survey::survey;
pub use target::Format;
