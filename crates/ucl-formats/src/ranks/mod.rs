//! What readers share whose checkpoints lie in a file for each rank.

mod agree;
mod open;

use crate::torch::TorchFile;

pub(crate) use agree::{MIXED, agreed, count, name_of, usual};
pub(crate) use open::{Opened, open_all};

/// Digits and nothing else: ranks are compared as numbers, never as text.
pub(crate) fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// Whether some data in a file has no checksum.
pub(crate) fn unchecked(file: &TorchFile) -> bool {
    file.storages.values().any(|storage| storage.len > 0 && storage.crc32.is_none())
}
