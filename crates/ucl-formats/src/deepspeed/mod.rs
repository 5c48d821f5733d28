//! A step that DeepSpeed's engine saved: ZeRO-1, ZeRO-2, BF16_Optimizer or no ZeRO, with or without
//! the tensor and pipeline ranks of Megatron-DeepSpeed and mixtures of experts, and ZeRO-3 (`stage3`).
//!
//! Each `mp` rank (stage and tensor rank) has a model file with the shapes of its parameters in the
//! order of the flat buffers; each data rank has a shard with its part of those buffers. A pipeline
//! keeps its weights in a file per layer instead.
//!
//! The order is always that of `param_shapes`. The shards' `param_slice_mappings` are not read: under
//! `round_robin_gradients` they name other parameters than the ones that are there.

mod experts;
mod flat;
mod groups;
mod join;
mod laid;
mod layout;
mod mesh;
mod model;
mod muon;
mod names;
mod renamed;
mod shard;
mod stage3;
mod stages;
mod states;
mod story;
#[cfg(test)]
mod synth;
#[cfg(test)]
mod tests;
mod tied;
pub(crate) mod universal;
mod unsharded;
mod weights;
pub mod write;

use crate::inventory::{Carried, Framework, Inventory, Problem, Survey};
use crate::ranks::{Opened, name_of, open_all};
use experts::Experts;
use mesh::{Degrees, Step};
use model::ModelFile;
use names::{Files, RankFile};
use shard::Shard;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use unsharded::Whole;
use weights::Read;

/// An `mp` rank (stage and tensor rank), then a data rank.
type Rank = (u64, u64);

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
    let model_files = if files.stage3.is_empty() {
        files.models.iter().map(|(mp, path)| ((*mp, 0), path.clone())).collect()
    } else {
        listed(&files.stage3)
    };
    let mut models = open_all(&model_files, &mut inventory, &mut problems, ModelFile::read);
    let layers =
        open_all(&listed(&files.layers), &mut inventory, &mut problems, ModelFile::read_layer);
    let mut of_experts =
        open_all(&listed(&files.experts), &mut inventory, &mut problems, ModelFile::read_layer);
    let mut shards = open_all(&listed(&files.shards), &mut inventory, &mut problems, Shard::read);
    let partitioned =
        !files.stage3.is_empty() || shards.iter().any(|(_, shard)| shard.content.stage == Some(3));
    let step = Step { root, files: &files, models: &models, shards: &shards, partitioned };
    if let Some(problem) = stage3::unsupported(root, &step).filter(|_| partitioned) {
        inventory.kind = "DeepSpeed ZeRO-3".to_owned();
        problems.push(problem);
        return Survey { inventory, problems };
    }
    let degrees = step.degrees(&mut problems);
    // Files of surplus ranks are named; they belong to nothing.
    models.retain(|((mp, dp), _)| *mp < degrees.pp * degrees.tp && *dp < degrees.dp);
    shards.retain(|((mp, dp), _)| *mp < degrees.pp * degrees.tp && *dp < degrees.dp);
    let wholes = open_all(
        &listed(&files.expert_optimizers),
        &mut inventory,
        &mut problems,
        |file, problems| Whole::read(file, file.value.root().get("optimizer")?, problems),
    );
    of_experts.retain(|(file, _)| file.mp < degrees.pp * degrees.tp);
    let step = Step { root, files: &files, models: &models, shards: &shards, partitioned };
    let optimizer = story::tell(&step, &layers, &mut inventory, &mut problems);
    inventory.mesh = degrees.mesh();
    inventory.stages = stages::stages(&models, degrees.tp);
    renamed::files(&step, &layers, &of_experts, &mut problems);
    if step.without_shards() && models.iter().any(|(_, model)| model.content.shapes.is_some()) {
        let message = "its shards (`*_optim_states.pt`) are missing: only the weights are here";
        let help = "Copy every rank's files into one folder, or convert with `--states weights`.";
        inventory.unread.push(Problem::new(root, message).help(help));
    }
    if partitioned {
        stage3::collect(&step, degrees, &mut inventory, &mut problems);
        let params = |buffer| stage3::params(&step, buffer);
        inventory.optimizer = groups::optimizer(&params, &shards, &optimizer, &mut problems);
    } else {
        let experts = Experts::of(&of_experts, &step, degrees, &mut problems);
        if experts.whole {
            inventory.mesh.insert("etp".to_owned(), 1);
        }
        let laid = laid::lay(&models, &shards, &experts, degrees, &mut problems);
        story::spread(&laid, &mut inventory);
        let read = Read { models: &models, layers: &layers, files: &of_experts, experts: &experts };
        weights::collect(&laid, &read, degrees, &mut inventory, &mut problems);
        states::collect(&laid, &shards, &mut inventory, &mut problems);
        let deals = optimizer != story::BF16_OPTIMIZER;
        let params = |buffer| laid::params(&laid, buffer, deals);
        inventory.optimizer = groups::optimizer(&params, &shards, &optimizer, &mut problems);
        if inventory.optimizer.is_none() && layers.is_empty() {
            let sources =
                unsharded::sources(&models, &wholes, &of_experts, &experts, degrees, &mut problems);
            inventory.optimizer = unsharded::collect(&sources, &mut inventory, &mut problems);
        }
    }
    story::steps(&step, &mut inventory, &mut problems);
    inventory.carried = carried(&models, &shards);
    Survey { inventory, problems }
}

/// Whether so few ranks are here that a wrong number of ranks is likelier: there may be any number of
/// them to walk over, and all that are missing were named.
fn most_are_missing(here: usize, degrees: Degrees) -> bool {
    (here as u64).saturating_mul(2) < degrees.dp
}

fn listed<K: Copy>(files: &BTreeMap<K, PathBuf>) -> Vec<(K, PathBuf)> {
    files.iter().map(|(key, path)| (*key, path.clone())).collect()
}

/// Layouts that are known and not read yet.
fn unsupported(root: &Path, files: &Files) -> Vec<(&'static str, Problem)> {
    let mut problems = Vec::new();
    let whole = files.models.values().chain(files.layers.values()).next();
    if let Some((one, other)) = files.stage3.values().next().zip(whole) {
        let other = name_of(other);
        let message = format!("it is of ZeRO-3, {other} beside it is of another stage");
        let help = "Two runs may have written here: keep the files of one.";
        problems.push(("DeepSpeed", Problem::new(one, message).help(help)));
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
///
/// Under ZeRO-3 every data rank has a model file; the first one's stands for all.
fn carried(models: &[(Rank, Opened<ModelFile>)], shards: &[(Rank, Opened<Shard>)]) -> Vec<Carried> {
    let models = models.iter().filter(|((_, dp), _)| *dp == 0).map(|(_, model)| {
        let without = if model.content.optimizer.is_some() { &WHOLE[..] } else { &WHOLE[..2] };
        Carried::of(&model.path, without)
    });
    let first = shards.iter().filter(|((_, dp), _)| *dp == 0);
    let shards = first.map(|(_, shard)| {
        let (optimizer, masters) = match shard.content.stage {
            Some(3) => ("optimizer_state_dict", "fp32_flat_groups"),
            _ => ("base_optimizer_state", "single_partition_of_fp32_groups"),
        };
        let states = ["optimizer_state_dict", optimizer, "state"];
        // An elastic list of states has nothing beside them.
        let states = if shard.content.elastic { &states[..2] } else { &states[..] };
        Carried::of(&shard.path, &[states, &["optimizer_state_dict", masters]])
    });
    models.chain(shards).collect()
}
