//! A step that DeepSpeed's engine saved: ZeRO-1, ZeRO-2, BF16_Optimizer or no ZeRO, with or without
//! the tensor and pipeline ranks of Megatron-DeepSpeed and mixtures of experts.
//!
//! Each `mp` rank (stage and tensor rank) has a model file with the shapes of its parameters in the
//! order of the flat buffers; each data rank has a shard with its part of those buffers. A pipeline
//! keeps its weights in a file per layer instead.
//!
//! The order is always that of `param_shapes`. The shards' `param_slice_mappings` are not read: under
//! `round_robin_gradients` they name other parameters than the ones that are there.

mod agree;
mod experts;
mod flat;
mod groups;
mod laid;
mod mesh;
mod model;
mod names;
mod open;
mod plain;
mod shard;
mod states;
mod story;
#[cfg(test)]
mod synth;
#[cfg(test)]
mod tests;
pub(crate) mod universal;
mod unsharded;
mod weights;
pub mod write;

use crate::inventory::{Carried, Framework, Inventory, Problem, Survey};
use experts::Experts;
use mesh::Step;
use model::ModelFile;
use names::{Files, RankFile};
use open::{Opened, open_all};
use shard::Shard;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use unsharded::Whole;
use weights::Read;

/// Whether a name is one that DeepSpeed's engine gives to a rank's file.
pub fn is_rank_file(name: &str) -> bool {
    RankFile::parse(name).is_some()
}

/// Reads the headers of all files of a step.
pub fn survey(root: &Path) -> Survey {
    let mut inventory = Inventory { root: root.to_owned(), ..Inventory::default() };
    inventory.framework = Framework::DeepSpeed;
    let mut problems = Vec::new();
    let files = Files::scan(root, &mut problems);
    let unread = unsupported(root, &files);
    if !unread.is_empty() {
        inventory.kind = unread.iter().map(|(kind, _)| *kind).collect::<Vec<_>>().join(", ");
        problems.extend(unread.into_iter().map(|(_, problem)| problem));
        return Survey { inventory, problems };
    }
    let mut models =
        open_all(&listed(&files.models), &mut inventory, &mut problems, ModelFile::read);
    let layers =
        open_all(&listed(&files.layers), &mut inventory, &mut problems, ModelFile::read_layer);
    let mut of_experts =
        open_all(&listed(&files.experts), &mut inventory, &mut problems, ModelFile::read_layer);
    let mut shards = open_all(&listed(&files.shards), &mut inventory, &mut problems, Shard::read);
    if shards.iter().any(|(_, shard)| shard.content.stage == Some(3)) {
        let (kind, problem) = stage3(root);
        inventory.kind = kind.to_owned();
        problems.push(problem);
        return Survey { inventory, problems };
    }
    let step = Step { root, files: &files, models: &models, shards: &shards };
    let degrees = step.degrees(&mut problems);
    // Files of surplus ranks are named; they belong to nothing.
    models.retain(|(mp, _)| *mp < degrees.pp * degrees.tp);
    shards.retain(|((mp, dp), _)| *mp < degrees.pp * degrees.tp && *dp < degrees.dp);
    let wholes = open_all(
        &listed(&files.expert_optimizers),
        &mut inventory,
        &mut problems,
        |file, problems| Whole::read(file, file.value.root().get("optimizer")?, problems),
    );
    of_experts.retain(|(file, _)| file.mp < degrees.pp * degrees.tp);
    let step = Step { root, files: &files, models: &models, shards: &shards };
    let optimizer = story::tell(&step, &layers, &mut inventory, &mut problems);
    inventory.mesh = degrees.mesh();
    let experts = Experts::of(&of_experts, &step, degrees, &mut problems);
    if experts.whole {
        inventory.mesh.insert("etp".to_owned(), 1);
    }
    let laid = laid::lay(&models, &shards, &experts, degrees, &mut problems);
    story::spread(&laid, &mut inventory);
    let read = Read { models: &models, layers: &layers, files: &of_experts, experts: &experts };
    weights::collect(&laid, &read, degrees, &mut inventory, &mut problems);
    states::collect(&laid, &shards, &mut inventory, &mut problems);
    inventory.optimizer = groups::optimizer(&laid, &shards, &optimizer, &mut problems);
    if inventory.optimizer.is_none() && layers.is_empty() {
        let sources =
            unsharded::sources(&models, &wholes, &of_experts, &experts, degrees, &mut problems);
        inventory.optimizer = unsharded::collect(&sources, &mut inventory, &mut problems);
    }
    story::steps(&step, &mut inventory, &mut problems);
    inventory.carried = carried(&models, &shards);
    Survey { inventory, problems }
}

fn listed<K: Copy>(files: &BTreeMap<K, PathBuf>) -> Vec<(K, PathBuf)> {
    files.iter().map(|(key, path)| (*key, path.clone())).collect()
}

/// Layouts that are known and not read yet.
fn unsupported(root: &Path, files: &Files) -> Vec<(&'static str, Problem)> {
    let mut problems = Vec::new();
    if !files.stage3.is_empty() {
        problems.push(stage3(root));
    }
    if files.offloaded {
        let problem = Problem::new(
            root.join("offloaded_tensors"),
            "this version can't read optimizer states that were swapped to NVMe: the shards \
             themselves are empty",
        )
        .help("Load the step once with the offload switched off and save it again.");
        problems.push(("DeepSpeed, offloaded to NVMe", problem));
    }
    problems
}

fn stage3(root: &Path) -> (&'static str, Problem) {
    let message = "this version can't read ZeRO-3, where each parameter is cut over all ranks";
    let help = "DeepSpeed's `zero_to_fp32.py --safe_serialization`, which lies beside `latest`, \
                writes the weights as safetensors, which can be read.";
    ("DeepSpeed ZeRO-3", Problem::new(root, message).help(help))
}

/// Where a model file has what was converted; the optimizer's only without ZeRO.
const WHOLE: [&[&str]; 6] = [
    &["module"],
    &["frozen_param_fragments"],
    &["optimizer", "state"],
    &["optimizer", "optimizer_state_dict", "state"],
    &["optimizer", "fp32_groups"],
    &["optimizer", "fp32_groups_flat"],
];

/// What goes along as it is: schedulers, random states, arguments, whatever a script put in.
fn carried(
    models: &[(u64, Opened<ModelFile>)],
    shards: &[((u64, u64), Opened<Shard>)],
) -> Vec<Carried> {
    let models = models.iter().map(|(_, model)| {
        Carried::of(
            &model.path,
            if model.content.optimizer.is_some() { &WHOLE[..] } else { &WHOLE[..2] },
        )
    });
    let first = shards.iter().filter(|((_, dp), _)| *dp == 0);
    let shards = first.map(|(_, shard)| {
        let states = ["optimizer_state_dict", "base_optimizer_state", "state"];
        // An elastic list of states has nothing beside them.
        let states = if shard.content.elastic { &states[..2] } else { &states[..] };
        let masters = ["optimizer_state_dict", "single_partition_of_fp32_groups"];
        Carried::of(&shard.path, &[states, &masters])
    });
    models.chain(shards).collect()
}

impl Carried {
    fn of(path: &Path, without: &[&[&str]]) -> Carried {
        let owned = |keys: &&[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
        Carried {
            name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            source: path.to_owned(),
            without: without.iter().map(owned).collect(),
        }
    }
}
