//! How much of a hostile file is believed. Real checkpoints stay far below each of these.

/// Bytes of one pickle. A model of 100,000 tensors needs about 20 MB.
pub const MAX_PICKLE_BYTES: u64 = 256 << 20;
/// Opcodes of one pickle.
pub const MAX_OPS: u64 = 64 << 20;
/// Nodes of one pickle.
pub const MAX_NODES: u64 = 32 << 20;
/// Bytes of one integer; numpy's largest generator state has 2500 bytes, as bytes, not as an integer.
pub const MAX_INTEGER_BYTES: u64 = 1024;
/// Bytes of a line in the text opcodes.
pub const MAX_LINE_BYTES: usize = 1 << 20;
/// Length of the name of a class with its module.
pub const MAX_NAME_BYTES: usize = 1024;
/// Dims of a tensor; torch itself stops at 64.
pub const MAX_DIMS: usize = 64;
/// Bytes copied when known calls are read as plain values, in all.
pub const MAX_FOLDED_BYTES: u64 = 256 << 20;
/// Bytes of the small members of a zip (`version`, `byteorder`).
pub const MAX_SMALL_MEMBER: u64 = 4096;
/// Members of a zip.
pub const MAX_MEMBERS: u64 = 4 << 20;
