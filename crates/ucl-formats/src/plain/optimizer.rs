//! A torch optimizer beside whole weights, as transformers' Trainer and Accelerate leave it.

use crate::huggingface::trainer_step;
use crate::inventory::{Problem, SourceFile, Survey};
use crate::locate::{Content, sniff};
use crate::named::unreadable;
use crate::optimizer::{Model, Order, Saved, is_optimizer, left_out, merge, unread};
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
    let order = ordered.then_some(Order::Files);
    let paths = NAMES.iter().map(|name| root.join(name));
    for path in paths.filter(|path| path.is_file()) {
        let torch = matches!(sniff(&path), Ok(Content::TorchZip | Content::TorchLegacy));
        if torch && let Err(problem) = read(&path, None, order, survey) {
            unread(&mut survey.inventory, problem);
        }
    }
}

/// Reads numbered states again, given the names of the model's parameters in the order of its modules, as
/// a view says it; `view` is that in words. The shapes have to allow this one order only, or the states stay
/// left out, and the note says why.
pub fn in_order(names: &[String], view: &str, survey: &mut Survey) {
    for path in std::mem::take(&mut survey.inventory.unordered) {
        let note = left_out(&path);
        survey.inventory.notes.retain(|known| !known.starts_with(&note));
        if let Err(problem) = read(&path, Some(names), Some(Order::View(view)), survey) {
            unread(&mut survey.inventory, problem);
        }
    }
}

/// Reads a file of states; `names` are all parameters, in order, if that is not the order of the weights.
fn read(
    path: &Path,
    names: Option<&[String]>,
    order: Option<Order<'_>>,
    survey: &mut Survey,
) -> Result<(), Problem> {
    let torch = TorchFile::open(path).map_err(unreadable)?;
    if !is_optimizer(torch.value.root()) {
        return Ok(());
    }
    let saved = Saved::read(&torch, torch.value.root(), &mut survey.problems);
    let inventory = &mut survey.inventory;
    let weights = inventory.tensors.iter().filter(|tensor| tensor.dtype.is_float());
    let mut shapes: IndexMap<String, Vec<u64>> =
        weights.map(|tensor| (tensor.name.clone(), tensor.shape.clone())).collect();
    if let Some(names) = names {
        let named = names.iter().filter_map(|name| shapes.swap_remove_entry(name));
        shapes = named.collect();
    }
    let known = inventory.files.iter().position(|known| known.path == path);
    let file = known.unwrap_or(inventory.files.len()) as u32;
    if known.is_none() {
        let bytes = path.metadata().map_or(0, |metadata| metadata.len());
        let header_bytes = torch.header_bytes_read;
        inventory.files.push(SourceFile { path: path.to_owned(), bytes, header_bytes });
    }
    let model = Model { shapes: &shapes, order };
    merge(&[(path, file, &saved)], &model, inventory, &mut survey.problems);
    Ok(())
}
