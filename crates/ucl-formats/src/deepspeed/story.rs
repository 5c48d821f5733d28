//! What a step says of itself: framework, versions, step, arguments, and what a person should know.

use super::laid::{Laid, ROUND_ROBIN};
use super::mesh::Step;
use super::model::ModelFile;
use crate::inventory::{Framework, Inventory, Problem};
use crate::ranks::Opened;
use crate::ranks::{MIXED, agreed};
use serde_json::{Map, Value as Json};
use std::collections::{BTreeMap, BTreeSet};

/// Fills in everything but tensors; gives the name of the optimizer's wrapper.
pub(super) fn tell(
    step: &Step<'_>,
    layers: &[((u64, u64), Opened<ModelFile>)],
    inventory: &mut Inventory,
    problems: &mut Vec<Problem>,
) -> String {
    let models = || step.models.iter().map(|(_, model)| &model.content);
    let shards = || step.shards.iter().map(|(_, shard)| &shard.content);
    let said = step.models.iter().filter_map(|(_, model)| Some((model.content.step?, &model.path)));
    inventory.step = agreed(said, problems, |theirs, witness, usual| {
        format!("it is of step {theirs}, {witness} is of step {usual}")
    });
    let versions = models().map(|model| &model.version).chain(shards().map(|s| &s.version));
    inventory.version = versions.flatten().next().cloned();
    documents(step, inventory);
    let megatron = is_megatron(step, !layers.is_empty());
    inventory.framework =
        if megatron { Framework::MegatronDeepSpeed } else { Framework::DeepSpeed };

    let bf16 = !step.shards.is_empty() && shards().all(|shard| shard.stage.is_none());
    let recorded = || models().find_map(|model| model.zero.get("stage")?.as_u64());
    let stage = shards().find_map(|shard| shard.stage).or_else(recorded);
    let optimizer = match (bf16, step.shards.is_empty(), stage) {
        _ if step.partitioned => "ZeRO-3".to_owned(),
        (true, ..) => BF16_OPTIMIZER.to_owned(),
        (false, false, stage) => format!("ZeRO-{}", stage.unwrap_or(1)),
        (false, true, _) => "without ZeRO".to_owned(),
    };
    let framework = if megatron { "Megatron-DeepSpeed" } else { "DeepSpeed" };
    let wrapper = if bf16 { format!("ZeRO-1, {optimizer}") } else { optimizer.clone() };
    let pipeline = if layers.is_empty() { "" } else { ", pipeline" };
    let mixed = !step.files.experts.is_empty() || models().any(|m| m.num_experts.is_some());
    let mixture = if mixed { ", mixture of experts" } else { "" };
    inventory.kind = format!("{framework} {wrapper}{pipeline}{mixture}");
    per_parameter(step, !layers.is_empty(), problems);
    notes(step, layers, inventory);
    optimizer
}

/// The wrapper that has no stage.
pub(super) const BF16_OPTIMIZER: &str = "BF16_Optimizer";

/// Arguments by which Megatron's are known.
pub(super) const MEGATRONS: [&str; 3] = ["num_layers", "hidden_size", "num_attention_heads"];

/// What Megatron says of its parameters, and what it is not if DeepSpeed's own cut says it.
pub(super) const PATTERNS: (&str, &str) =
    ("vocabulary_parameter_patterns", "autotp_unsupported_parameter_patterns");

/// Megatron's own arguments or a file per layer; the number of tensor ranks alone says nothing, since
/// DeepSpeed cuts other people's models too.
fn is_megatron(step: &Step<'_>, layered: bool) -> bool {
    let models = || step.models.iter().map(|(_, model)| &model.content);
    let by_args = models().any(|model| {
        let has = |key| model.args.as_ref().is_some_and(|args| args.contains_key(key));
        MEGATRONS.into_iter().all(has)
    });
    let by_patterns = models().any(|model| {
        let has = |key| model.universal.as_ref().is_some_and(|info| info.contains_key(key));
        has(PATTERNS.0) && !has(PATTERNS.1)
    });
    by_args || by_patterns || layered
}

fn documents(step: &Step<'_>, inventory: &mut Inventory) {
    let models = || step.models.iter().map(|(_, model)| &model.content);
    let universal = models().find_map(|model| model.universal.clone());
    let mut args: Map<String, Json> =
        models().find_map(|model| model.args.clone()).unwrap_or_default();
    for key in ["original_vocab_size", "padded_vocab_size"] {
        if let Some(size) = universal.as_ref().and_then(|info| info.get(key)) {
            args.insert(key.to_owned(), size.clone());
        }
    }
    if let Some(version) = models().find_map(|model| model.checkpoint_version.clone()) {
        args.insert("checkpoint_version".to_owned(), version);
    }
    if !args.is_empty() {
        inventory.documents.insert("args".to_owned(), args);
    }
    if let Some(universal) = universal {
        inventory.documents.insert("universal_checkpoint_info".to_owned(), universal);
    }
}

/// Without ZeRO the states are numbered, and of a pipeline's stage nothing tells the parameters.
fn per_parameter(step: &Step<'_>, layered: bool, problems: &mut Vec<Problem>) {
    let whole = |model: &ModelFile| layered && model.optimizer.is_some();
    for (_, model) in step.models.iter().filter(|(_, model)| whole(&model.content)) {
        problems.push(
            Problem::new(
                &model.path,
                "this version can't read the optimizer of a pipeline without ZeRO: its states are \
                 numbered and not named",
            )
            .help("Train one step with ZeRO stage 1 and save: that names the states."),
        );
    }
}

fn notes(step: &Step<'_>, layers: &[((u64, u64), Opened<ModelFile>)], inventory: &mut Inventory) {
    let models = || step.models.iter().map(|(_, model)| &model.content);
    let all = || models().chain(layers.iter().map(|(_, layer)| &layer.content));
    let shards = || step.shards.iter().map(|(_, shard)| &shard.content);
    let mut note = |text: String| inventory.notes.push(text);
    if all().any(|model| model.wrapped) {
        note("Wrapper prefixes (`module.`, `_orig_mod.`) were taken off the names.".to_owned());
    }
    if models().any(|model| model.zero.get(ROUND_ROBIN) == Some(&Json::Bool(true))) {
        note(
            "round_robin_gradients: flat buffers are in the order of `param_shapes`, which \
             `param_slice_mappings` do not follow."
                .to_owned(),
        );
    }
    let gaps: u64 = shards().flat_map(|s| s.gaps.iter().flatten().flatten()).sum();
    if gaps > 0 {
        note(
            "Parameters are aligned inside the flat buffers: the gaps between them are padding."
                .to_owned(),
        );
    }
    if shards().any(|shard| shard.elastic) {
        note(
            "The optimizer's states are elastic: saved without padding or hyper-parameters."
                .to_owned(),
        );
    }
    if let Some(scale) = shards().find_map(|shard| shard.loss_scale) {
        note(format!("A dynamic loss scaler stands at {scale}; it goes along as it is."));
    }
    if let Some(skipped) = models().map(|model| model.skipped).max().filter(|skipped| *skipped > 0)
    {
        note(format!("{skipped} steps were skipped by the loss scaler."));
    }
    let random = step.models.iter().filter(|((_, dp), model)| *dp > 0 && model.content.random);
    if random.count() > 0 {
        note(
            "Each data rank saved random states of its own: those of the first go along."
                .to_owned(),
        );
    }
    let others: usize = models().map(|model| model.others.len()).sum();
    if let Some(first) = models().find_map(|model| model.others.first()) {
        note(format!(
            "{others} entries of the module are no tensors and are left out, such as `{first}`."
        ));
    }
    let unchecked =
        all().filter(|model| model.unchecked).count() + shards().filter(|s| s.unchecked).count();
    if unchecked > 0 {
        note(format!("{unchecked} files have no checksums: damage to their data can't be seen."));
    }
}

/// Says over how many ranks experts are spread.
pub(super) fn spread(laid: &[Laid<'_>], inventory: &mut Inventory) {
    let mut sharing: BTreeMap<(u64, usize), u64> = BTreeMap::new();
    for group in laid.iter().filter(|group| group.experts) {
        *sharing.entry((group.mp, group.index)).or_default() += 1;
    }
    let over: BTreeSet<String> = sharing.values().filter(|n| **n > 1).map(u64::to_string).collect();
    if !over.is_empty() {
        let over: Vec<String> = over.into_iter().collect();
        inventory.notes.push(format!(
            "Experts are spread over {} ranks, each of which numbers its own from 0; here their \
             numbers are those over all ranks.",
            over.join(" and ")
        ));
    }
}

/// Compares the step of the model files with the folder's name (DeepSpeed calls it `global_step<N>`
/// unless it is told another name) and with the optimizer's own count. Two against one is a problem.
pub(super) fn steps(step: &Step<'_>, inventory: &mut Inventory, problems: &mut Vec<Problem>) {
    let Some(found) = inventory.step else { return };
    let name = step.root.file_name().unwrap_or_default().to_string_lossy();
    let tagged = name.strip_prefix("global_step").and_then(|number| number.parse::<u64>().ok());
    let groups = inventory.optimizer.iter().flat_map(|optimizer| &optimizer.groups);
    let counts = groups.filter_map(|group| group.step.as_ref()?.as_f64());
    let counted =
        counts.fold(None, |most: Option<f64>, count| Some(most.map_or(count, |m| m.max(count))));
    let skipped = step.models.iter().map(|(_, model)| model.content.skipped).max().unwrap_or(0);
    let fits = |step: u64| {
        let without = step.saturating_sub(skipped) as f64;
        counted.is_some_and(|counted| counted == step as f64 || counted == without)
    };
    match tagged {
        Some(tagged) if tagged != found && fits(tagged) => {
            for (_, model) in step.models.iter().filter(|(_, m)| m.content.step == Some(found)) {
                let message = format!(
                    "it is of step {found}, the optimizer's shards and the folder {name} are of step {tagged}"
                );
                problems.push(Problem::new(&model.path, message).help(MIXED));
            }
        }
        Some(tagged) if tagged != found => {
            let note = format!("The folder is called {name}, its files are of step {found}.");
            inventory.notes.push(note);
        }
        _ => {}
    }
    if let Some(counted) = counted.filter(|_| !fits(found) && tagged.is_none_or(|t| t == found)) {
        let note =
            format!("The model files are of step {found}, the optimizer has counted {counted}.");
        inventory.notes.push(note);
    }
}
