//! Sharded saves of PyTorch (DCP) and of Megatron-core (`torch_dist`), which is built on them.
//!
//! `.metadata` lists whole tensors and their chunks; the chunks are items of `__{rank}_{n}.distcp`
//! files. Reading goes: [`metadata`] (the lists), [`items`] (where the elements of each chunk lie),
//! [`crate::grid`] (the chunks tile the tensor), [`folder`] (all of these for one folder), and then, by who
//! wrote it, [`tree`] and [`states`] or [`megatron`].

mod folder;
mod huggingface;
mod items;
mod megatron;
mod metadata;
mod optimizer;
mod parts;
mod states;
mod tree;
pub(crate) mod write;

use crate::inventory::{Framework, Inventory, Problem, Survey};
use std::path::{Path, PathBuf};

pub(crate) use folder::Sharded;
pub(crate) use huggingface::is_shard;
pub(crate) use items::items_of;
pub(crate) use megatron::write as torch_dist;
pub(crate) use parts::is_model_part;
pub(crate) use states::collect;
pub(crate) use write::lay_out;

/// How the kind of PyTorch's own saves begins.
const KIND: &str = "PyTorch DCP";

/// Reads the headers of all files of a sharded save.
pub(crate) fn survey(root: &Path) -> Survey {
    let mut inventory = Inventory { root: root.to_owned(), ..Inventory::default() };
    let megatron = megatron::is_megatron(root);
    inventory.framework =
        if megatron { Framework::MegatronDist } else { Framework::TorchDistributed };
    let mut problems = Vec::new();
    let shards = huggingface::shards(root);
    if !shards.is_empty() && !root.join(metadata::METADATA).is_file() {
        inventory.kind = format!("{KIND}, safetensors in {} files", shards.len());
        huggingface::survey(&shards, &mut inventory, &mut problems);
        return Survey { inventory, problems };
    }
    let roots = parts::roots(root).unwrap_or_else(|problem| {
        problems.push(problem);
        Vec::new()
    });
    problems.extend(roots.iter().filter_map(|root| unfinished(root)));
    if !problems.is_empty() {
        inventory.kind = if megatron { "Megatron-core" } else { KIND }.to_owned();
        return Survey { inventory, problems };
    }
    let paths: Vec<&Path> = roots.iter().map(PathBuf::as_path).collect();
    let Some(folder) = Sharded::read_all(&paths, &mut inventory.files, &mut problems) else {
        inventory.kind = if megatron { "Megatron-core torch_dist" } else { KIND }.to_owned();
        return Survey { inventory, problems };
    };
    if megatron || megatron::holds_megatron(&folder) {
        megatron::survey(&folder, &mut inventory, &mut problems);
    } else {
        let files = inventory.files.len().saturating_sub(roots.len());
        inventory.optimizer = collect(&folder, &mut inventory, &mut problems);
        inventory.step = step(&folder);
        let plural = if files == 1 { "" } else { "s" };
        inventory.kind = format!("{KIND}, {files} file{plural}");
        megatron::fsdp(&folder, &mut inventory, &mut problems);
        parts::around(root, &roots, &mut inventory);
    }
    Survey { inventory, problems }
}

/// The step that a script saved beside its state dicts. An object of another kind is none.
fn step(folder: &Sharded) -> Option<u64> {
    let file = folder.objects.get("step")?.open().ok()?;
    file.value.root().as_u64()
}

/// `.metadata` is written last.
fn unfinished(root: &Path) -> Option<Problem> {
    if root.join(metadata::METADATA).is_file() {
        return None;
    }
    if let Some(problem) = megatron::other_backend(root) {
        return Some(problem);
    }
    let message = "there is no .metadata, which is written last: the save was not finished, or the file \
                   was not copied (its name begins with a dot)";
    Some(
        Problem::new(root, message)
            .help("Copy the folder with all its files, or give another step."),
    )
}
