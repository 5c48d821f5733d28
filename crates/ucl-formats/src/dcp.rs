//! Sharded saves of PyTorch (DCP) and of Megatron-core (`torch_dist`), which is built on them.

use crate::inventory::Survey;
use crate::survey::unread;
use std::path::Path;

/// Reads the headers of all files of a sharded save.
pub(crate) fn survey(root: &Path) -> Survey {
    let help = "`torch.distributed.checkpoint.format_utils` makes a torch file of them.";
    unread(root, "checkpoints of torch.distributed", help)
}
