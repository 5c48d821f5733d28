//! Other names for the tensors of a checkpoint, and for all that speaks of them.

use crate::inventory::{Framework, Inventory};

/// What holds a model where a training loop is a module itself: Lightning's, as `self.model = …` makes it.
const HOLDER: &str = "model.";

/// Renames tensors, the types that are known of them, and the optimizer's groups.
pub(crate) fn rename(inventory: &mut Inventory, new: &dyn Fn(&str) -> String) {
    for stored in &mut inventory.tensors {
        stored.name = new(&stored.name);
    }
    let aliases = std::mem::take(&mut inventory.aliases);
    inventory.aliases =
        aliases.iter().map(|(alias, original)| (new(alias), new(original))).collect();
    let own_types = std::mem::take(&mut inventory.own_types);
    inventory.own_types = own_types.into_iter().map(|(name, dtype)| (new(&name), dtype)).collect();
    for group in inventory.optimizer.iter_mut().flat_map(|optimizer| &mut optimizer.groups) {
        for name in group.params.iter_mut().chain(&mut group.stored) {
            *name = new(name);
        }
        let steps = std::mem::take(&mut group.steps);
        group.steps = steps.into_iter().map(|(name, step)| (new(&name), step)).collect();
    }
}

/// A checkpoint without the `model.` before its names, where all have it. Whether it belongs to them, only
/// who knows models can say.
///
/// Not of folders that say themselves whose names they have: transformers' and universal ones.
pub fn unheld(inventory: &Inventory) -> Option<Inventory> {
    let says = matches!(inventory.framework, Framework::HuggingFace | Framework::Universal);
    let bare = |name: &str| name.strip_prefix(HOLDER).is_some_and(|rest| !rest.is_empty());
    let all = inventory.tensors.iter().all(|stored| bare(&stored.name));
    if says || inventory.tensors.is_empty() || !all || !inventory.adapters.is_empty() {
        return None;
    }
    let mut unheld = inventory.clone();
    rename(&mut unheld, &|name| name.strip_prefix(HOLDER).unwrap_or(name).to_owned());
    unheld.notes.push(
        "A wrapper prefix (`model.`, of the module that held the model) was taken off the names."
            .to_owned(),
    );
    Some(unheld)
}
