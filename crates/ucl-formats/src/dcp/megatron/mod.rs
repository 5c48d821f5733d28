//! Megatron-core's `torch_dist`: whole tensors under names without layer numbers, the layers an axis in
//! front; the optimizer's states beside them; everything that is not sharded in `common.pt`, since
//! core 0.19 in an object of the folder.

mod buckets;
mod common;
mod fsdp;
mod keys;
mod tiles;
pub(crate) mod write;

use super::folder::Sharded;
use crate::inventory::{Framework, Inventory, Mesh, Problem, Role, Stored};
use crate::listed::listed;
use common::Common;
use keys::{Key, key};
use std::collections::BTreeSet;
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
    let (mut states, mut scales) = (0, 0);
    for (name, whole) in &folder.tensors {
        match key(name) {
            Key::Model(name) => inventory.tensors.push(Stored {
                name: name.to_owned(),
                state: "param".to_owned(),
                dtype: whole.dtype,
                shape: whole.shape.clone(),
                at: Mesh::new(),
                role: Role::Trained,
                data: whole.data(),
            }),
            Key::State(state, tensor) => {
                states += 1;
                match tiles::state(folder, (name, tensor), whole) {
                    Ok((shape, data)) => inventory.tensors.push(Stored {
                        name: tensor.to_owned(),
                        state: state.to_owned(),
                        dtype: whole.dtype,
                        shape,
                        at: Mesh::new(),
                        role: Role::Trained,
                        data,
                    }),
                    Err(why) => inventory.unread.push(tiles::refuse(folder, tensor, state, &why)),
                }
            }
            Key::Bucket(_) => {}
            Key::Extra => scales += 1,
            Key::Other(name) => drop(ignored.insert(name)),
        }
    }
    roles(inventory, states > 0);
    inventory.unread.extend(buckets::refuse(folder));
    let objects = folder.objects.keys().map(String::as_str);
    let (extra, objects): (Vec<&str>, Vec<&str>) = objects
        .filter(|name| !keys::is_known_object(keys::object(name)))
        .partition(|name| matches!(key(name), Key::Extra));
    let (carried, left) = folder.carried(ignored.into_iter().chain(objects));
    inventory.carried.extend(carried);
    if !left.is_empty() {
        let all = listed(&left, ", ");
        inventory
            .notes
            .push(format!("Left out, as no tensor of the model or its optimizer: {all}."));
    }
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

/// A weight without a state, where others have some, is a buffer or was not trained.
fn roles(inventory: &mut Inventory, optimizer: bool) {
    let trained: BTreeSet<String> = inventory
        .tensors
        .iter()
        .filter(|tensor| tensor.state != "param")
        .map(|tensor| tensor.name.clone())
        .collect();
    for tensor in &mut inventory.tensors {
        if tensor.state == "param" && optimizer && !trained.contains(&tensor.name) {
            tensor.role = Role::Frozen;
        }
        if tensor.state == "param" && !tensor.dtype.is_float() {
            tensor.role = Role::Buffer;
        }
    }
}
