//! A rank's optimizers: states by number, masters by group.

use super::Place;
use super::groups::{Group, Groups, hyper_parameter};
use super::module::in_order;
use crate::target::{Buffer, Draft, Held, Run, WriteError};
use crate::torch::NodeId;
use serde_json::Value;
use ucl_tensor::DType;

/// A tensor: the index of its rank, and its own there.
type At = (usize, usize);

/// `optimizer`: one, or a list of them.
pub(super) fn state_dict(
    draft: &mut Draft,
    run: &Run<'_>,
    place: &Place,
    groups: &Groups,
    (scaler, fused): (Option<NodeId>, Option<bool>),
) -> Result<NodeId, WriteError> {
    let mut members: Vec<Vec<At>> = vec![Vec::new(); groups.groups.len()];
    for rank in &place.chunks {
        let tensors = &run.ranks[*rank].tensors;
        for number in in_order(tensors) {
            if let Some(group) = groups.of_held(&tensors[number]) {
                members[group].push((*rank, number));
            }
        }
    }
    let optimizers = groups.optimizers();
    let halves = run.ranks.iter().flat_map(|rank| &rank.tensors).any(has_master);
    let mut made = Vec::new();
    for of in &optimizers {
        let of: Vec<(&Group, &[At])> =
            of.iter().map(|group| (&groups.groups[*group], members[*group].as_slice())).collect();
        made.push(optimizer(draft, run, &of, (halves, scaler, fused))?);
    }
    Ok(match made.as_slice() {
        [only] => *only,
        _ => draft.pickle.list(made),
    })
}

/// Whether a master is kept beside the weight: 32 bits need none.
fn has_master(held: &Held) -> bool {
    held.is_trained() && held.dtype != DType::F32
}

fn optimizer(
    draft: &mut Draft,
    run: &Run<'_>,
    groups: &[(&Group, &[At])],
    (halves, scaler, fused): (bool, Option<NodeId>, Option<bool>),
) -> Result<NodeId, WriteError> {
    let (mut states, mut written, mut masters) = (Vec::new(), Vec::new(), Vec::new());
    for (group, members) in groups {
        let first = states.len();
        let mut own = Vec::new();
        for at in *members {
            let held = &run.ranks[at.0].tensors[at.1];
            let key = draft.pickle.int(states.len() as i64);
            let value = state(draft, run, *at, group, fused)?;
            states.push((key, value));
            if has_master(held) {
                own.push(draft.tensor(Buffer::whole(run, *at, "fp32"))?);
            }
        }
        masters.push(draft.pickle.list(own));
        written.push(param_group(draft, group, first..states.len(), fused));
    }
    let state = draft.pickle.dict(states);
    let groups = draft.pickle.list(written);
    let inner = draft.dict(vec![("state".to_owned(), state), ("param_groups".to_owned(), groups)]);
    if !halves {
        return Ok(inner);
    }
    let masters = draft.pickle.list(masters);
    let mut entries = vec![("optimizer".to_owned(), inner)];
    entries.extend(scaler.map(|scaler| ("grad_scaler".to_owned(), scaler)));
    entries.push(("fp32_from_fp16_params".to_owned(), masters));
    Ok(draft.dict(entries))
}

/// The states of a parameter. Torch's optimizers keep the step here, fused ones in the group.
#[expect(clippy::cast_possible_truncation, reason = "torch keeps the step in 32 bits")]
fn state(
    draft: &mut Draft,
    run: &Run<'_>,
    at: At,
    group: &Group,
    fused: Option<bool>,
) -> Result<NodeId, WriteError> {
    let held = &run.ranks[at.0].tensors[at.1];
    let mut entries = Vec::new();
    let step = held.step.as_ref().or(group.step.as_ref()).and_then(Value::as_f64);
    if let Some(step) = step.filter(|_| fused != Some(true)) {
        let bytes = (step as f32).to_le_bytes().to_vec();
        entries.push(("step".to_owned(), draft.known(DType::F32, &[], bytes)?));
    }
    for name in held.states.keys().filter(|name| !["fp32", "param"].contains(&name.as_str())) {
        entries.push((name.clone(), draft.tensor(Buffer::whole(run, at, name))?));
    }
    for (name, value) in &group.scalars {
        entries.push((name.clone(), draft.json(value)));
    }
    Ok(draft.dict(entries))
}

fn param_group(
    draft: &mut Draft,
    group: &Group,
    numbers: std::ops::Range<usize>,
    fused: Option<bool>,
) -> NodeId {
    let mut entries: Vec<(String, NodeId)> = group
        .hyper
        .iter()
        .map(|(key, value)| (key.clone(), hyper_parameter(draft, value)))
        .collect();
    // Where it is not known which optimizer goes on, both find it.
    if let Some(step) = group.step.as_ref().filter(|_| fused != Some(false)) {
        entries.push(("step".to_owned(), draft.json(&whole_number(step))));
    }
    let numbers: Vec<Value> = numbers.map(Value::from).collect();
    entries.push(("params".to_owned(), draft.json(&Value::Array(numbers))));
    draft.dict(entries)
}

/// A step as fused optimizers count it, in whole numbers.
pub(crate) fn whole_number(step: &Value) -> Value {
    step.as_f64().filter(|step| step.fract() == 0.0).map_or(step.clone(), whole)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "it has no fraction, and steps are far below 2^53"
)]
fn whole(step: f64) -> Value {
    Value::from(step as i64)
}
