//! Safetensors: a JSON header with names, types, shapes and offsets, then the data.
//!
//! <https://github.com/huggingface/safetensors#format>

mod header;
mod layout;

pub(crate) use header::read_header_at;
pub use header::{Header, Tensor, read_header};
pub use layout::{Layout, Unwritable, layout, reference_layout};

/// The largest header that is read, in bytes; the reference reader has the same bound.
pub const MAX_HEADER: u64 = 100_000_000;
