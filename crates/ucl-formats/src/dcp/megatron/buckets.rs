//! Flat buffers of the distributed optimizer, which no file tells the parameters of.
//!
//! With `dp_reshardable` each rank of the model saves its gradient buckets, with the older
//! `dp_zero_gather_scatter` a pickled dict of them. Which parameter lies where follows from the order
//! in which its modules were made and from flags of the run, neither of which is recorded: counting
//! could not tell two parameters of one size apart.

use super::super::folder::Sharded;
use super::super::metadata::METADATA;
use super::keys::{Key, key, object};
use crate::inventory::Problem;

/// What to do.
pub(super) const WAYS: &str = "Load the run once with Megatron-LM and save it with \
    `--dist-ckpt-optim-fully-reshardable` (`fully_reshardable`), which names parameters, or convert the \
    weights alone with --states weights.";

/// Says that the states can't be read, if the folder has such buffers.
pub(super) fn refuse(folder: &Sharded) -> Option<Problem> {
    let names = folder.tensors.keys().chain(folder.objects.keys());
    let buffers: Vec<&str> = names
        .map(|name| object(name))
        .filter(|name| matches!(key(name), Key::Bucket(_)) && !is_groups(name))
        .collect();
    let first = buffers.first()?;
    let message = format!(
        "the optimizer's states are in {} flat buffers, such as `{first}`, and nothing records which parameter lies where",
        buffers.len()
    );
    Some(Problem::new(folder.root.join(METADATA), message).help(WAYS))
}

/// Groups and step counts of one rank are objects of the same names.
fn is_groups(name: &str) -> bool {
    name.ends_with(".optimizer") || name.ends_with(".grad_scaler")
}
