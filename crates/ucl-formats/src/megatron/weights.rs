//! The model's own tensors of every rank and virtual stage.

use super::mesh::Step;
use crate::inventory::{Data, Inventory, Role, Stored};
use crate::named::{Storages, Weight, place};
use std::collections::BTreeMap;

/// The state's name of the model's own tensors.
pub(super) const PARAM: &str = "param";

/// Puts the tensors of all files into the inventory. What is trained, the optimizer tells later.
pub(super) fn collect(step: &Step<'_>, inventory: &mut Inventory) {
    for held in &step.ranks {
        let aliases = aliases(&held.file.content.chunks);
        for (chunk, weights) in held.file.content.chunks.iter().enumerate() {
            for weight in weights {
                if let Some(original) = aliases.get(&(chunk, weight.name.as_str())) {
                    inventory.aliases.insert(weight.name.clone(), (*original).to_owned());
                    continue;
                }
                inventory.tensors.push(Stored {
                    name: weight.name.clone(),
                    state: PARAM.to_owned(),
                    dtype: weight.extent.dtype,
                    shape: weight.extent.shape.clone(),
                    at: step.degrees.at(held.rank, chunk as u64),
                    role: Role::Trained,
                    data: Data::Strided {
                        file: held.file.file,
                        offset: weight.extent.file_offset,
                        strides: weight.extent.strides.clone(),
                    },
                });
            }
        }
    }
}

/// Second names of one storage: chunk and name to the first name.
pub(super) fn aliases(chunks: &[Vec<Weight>]) -> BTreeMap<(usize, &str), &str> {
    let mut storages = Storages::new();
    let mut aliases = BTreeMap::new();
    for (chunk, weights) in chunks.iter().enumerate() {
        for weight in weights {
            let name = weight.name.as_str();
            if let Some(original) = storages.original(place(&weight.extent), || name) {
                aliases.insert((chunk, name), *original);
            }
        }
    }
    aliases
}
