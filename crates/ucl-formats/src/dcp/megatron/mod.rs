//! Megatron-core's `torch_dist`: whole tensors under names without layer numbers, the layers an axis in
//! front; the optimizer's states beside them; everything that is not sharded in `common.pt`, since
//! core 0.19 in an object of the folder.

mod buckets;
mod common;
mod fsdp;
mod groups;
mod keys;
mod optimizer;
mod tiles;
pub(crate) mod write;

use super::folder::Sharded;
use super::states::{tensor as state_of, weight};
use crate::inventory::{Framework, Inventory, Problem, Stored};
use common::Common;
use keys::{Key, key};
use std::collections::{BTreeSet, HashSet};
use std::path::Path;

/// Whether a folder is Megatron-core's: it says so in a file, or has the common state.
pub(super) fn is_megatron(root: &Path) -> bool {
    root.join(common::METADATA_JSON).is_file() || root.join(common::COMMON).is_file()
}

/// As [`is_megatron`], by what a folder holds.
pub(super) fn holds_megatron(folder: &Sharded) -> bool {
    folder.objects.keys().any(|name| name.starts_with(common::COMMON_STATE))
}

pub(super) use common::other_backend;
pub(super) use fsdp::tell as fsdp;

/// Fills an inventory from a folder.
pub(super) fn survey(folder: &Sharded, inventory: &mut Inventory, problems: &mut Vec<Problem>) {
    inventory.framework = Framework::MegatronDist;
    let common = Common::read(folder, problems);
    let mut ignored: BTreeSet<&str> = BTreeSet::new();
    let (mut trained, mut scales): (HashSet<&str>, usize) = (HashSet::new(), 0);
    for (name, whole) in &folder.tensors {
        match key(name) {
            Key::Model(name) => inventory.tensors.push(weight(name.to_owned(), whole)),
            Key::State(state, tensor) => {
                trained.insert(tensor);
                match tiles::state(folder, (name, tensor), whole) {
                    Ok((shape, data)) => {
                        let whole = state_of(tensor.to_owned(), state, whole);
                        inventory.tensors.push(Stored { shape, data, ..whole });
                    }
                    Err(why) => inventory.unread.push(tiles::refuse(folder, tensor, state, &why)),
                }
            }
            Key::Bucket(_) => {}
            Key::Extra => scales += 1,
            Key::Other(name) => drop(ignored.insert(name)),
        }
    }
    if !trained.is_empty() {
        inventory.freeze(|name| !trained.contains(name));
    }
    inventory.unread.extend(buckets::refuse(folder));
    let objects = folder.objects.keys().map(String::as_str);
    let (extra, objects): (Vec<&str>, Vec<&str>) = objects
        .filter(|name| !keys::is_known_object(keys::object(name)))
        .partition(|name| matches!(key(name), Key::Extra));
    folder.carry(ignored.into_iter().chain(objects), inventory);
    scales += extra.len();
    if scales > 0 {
        inventory.notes.push(format!(
            "Left out: {scales} entries `_extra_state` of Transformer Engine, which hold scaling factors of fp8 or nothing."
        ));
    }
    match common {
        Some(common) => common.tell(inventory, problems),
        None => inventory.kind = "Megatron-core torch_dist".to_owned(),
    }
}
