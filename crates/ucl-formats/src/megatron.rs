//! Megatron-LM's `torch` format: a file for each tensor, pipeline and expert rank.

use crate::inventory::Survey;
use crate::survey::unread;
use std::path::Path;

/// Reads the headers of all files of a step.
pub(crate) fn survey(root: &Path) -> Survey {
    let help = "Megatron's own converter can write other formats of the weights.";
    unread(root, "checkpoints of Megatron-LM", help)
}
