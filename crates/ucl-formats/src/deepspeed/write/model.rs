//! `mp_rank_XX_model_states.pt` and its relatives: the model's own weights, and everything that is not
//! the optimizer's.

use super::args;
use super::experts::Experts;
use super::partitioned::SubGroups;
use super::share::{Member, Share, shares};
use super::source::{self, Source, copy};
use super::{Place, Zero, size, tag};
use crate::deepspeed::laid::ROUND_ROBIN;
use crate::inventory::Role;
use crate::target::{Buffer, Draft, Held, Run, RunFile, WriteError};
use crate::torch::{Node, NodeId};
use indexmap::IndexMap;
use serde_json::{Value, json};
use ucl_tensor::DType;

/// The file of a rank under stage 1 or 2.
pub(super) fn whole(
    run: &Run<'_>,
    place: &Place<'_>,
    zero: Zero,
    layered: bool,
    (source, experts): (&Source, &Experts),
) -> Result<RunFile, WriteError> {
    let mut draft = Draft::default();
    let tensors = &place.rank.tensors;
    // A pipeline with experts keeps the rest of its weights here, too.
    let module = if layered && experts.is_empty() {
        draft.pickle.none()
    } else {
        let mut entries = Vec::new();
        for (number, held) in tensors.iter().enumerate() {
            if experts.expert(place.at, number).is_none() {
                let buffer = Buffer::whole(run, (place.at, number), "param");
                entries.push((held.trained_name(layered).to_owned(), draft.tensor(buffer)?));
            }
        }
        aliased(&mut entries, place);
        draft.ordered(entries)
    };
    // Of experts the first rank alone tells, its own.
    let shares = shares(run, place, 0, (layered, experts, source.deals(place.mp, zero)));
    let shapes = shapes(&mut draft, &shares, experts);
    // Where gradients are cut, a stage-2 engine records what is frozen, whole.
    let frozen: Vec<&Held> = tensors.iter().filter(|held| held.role == Role::Frozen).collect();
    let (frozen_shapes, fragments) = match zero {
        Zero::Two => {
            let mut entries = Vec::new();
            for (number, held) in tensors.iter().enumerate() {
                if held.role == Role::Frozen {
                    let buffer = Buffer::whole(run, (place.at, number), "param");
                    entries.push((held.name.clone(), draft.tensor(buffer)?));
                }
            }
            (frozen_shapes(&mut draft, &frozen), draft.ordered(entries))
        }
        _ => (draft.pickle.none(), draft.pickle.none()),
    };
    let own = [
        ("module", module),
        ("param_shapes", shapes),
        ("frozen_param_shapes", frozen_shapes),
        ("frozen_param_fragments", fragments),
    ];
    rest(&mut draft, run, (place, 0), (zero, source, experts), own)?;
    let stem = format!("mp_rank_{:02}_model_states", place.mp);
    draft.finish(format!("{}/{stem}.pt", tag(run)), &stem)
}

/// The file of a data-parallel rank under stage 3: parameters are empty, buffers are whole.
pub(super) fn partitioned(
    run: &Run<'_>,
    place: &Place<'_>,
    part: u64,
    (laid, source, experts): (&SubGroups, &Source, &Experts),
) -> Result<RunFile, WriteError> {
    let mut draft = Draft::default();
    let tensors = &place.rank.tensors;
    let (mut entries, mut fragments) = (Vec::new(), Vec::new());
    for (number, held) in tensors.iter().enumerate() {
        if experts.expert(place.at, number).is_some() {
            continue;
        }
        let node = match held.role {
            Role::Buffer => draft.tensor(Buffer::whole(run, (place.at, number), "param"))?,
            _ => draft.known(held.dtype, &[0], Vec::new())?,
        };
        entries.push((held.name.clone(), node));
        if held.role == Role::Frozen {
            let fragment = laid.fragment(run, (place.at, number), part);
            fragments.push((held.name.clone(), draft.tensor(fragment)?));
        }
    }
    aliased(&mut entries, place);
    let module = draft.ordered(entries);
    let shapes = shapes(&mut draft, laid.shares(), experts);
    let frozen: Vec<&Held> = tensors.iter().filter(|held| held.role == Role::Frozen).collect();
    let own = [
        ("module", module),
        ("param_shapes", shapes),
        ("frozen_param_shapes", frozen_shapes(&mut draft, &frozen)),
        ("frozen_param_fragments", draft.ordered(fragments)),
    ];
    let zero = Zero::Three { sub_group_size: Zero::SUB_GROUP_SIZE };
    rest(&mut draft, run, (place, part), (zero, source, experts), own)?;
    let stem = format!("zero_pp_rank_{part}_mp_rank_{:02}_model_states", place.mp);
    draft.finish(format!("{}/{stem}.pt", tag(run)), &stem)
}

/// Adds the second names of tensors: they are the same values.
fn aliased(entries: &mut Vec<(String, NodeId)>, place: &Place<'_>) {
    for (alias, name) in &place.rank.aliases {
        let known = entries.iter().find(|(known, _)| known == name).map(|(_, node)| *node);
        entries.extend(known.map(|node| (alias.clone(), node)));
    }
}

/// The files of a stage's layers: each is written by the stage that has it.
pub(super) fn layers(run: &Run<'_>, place: &Place<'_>) -> Result<Vec<RunFile>, WriteError> {
    let mut layers: IndexMap<u64, Vec<(usize, &str)>> = IndexMap::new();
    for (number, held) in place.rank.tensors.iter().enumerate() {
        // Each file is written once, by the rank that has the first copy.
        if !held.copy {
            for (layer, key) in source::layers(place.rank, held) {
                layers.entry(layer).or_default().push((number, key));
            }
        }
    }
    let tp = size(run, "tp");
    // A pipeline that knows of no tensor ranks does not number them.
    let numbered = tp > 1 || run.args.is_some() || run.source.documents.contains_key("args");
    let mut files = Vec::new();
    for (layer, tensors) in layers {
        let mut draft = Draft::default();
        let mut entries = Vec::new();
        for (number, key) in tensors {
            let buffer = Buffer::whole(run, (place.at, number), "param");
            entries.push((key.to_owned(), draft.tensor(buffer)?));
        }
        let root = draft.ordered(entries);
        draft.pickle.set_root(root);
        let shard = place.mp % tp;
        let of = if numbered { format!("-model_{shard:02}") } else { String::new() };
        let stem = format!("layer_{layer:02}{of}-model_states");
        files.push(draft.finish(format!("{}/{stem}.pt", tag(run)), &stem)?);
    }
    Ok(files)
}

/// A dict of sizes for each group.
fn shapes(draft: &mut Draft, groups: &[Share], experts: &Experts) -> NodeId {
    let groups = groups.iter().map(|group| {
        let entry = |Member { name, shape, .. }: &Member| {
            let shape = match experts.is_empty() {
                true => draft.pickle.size(shape),
                // The engine saves all else of a run with experts as a copy, in which they are tuples.
                false => {
                    let sizes: Vec<NodeId> =
                        shape.iter().map(|n| draft.json(&(*n).into())).collect();
                    draft.pickle.tuple(&sizes)
                }
            };
            (name.clone(), shape)
        };
        let entries = group.members.iter().map(entry).collect();
        draft.ordered(entries)
    });
    let groups = groups.collect();
    draft.pickle.list(groups)
}

fn frozen_shapes(draft: &mut Draft, frozen: &[&Held]) -> NodeId {
    let entries = frozen.iter().map(|held| (held.name.clone(), draft.pickle.size(&held.shape)));
    let entries = entries.collect();
    draft.ordered(entries)
}

/// The order in which the engine writes its entries; others follow.
const ORDER: [&str; 22] = [
    "module",
    "buffer_names",
    "optimizer",
    "param_shapes",
    "frozen_param_shapes",
    "shared_params",
    "frozen_param_fragments",
    "lr_scheduler",
    "data_sampler",
    "random_ltd",
    "sparse_tensor_module_names",
    "skipped_steps",
    "global_steps",
    "global_samples",
    "dp_world_size",
    "mp_world_size",
    "checkpoint_parallel_dimensions",
    "ds_config",
    "ds_version",
    "num_experts",
    "ds_autoep_layers",
    "universal_checkpoint_info",
];

/// Everything but the weights: what the mesh says is made, the rest is the source's where it has it.
fn rest(
    draft: &mut Draft,
    run: &Run<'_>,
    (place, dp): (&Place<'_>, u64),
    (zero, source, experts): (Zero, &Source, &Experts),
    own: [(&str, NodeId); 4],
) -> Result<(), WriteError> {
    let mut entries: IndexMap<String, NodeId> = IndexMap::new();
    let carried = source.model(place.mp);
    for (key, _) in carried.into_iter().flat_map(|file| file.value.root().pairs()).flatten() {
        let (Some(file), Some(name)) = (carried, key.as_str()) else { continue };
        if let Some(node) = copy(draft, file, &[name])? {
            entries.insert(name.to_owned(), node);
        }
    }
    let (tp, pp) = (size(run, "tp"), size(run, "pp"));
    // The engine tells them on its first rank alone, a pipeline nowhere.
    let shared = match place.mp {
        0 if !source::is_layered(run) => json!(place.rank.aliases),
        _ => json!({}),
    };
    let step = run.step.unwrap_or(0);
    let names = place.rank.tensors.iter().filter(|held| held.role == Role::Buffer);
    let names: Vec<&str> = names.map(|held| held.name.as_str()).collect();
    let made = json!({
        "buffer_names": names, "dp_world_size": size(run, "dp"), "mp_world_size": tp * pp,
        "checkpoint_parallel_dimensions": {"pp_degree": pp, "tp_degree": tp},
        "optimizer": null, "shared_params": shared,
    });
    for (key, value) in made.as_object().into_iter().flatten() {
        let node = draft.json(value);
        entries.insert(key.clone(), node);
    }
    let usual = json!({
        "lr_scheduler": null, "skipped_steps": 0, "global_steps": step, "global_samples": 0,
        "ds_config": {}, "ds_version": source.version,
    });
    for (key, value) in usual.as_object().into_iter().flatten() {
        if !entries.contains_key(key) {
            let node = draft.json(value);
            entries.insert(key.clone(), node);
        }
    }
    entries.extend(own.map(|(key, node)| (key.to_owned(), node)));
    if !experts.is_empty() {
        entries.insert("num_experts".to_owned(), draft.json(&experts.counts(place.at).into()));
        experts.tell(draft, (run, place, dp, zero), &mut entries);
    }
    if let Some(config) = entries.get("ds_config").copied() {
        staged(draft, config, zero);
    }
    args::fit(draft, run, &mut entries);
    let place = |key: &str| ORDER.iter().position(|known| *known == key).unwrap_or(ORDER.len());
    let mut entries: Vec<(String, NodeId)> = entries.into_iter().collect();
    entries.sort_by_key(|(key, _)| place(key));
    let root = draft.dict(entries);
    draft.pickle.set_root(root);
    Ok(())
}

/// Makes the config that goes along say the stage that is written.
pub(super) fn staged(draft: &mut Draft, config: NodeId, zero: Zero) {
    let known = draft.pickle.value(config).get("zero_optimization").map(|value| value.id());
    let stage = draft.json(&Value::from(zero.stage()));
    let key = draft.pickle.str("stage");
    // The gaps of the source's buffers are not those of what is written, and only two stages deal out.
    let mut outdated = vec!["stage", "elastic_checkpoint", "parameter_alignment"];
    outdated.extend((!matches!(zero, Zero::One | Zero::Two)).then_some(ROUND_ROBIN));
    match known {
        Some(zero) => {
            let kept = draft.pickle.value(zero).pairs().map(|pairs| {
                let fits = |key: &str| !outdated.contains(&key);
                let kept = pairs.filter(|(key, _)| key.as_str().is_none_or(fits));
                kept.map(|(key, value)| (key.id(), value.id())).collect::<Vec<_>>()
            });
            if let (Some(kept), Node::Dict(dict)) = (kept, draft.pickle.node_mut(zero)) {
                dict.pairs = [(key, stage)].into_iter().chain(kept).collect();
            }
        }
        None => {
            let zero = draft.pickle.dict(vec![(key, stage)]);
            let key = draft.pickle.str("zero_optimization");
            if let Node::Dict(dict) = draft.pickle.node_mut(config) {
                dict.pairs.push((key, zero));
            }
        }
    }
}

/// A float tensor without dims: torch keeps the step as one.
#[expect(clippy::cast_possible_truncation, reason = "torch keeps the step in 32 bits")]
pub(super) fn scalar(draft: &mut Draft, value: f64) -> Result<NodeId, WriteError> {
    draft.known(DType::F32, &[], (value as f32).to_le_bytes().to_vec())
}
