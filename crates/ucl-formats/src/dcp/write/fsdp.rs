//! Lays out what a run of FSDP saves through DCP, before any value is known.
//!
//! `{"model": …, "optimizer": …}` of `torch.distributed.checkpoint.state_dict.get_state_dict`: tensors cut
//! along their first dim over the ranks as `fully_shard` cuts them, the optimizer's states by the names of
//! the parameters, and every value of its groups as an object of its own. Names of nested dicts and lists
//! are joined by dots, and `.metadata` keeps the keys apart.

use super::{Save, chunked, rows};
use crate::inventory::{Carried, Group};
use crate::megatron::write::hyper_parameter;
use crate::target::{Draft, Held, Run, RunLayout, WriteError, open_carried};
use crate::torch::NodeId;
use indexmap::IndexMap;
use serde_json::{Value as Json, json};
use ucl_tensor::DType;

/// The keys of the two state dicts.
const MODEL: &str = "model";
const OPTIMIZER: &str = "optimizer";

/// The key of the step, in a script's own dict and in the state of a parameter.
const STEP: &str = "step";

/// More ranks than this would each write a file that is no help to anybody.
const MOST_RANKS: u64 = 1 << 14;

/// The file of what is not cut: rank 0's.
const FIRST: usize = 0;

/// The name of an entry, and the keys that lead to it.
type Entry<'a> = (&'a str, Vec<Json>);

/// All files of a run.
///
/// # Errors
/// Another axis than `dp`; a name or type that the format cannot hold; what goes along cannot be read.
pub(crate) fn lay_out(run: &Run<'_>) -> Result<RunLayout, WriteError> {
    let ranks = ranks(run)?;
    let mut save = Save::default();
    for rank in 0..ranks {
        save.file(format!("__{rank}_0.distcp"));
    }
    for (number, own) in run.ranks.iter().enumerate() {
        for (tensor, held) in own.tensors.iter().enumerate() {
            let aliases = own.aliases.iter().filter(|(_, name)| **name == held.name);
            let names = std::iter::once(&held.name).chain(aliases.map(|(alias, _)| alias));
            for name in names {
                let entry = (format!("{MODEL}.{name}"), vec![json!(MODEL), json!(name)]);
                sharded(&mut save, run, (number, tensor), entry, "param", ranks)?;
            }
        }
    }
    let trained = || run.ranks.iter().flat_map(|rank| &rank.tensors).any(Held::is_trained);
    if trained() {
        states(&mut save, run, ranks)?;
        for (number, group) in run.groups.iter().enumerate() {
            param_group(&mut save, run, (number, group))?;
        }
    }
    let along = carry(&mut save, run)?;
    if let Some(step) = run.step.filter(|_| !along.iter().any(|name| name == "step.pt")) {
        object(&mut save, (STEP, vec![json!(STEP)]), &json!(step))?;
    }
    let notes = notes(run);
    Ok(RunLayout { files: save.finish("")?, along, notes, ..RunLayout::default() })
}

/// What a person should know of it, a sentence each.
fn notes(run: &Run<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    let filled = |group: &Group| adam(run) && DEFAULTS.iter().any(|(key, _)| lacks(group, key));
    if run.groups.iter().any(filled) {
        notes.push(
            "torch's AdamW asks for values in its groups that this optimizer did not have: they are those that it starts with."
                .to_owned(),
        );
    }
    notes
}

fn ranks(run: &Run<'_>) -> Result<u64, WriteError> {
    for (axis, size) in &run.mesh {
        if axis != "dp" && *size > 1 {
            return Err(WriteError::refused(
                format!(
                    "a run of FSDP is cut over its data-parallel ranks alone, not over `{axis}`"
                ),
                "say `--mesh dp=N`; any number of ranks loads it",
            ));
        }
    }
    let ranks = run.mesh.get("dp").copied().unwrap_or(1);
    if ranks > MOST_RANKS {
        let message = format!("the mesh has {ranks} ranks, and each would write a file");
        return Err(WriteError::refused(message, "say fewer with --mesh; any mesh loads it"));
    }
    Ok(ranks)
}

/// A tensor in one of its states, cut along its first dim; what has none is one rank's.
fn sharded(
    save: &mut Save,
    run: &Run<'_>,
    at: (usize, usize),
    (name, keys): (String, Vec<Json>),
    state: &str,
    ranks: u64,
) -> Result<(), WriteError> {
    let held = &run.ranks[at.0].tensors[at.1];
    save.lead(&name, keys);
    save.tensor(&name, held.states.get(state).copied().unwrap_or(held.dtype), &held.shape);
    let extent = held.shape.first().copied().unwrap_or(1);
    let cut = if extent == 0 { vec![(0, 0)] } else { chunked(extent, ranks) };
    // What is no parameter is whole on every rank, and one saves it.
    let cut = if held.role == crate::inventory::Role::Buffer { vec![(0, extent)] } else { cut };
    for (file, (first, count)) in cut.into_iter().enumerate() {
        let (offsets, buffer) = rows(run, at, state, (&[], first, count));
        save.chunk(&name, file, offsets, buffer)?;
    }
    Ok(())
}

/// The states of what is trained. Masters are none: they are the weights.
fn states(save: &mut Save, run: &Run<'_>, ranks: u64) -> Result<(), WriteError> {
    for (number, own) in run.ranks.iter().enumerate() {
        for (tensor, held) in own.tensors.iter().enumerate().filter(|(_, held)| held.is_trained()) {
            let group = held.place.and_then(|(group, _)| run.groups.get(group));
            for state in held.states.keys().filter(|state| *state != "fp32") {
                let (name, keys) = state_of(&held.name, state);
                sharded(save, run, (number, tensor), (name, keys), state, ranks)?;
            }
            let step = held.step.as_ref().or(group.and_then(|group| group.step.as_ref()));
            if let Some(step) = step.and_then(Json::as_f64) {
                let (name, keys) = state_of(&held.name, STEP);
                save.lead(&name, keys);
                #[expect(clippy::cast_possible_truncation, reason = "torch keeps it in 32 bits")]
                let bytes = (step as f32).to_le_bytes().to_vec();
                save.known(&name, FIRST, (DType::F32, &[]), bytes)?;
            }
            // States that are one number for all of a group.
            for (key, value) in group.into_iter().flat_map(|group| &group.hyper) {
                if let Some(state) = key.strip_prefix(OF_STATE).filter(|key| !key.contains('.')) {
                    let (name, keys) = state_of(&held.name, state);
                    object(save, (&name, keys), value)?;
                }
            }
        }
    }
    Ok(())
}

/// How hyper-parameters begin that are numbers of single states.
const OF_STATE: &str = "state.";

fn state_of(param: &str, state: &str) -> (String, Vec<Json>) {
    let keys = vec![json!(OPTIMIZER), json!("state"), json!(param), json!(state)];
    (format!("{OPTIMIZER}.state.{param}.{state}"), keys)
}

/// A group: an object for each of its values, and the names of its parameters in their order.
fn param_group(
    save: &mut Save,
    run: &Run<'_>,
    (number, group): (usize, &Group),
) -> Result<(), WriteError> {
    let own = group.hyper.iter().filter(|(key, _)| !key.starts_with(OF_STATE));
    let mut hyper: IndexMap<&str, Json> =
        own.map(|(key, value)| (key.as_str(), value.clone())).collect();
    for (key, value) in DEFAULTS.iter().filter(|(key, _)| adam(run) && lacks(group, key)) {
        hyper.insert(key, value.map_or(Json::Null, Json::Bool));
    }
    let tensors = run.ranks.iter().flat_map(|rank| &rank.tensors);
    let placed = tensors.filter(|held| held.is_trained()).filter_map(|held| {
        let (of, place) = held.place?;
        (of == number).then_some((place, &held.name))
    });
    let mut placed: Vec<_> = placed.collect();
    placed.sort_by_key(|(place, _)| *place);
    hyper.insert("params", placed.into_iter().map(|(_, name)| json!(name)).collect());
    for (key, value) in &hyper {
        let name = format!("{OPTIMIZER}.param_groups.{number}.{key}");
        let keys = vec![json!(OPTIMIZER), json!("param_groups"), json!(number), json!(key)];
        object(save, (&name, keys), value)?;
    }
    Ok(())
}

/// What the groups of torch's AdamW have beside the numbers that every Adam has: a load asks for all.
const DEFAULTS: [(&str, Option<bool>); 7] = [
    ("amsgrad", Some(false)),
    ("maximize", Some(false)),
    ("foreach", None),
    ("capturable", Some(false)),
    ("differentiable", Some(false)),
    ("fused", None),
    ("decoupled_weight_decay", Some(true)),
];

/// Whether the optimizer is an Adam.
fn adam(run: &Run<'_>) -> bool {
    let mut tensors = run.ranks.iter().flat_map(|rank| &rank.tensors);
    tensors
        .any(|held| ["exp_avg", "exp_avg_sq"].iter().all(|state| held.states.contains_key(*state)))
}

fn lacks(group: &Group, key: &str) -> bool {
    !group.hyper.contains_key(key)
}

/// What the script saved beside the two, of a checkpoint that was one of these. Gives the names of the
/// files that it was carried in.
fn carry(save: &mut Save, run: &Run<'_>) -> Result<Vec<String>, WriteError> {
    let mut along = Vec::new();
    if !run.source.origin().starts_with(super::super::KIND) {
        return Ok(along);
    }
    let own = |carried: &&Carried| !carried.name.contains('/');
    for carried in run.source.carried.iter().filter(own) {
        let Some(name) = carried.name.strip_suffix(".pt") else { continue };
        let file = open_carried(carried)?;
        let root = file.value.root();
        if root.as_tensor().is_some() {
            continue;
        }
        let mut draft = Draft::default();
        let node = draft.carry(&file, root)?;
        put(save, (name, vec![json!(name)]), draft, node)?;
        along.push(carried.name.clone());
    }
    Ok(along)
}

fn object(save: &mut Save, entry: Entry<'_>, value: &Json) -> Result<(), WriteError> {
    let mut draft = Draft::default();
    let node = match value {
        Json::Array(items) if !items.is_empty() => {
            let numbers = items.iter().all(Json::is_number);
            if numbers { hyper_parameter(&mut draft, value) } else { draft.json(value) }
        }
        value => draft.json(value),
    };
    put(save, entry, draft, node)
}

fn put(
    save: &mut Save,
    (name, keys): Entry<'_>,
    mut draft: Draft,
    root: NodeId,
) -> Result<(), WriteError> {
    draft.pickle.set_root(root);
    save.lead(name, keys);
    save.object(name, FIRST, draft)
}
