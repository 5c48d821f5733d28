//! The model's own tensors of every rank and virtual stage.

use super::mesh::Step;
use crate::inventory::{Data, Inventory, Role, Stored};
use crate::named::Weight;
use std::collections::{BTreeMap, HashMap};

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
    let mut first: HashMap<_, &str> = HashMap::new();
    let mut aliases = BTreeMap::new();
    for (chunk, weights) in chunks.iter().enumerate() {
        for weight in weights {
            let extent = &weight.extent;
            // Tensors without elements lie anywhere.
            if extent.numel == 0 {
                continue;
            }
            let place = (extent.file_offset, &extent.shape, &extent.strides, extent.dtype);
            match first.get(&place) {
                Some(original) => {
                    aliases.insert((chunk, weight.name.as_str()), *original);
                }
                None => {
                    first.insert(place, &weight.name);
                }
            }
        }
    }
    aliases
}
