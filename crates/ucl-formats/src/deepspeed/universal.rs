//! Universal folders of DeepSpeed's own converter.

use crate::inventory::Survey;
use crate::survey::unread;
use std::path::Path;

/// Reads the headers of all files of a universal folder.
pub(crate) fn survey(root: &Path) -> Survey {
    let help = "Give the step that it was made from, beside it.";
    unread(root, "DeepSpeed's own universal checkpoints", help)
}
