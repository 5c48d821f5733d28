//! Plain files of named tensors: one safetensors or torch file, or a folder of shards.

mod folder;
mod index;
mod optimizer;

use crate::inventory::{
    Data, FileId, Framework, Inventory, Mesh, Problem, Role, SourceFile, Stored, Survey, row_major,
};
use crate::listed::listed;
use crate::locate::{Content, neither, sniff};
use crate::named::{Storages, place, unreadable, weights};
use crate::safetensors::read_header;
use crate::torch::{TorchFile, Value};
use std::path::Path;

pub use folder::{is_weight_file, survey_folder};
pub use optimizer::in_order;

/// Reads the header of one file of tensors.
pub fn survey_file(path: &Path) -> Survey {
    let mut survey = Survey::default();
    survey.inventory.root = path.to_owned();
    survey.inventory.framework = Framework::Files;
    read(path, &mut survey.inventory, &mut survey.problems);
    forget_format(&mut survey.inventory);
    survey.problems.extend(ungathered(&survey.inventory));
    survey.inventory.kind = kind_of(path).to_owned();
    survey
}

/// Weights of no elements: under ZeRO-3 a module holds such until its weights are gathered.
fn ungathered(inventory: &Inventory) -> Option<Problem> {
    let empty = |stored: &&Stored| stored.shape == [0] && stored.name.ends_with("weight");
    let names: Vec<&str> =
        inventory.tensors.iter().filter(empty).map(|stored| stored.name.as_str()).collect();
    if names.is_empty() {
        return None;
    }
    let message = format!(
        "{} of {} tensors are weights of size [0]: {}. They were saved under ZeRO-3 before they were gathered",
        names.len(),
        inventory.tensors.len(),
        listed(&names, ", ")
    );
    let help = "Their values are in the ranks' files of the ZeRO-3 checkpoint: give its folder. Or save again with the weights gathered (DeepSpeed-Chat: what `save_zero_three_model` writes last; transformers: stage3_gather_16bit_weights_on_model_save).";
    Some(Problem::new(&inventory.root, message).help(help))
}

/// That a file is torch's is no news.
fn forget_format(inventory: &mut Inventory) {
    if inventory.metadata.len() == 1 && inventory.metadata.get("format").is_some_and(|f| f == "pt")
    {
        inventory.metadata.clear();
    }
}

fn kind_of(path: &Path) -> &'static str {
    match sniff(path) {
        Ok(Content::Safetensors) => "safetensors",
        _ => "torch file",
    }
}

/// Adds the tensors of one file; its format is told from its bytes.
fn read(path: &Path, inventory: &mut Inventory, problems: &mut Vec<Problem>) {
    let done = match sniff(path) {
        Ok(Content::TorchZip | Content::TorchLegacy) => read_torch(path, inventory, problems),
        Ok(Content::Unknown) if !is_safetensors(path) => Err(neither(path)),
        Ok(_) => read_safetensors(path, inventory),
        Err(problem) => Err(problem),
    };
    problems.extend(done.err());
}

/// Whether a name promises safetensors, so that what is wrong with the header is worth telling.
fn is_safetensors(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "safetensors")
}

fn read_safetensors(path: &Path, inventory: &mut Inventory) -> Result<(), Problem> {
    let header = read_header(path)?;
    let source =
        SourceFile { path: path.to_owned(), bytes: header.bytes, header_bytes: header.data };
    let file = add(inventory, source);
    for (key, value) in header.metadata {
        let known = inventory.metadata.entry(key).or_insert_with(|| value.clone());
        if *known != value {
            let message = format!(
                "The files differ in their metadata; {known:?} counts, {value:?} does not."
            );
            inventory.notes.push(message);
        }
    }
    for tensor in header.tensors {
        let strides = row_major(&tensor.shape);
        let data = Data::Strided { file, offset: tensor.offset, strides };
        inventory.tensors.push(stored(tensor.name, tensor.dtype, tensor.shape, data));
    }
    Ok(())
}

fn read_torch(
    path: &Path,
    inventory: &mut Inventory,
    problems: &mut Vec<Problem>,
) -> Result<(), Problem> {
    let torch = TorchFile::open(path).map_err(unreadable)?;
    let bytes = path.metadata().map_or(0, |metadata| metadata.len());
    let header_bytes = torch.header_bytes_read;
    let file = add(inventory, SourceFile { path: path.to_owned(), bytes, header_bytes });
    let (mut wrapped, mut others) = (false, Vec::new());
    let under = state_dict(torch.value.root());
    let weights = weights(&torch, under, &mut wrapped, &mut others, problems);
    if !others.is_empty() {
        let others = listed(&others, ", ");
        inventory.notes.push(format!("Left out, as it is no named tensor: {others}."));
    }
    if weights.is_empty() {
        return Err(Problem::new(path, "it holds no named tensors")
            .help("Give the file that holds the model's weights, by name."));
    }
    if wrapped {
        inventory.notes.push(
            "Wrapper prefixes (`module.`, `_orig_mod.`) were taken off the names.".to_owned(),
        );
    }
    let mut storages = Storages::new();
    for weight in weights {
        let extent = weight.extent;
        if let Some(original) = storages.original(place(&extent), || weight.name.clone()) {
            inventory.aliases.insert(weight.name, original.clone());
            continue;
        }
        let data = Data::Strided { file, offset: extent.file_offset, strides: extent.strides };
        inventory.tensors.push(stored(weight.name, extent.dtype, extent.shape, data));
    }
    Ok(())
}

/// Training scripts put the tensors under one of these keys, beside other things.
pub(crate) fn state_dict(root: Value<'_>) -> Value<'_> {
    let direct = root.pairs().into_iter().flatten().any(|(_, value)| value.as_tensor().is_some());
    let below = || ["module", "state_dict", "model"].iter().find_map(|key| root.get(key));
    let below = if direct { None } else { below() };
    below.filter(|value| value.as_dict().is_some()).unwrap_or(root)
}

fn add(inventory: &mut Inventory, source: SourceFile) -> FileId {
    inventory.files.push(source);
    (inventory.files.len() - 1) as FileId
}

fn stored(name: String, dtype: ucl_tensor::DType, shape: Vec<u64>, data: Data) -> Stored {
    let state = "param".to_owned();
    Stored { name, state, dtype, shape, at: Mesh::new(), role: Role::Trained, data }
}
