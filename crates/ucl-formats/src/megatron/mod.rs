//! Megatron-LM's `torch` format: a file for each tensor, pipeline and expert rank.
//!
//! Written by `megatron/training/checkpointing.py` as `iter_0001000/mp_rank_01_002_003/model_optim_rng.pt`.
//! The numbers are the tensor rank, the stage where there are stages, the expert rank where there are
//! expert ranks; only the arguments in the file say which of the latter two a second number is. Layers
//! count from 0 in every chunk of a pipeline, experts from 0 in every file; each expert rank repeats what
//! is not an expert's.
//!
//! The optimizer's states have numbers and no names. Which parameter a number means follows from the
//! order of the module, and is taken only where shapes leave nothing open; that masters round to the
//! weights is compared when the data is read.

mod chunks;
mod distributed;
mod mesh;
mod names;
mod optimizer;
mod order;
mod rank;
mod stages;
mod states;
mod story;
mod weights;
mod whose;
pub(crate) mod write;

use crate::inventory::{Carried, Framework, Inventory, Survey};
use crate::ranks::open_all;
use mesh::{Held, Step};
use names::Files;
use rank::RankFile;
use std::path::Path;

pub(crate) use order::{Kinds, is_expert, is_flat};
pub(crate) use story::{settle_vocabulary, unspelled};

/// Reads the headers of all files of a step.
pub(crate) fn survey(root: &Path) -> Survey {
    let mut inventory = Inventory { root: root.to_owned(), ..Inventory::default() };
    inventory.framework = Framework::Megatron;
    let mut problems = Vec::new();
    let files = Files::scan(root, &mut problems);
    let paths: Vec<_> = files.models.values().cloned().enumerate().collect();
    let opened = open_all(&paths, &mut inventory, &mut problems, RankFile::read);
    let step = Step::of(root, &files, opened, &mut problems);
    inventory.mesh = step.degrees.mesh();
    story::tell(&step, &files, &mut inventory, &mut problems);
    stages::check(&step, &mut problems);
    weights::collect(&step, &mut inventory);
    states::collect(&step, &files, &mut inventory, &mut problems);
    inventory.carried = carried(&step);
    Survey { inventory, problems }
}

/// What goes along as it is: schedulers, random states, arguments, a loss scaler.
fn carried(step: &Step<'_>) -> Vec<Carried> {
    let of_rank = |held: &Held| {
        let rank = &held.file;
        let folder = rank.path.parent().and_then(Path::file_name).unwrap_or_default();
        let name = rank.path.file_name().unwrap_or_default();
        Carried {
            name: format!("{}/{}", folder.to_string_lossy(), name.to_string_lossy()),
            slice: None,
            source: rank.path.clone(),
            without: rank.content.taken.clone(),
        }
    };
    step.ranks.iter().map(of_rank).collect()
}
