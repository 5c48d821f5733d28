//! What a file is by its first bytes.

use crate::inventory::Problem;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// What a file's first bytes say that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A zip, which torch has written since 1.6.
    TorchZip,
    /// The pickles in a row that torch wrote before.
    TorchLegacy,
    /// The length of a header, then `{`.
    Safetensors,
    /// Anything else.
    Unknown,
}

/// Torch's magic number as a pickled protocol-2 integer.
const LEGACY: [u8; 13] =
    [0x80, 2, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50];

/// Reads the first bytes of a file.
///
/// # Errors
/// If they can't be read.
pub fn sniff(path: &Path) -> Result<Content, Problem> {
    let mut start = Vec::with_capacity(16);
    File::open(path)
        .and_then(|file| file.take(16).read_to_end(&mut start))
        .map_err(|error| Problem::new(path, format!("it can't be read: {error}")))?;
    Ok(if start.starts_with(b"PK\x03\x04") {
        Content::TorchZip
    } else if start.starts_with(&LEGACY) {
        Content::TorchLegacy
    } else if start.len() >= 10 && start[7] == 0 && start[8] == b'{' {
        Content::Safetensors
    } else {
        Content::Unknown
    })
}
