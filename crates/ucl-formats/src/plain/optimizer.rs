//! A torch optimizer beside whole weights, as transformers' Trainer and Accelerate leave it.

use crate::huggingface::trainer_step;
use crate::inventory::{Problem, SourceFile, Survey};
use crate::locate::{Content, sniff};
use crate::named::unreadable;
use crate::optimizer::{Model, Saved, is_optimizer, merge, unread};
use crate::torch::TorchFile;
use indexmap::IndexMap;
use std::path::Path;

/// What the Trainer calls the file, and what Accelerate does.
const NAMES: [&str; 2] = ["optimizer.pt", "optimizer.bin"];

/// Takes in the optimizer's states. `ordered` says that the weights stand in the order of the modules.
pub(super) fn take(root: &Path, ordered: bool, survey: &mut Survey) {
    survey.inventory.step = trainer_step(root).or(survey.inventory.step);
    // What is wrong with the weights comes first.
    if !survey.problems.is_empty() {
        return;
    }
    let paths = NAMES.iter().map(|name| root.join(name));
    for path in paths.filter(|path| path.is_file()) {
        let torch = matches!(sniff(&path), Ok(Content::TorchZip | Content::TorchLegacy));
        if torch && let Err(problem) = read(&path, ordered, survey) {
            unread(&mut survey.inventory, problem);
        }
    }
}

fn read(path: &Path, ordered: bool, survey: &mut Survey) -> Result<(), Problem> {
    let torch = TorchFile::open(path).map_err(unreadable)?;
    if !is_optimizer(torch.value.root()) {
        return Ok(());
    }
    let saved = Saved::read(&torch, torch.value.root(), &mut survey.problems);
    let inventory = &mut survey.inventory;
    let weights = inventory.tensors.iter().filter(|tensor| tensor.dtype.is_float());
    let shapes: IndexMap<String, Vec<u64>> =
        weights.map(|tensor| (tensor.name.clone(), tensor.shape.clone())).collect();
    let bytes = path.metadata().map_or(0, |metadata| metadata.len());
    let file = inventory.files.len() as u32;
    let header_bytes = torch.header_bytes_read;
    inventory.files.push(SourceFile { path: path.to_owned(), bytes, header_bytes });
    let model = Model { shapes: &shapes, ordered };
    merge(&[(path, file, &saved)], &model, inventory, &mut survey.problems);
    Ok(())
}
