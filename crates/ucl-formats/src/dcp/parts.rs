//! Accelerate's sharded saves, which the Trainer writes too: the model and the optimizer are a save each,
//! in folders beside each other.
//!
//! Source: `accelerate.utils.fsdp_utils` (`pytorch_model_fsdp_0`, `optimizer_0`).

use super::metadata::METADATA;
use crate::huggingface::{model_files, other_entries, trainer_step};
use crate::inventory::{Inventory, Problem};
use crate::listed::listed;
use crate::ranks::{name_of, number};
use std::fs;
use std::path::{Path, PathBuf, absolute};

const MODEL: &str = "pytorch_model_fsdp_";
const OPTIMIZER: &str = "optimizer_";

/// Whether an entry of a folder is a model that Accelerate saved in shards.
pub(crate) fn is_model_part(folder: &Path, name: &str) -> bool {
    numbered(name, MODEL).is_some() && is_save(&folder.join(name))
}

/// The folders that a checkpoint is in: its model's and its optimizer's, or itself.
///
/// # Errors
/// There are several models.
pub(super) fn roots(folder: &Path) -> Result<Vec<PathBuf>, Problem> {
    let parts = |prefix: &str| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut found: Vec<(u64, PathBuf)> = names
            .filter_map(|name| Some((numbered(&name, prefix)?, folder.join(name))))
            .filter(|(_, path)| is_save(path))
            .collect();
        found.sort();
        found
    };
    let mut models = parts(MODEL);
    if models.is_empty() || is_save(folder) {
        return Ok(vec![folder.to_owned()]);
    }
    if models.len() > 1 {
        let names: Vec<String> = models.iter().map(|(_, path)| name_of(path)).collect();
        let message = format!("there are {} models here", names.len());
        return Err(Problem::new(folder, message)
            .help(format!("Give one of them, which is its weights: {}.", listed(&names, ", "))));
    }
    models.extend(parts(OPTIMIZER));
    Ok(models.into_iter().map(|(_, path)| path).collect())
}

/// What lies around the folders, where they are Accelerate's: the Trainer's step, and what is not taken.
pub(super) fn around(folder: &Path, roots: &[PathBuf], inventory: &mut Inventory) {
    if roots.iter().any(|root| root != folder) {
        inventory.step = trainer_step(folder).or(inventory.step);
        let mut others = other_entries(folder, &model_files(folder));
        others.retain(|name| !roots.iter().any(|root| name_of(root) == *name));
        if !others.is_empty() {
            let others = listed(&others, ", ");
            let note = format!("Not taken along, as it is not the model's: {others}.");
            inventory.notes.push(note);
        }
        return;
    }
    // A name may be `.`.
    let Ok(whole) = absolute(folder) else { return };
    let (Some(own), Some(above)) = (numbered(&name_of(&whole), MODEL), whole.parent()) else {
        return;
    };
    inventory.step = trainer_step(above).or(inventory.step);
    let optimizer = format!("{OPTIMIZER}{own}");
    if is_save(&above.join(&optimizer)) {
        inventory.notes.push(format!(
            "`{optimizer}` beside it was not taken: give the folder that holds both for the optimizer's \
             states."
        ));
    }
}

fn numbered(name: &str, prefix: &str) -> Option<u64> {
    number(name.strip_prefix(prefix)?)
}

/// Whether a folder holds a sharded save, perhaps one that was not finished.
fn is_save(folder: &Path) -> bool {
    let entries = || fs::read_dir(folder).into_iter().flatten().flatten();
    let shard = |name: &str| name.ends_with(".distcp");
    folder.join(METADATA).is_file()
        || entries().any(|entry| shard(&entry.file_name().to_string_lossy()))
}
