//! What is written of the optimizers beside their tensors: groups, steps, a loss scaler.

use super::write::Optimizer;
use crate::megatron::is_expert;
use crate::megatron::write::{Groups, Source, hyper_parameter, is_trained, whole_number};
use crate::target::{Draft, Run, WriteError};
use crate::torch::NodeId;
use serde_json::Value;
use ucl_tensor::DType;

/// The key, in `content_metadata`, of the form in which a distributed optimizer was saved.
pub(super) const SHARDING: &str = "distrib_optim_sharding_type";

/// The form that is written.
pub(super) const RESHARDABLE: &str = "fully_reshardable";

/// All states that the distributed optimizer has.
const ADAM: [&str; 3] = ["fp32", "exp_avg", "exp_avg_sq"];

/// The distributed optimizer has Adam's states, all of them.
pub(super) fn possible(run: &Run<'_>, kind: Optimizer) -> Result<(), WriteError> {
    if kind == Optimizer::Plain {
        return Ok(());
    }
    let held = run.ranks.iter().flat_map(|rank| &rank.tensors).filter(|held| held.is_trained());
    for held in held {
        let other = held.states.keys().find(|state| !ADAM.contains(&state.as_str()));
        let what = match (other, ADAM.iter().find(|state| !held.states.contains_key(**state))) {
            (Some(state), _) => format!("the state `{state}`"),
            (None, Some(state)) => format!("no state `{state}`"),
            (None, None) => continue,
        };
        let message = format!(
            "{:?} has {what}, and Megatron's distributed optimizer has Adam's states alone",
            held.name
        );
        return Err(WriteError::refused(
            message,
            "say `--optimizer plain`, for a run without --use-distributed-optimizer, or `--states weights`",
        ));
    }
    Ok(())
}

/// Which run loads the states.
pub(super) fn notes(run: &Run<'_>, groups: &Groups, kind: Optimizer) -> Vec<String> {
    if !is_trained(run) {
        return Vec::new();
    }
    let how = match kind {
        Optimizer::Distributed => {
            "with --use-distributed-optimizer, on Megatron-core 0.15 or newer; `--optimizer plain` is for runs without it"
        }
        Optimizer::Plain => {
            "without --use-distributed-optimizer; `--optimizer distributed` is for runs with it"
        }
    };
    let mut notes = vec![format!("The optimizer's states are for a run {how}.")];
    let trained = run.ranks.iter().flat_map(|rank| &rank.tensors).filter(|held| held.is_trained());
    let (experts, which) = match groups.optimizers().len() {
        1 => ("no optimizer of their own", "an `ep` of 1"),
        _ => ("an optimizer of their own", "an `ep` of more than 1"),
    };
    if trained.map(|held| held.name.as_str()).any(is_expert) {
        notes.push(format!(
            "Experts are in {experts}, as Megatron has it for {which}; a run with another loads the weights alone."
        ));
    }
    notes
}

/// The groups, without their parameters; several optimizers are numbered.
pub(super) fn common(
    draft: &mut Draft,
    (groups, source): (&Groups, &Source),
    (kind, halves): (Optimizer, bool),
) -> Result<NodeId, WriteError> {
    let mut made = Vec::new();
    for of in groups.optimizers() {
        let of = of.iter().map(|group| &groups.groups[*group]);
        let mut written = Vec::new();
        for group in of.clone() {
            let mut hyper: Vec<(String, NodeId)> = group
                .hyper
                .iter()
                .map(|(key, value)| (key.clone(), hyper_parameter(draft, value)))
                .collect();
            // The distributed optimizer keeps the step here, whatever keeps it while it runs.
            if let (Some(step), Optimizer::Distributed) = (&group.step, kind) {
                hyper.push(("step".to_owned(), draft.json(&whole_number(step))));
            }
            written.push(draft.dict(hyper));
        }
        let written = draft.pickle.list(written);
        let mut inner = vec![("param_groups".to_owned(), written)];
        if kind == Optimizer::Plain {
            let step = of.clone().find_map(|group| group.step.as_ref().and_then(Value::as_f64));
            let step = step.map(|step| scalar(draft, step)).transpose()?;
            let state = step.map(|step| ("common_step".to_owned(), step)).into_iter().collect();
            inner.insert(0, ("state".to_owned(), draft.dict(state)));
        }
        let inner = draft.dict(inner);
        if kind == Optimizer::Plain && !halves {
            made.push(inner);
            continue;
        }
        let mut entries = vec![("optimizer".to_owned(), inner)];
        let scaler = source.scaler(draft, (0, 0, 0))?;
        entries.extend(scaler.map(|scaler| ("grad_scaler".to_owned(), scaler)));
        if kind == Optimizer::Distributed {
            let form = draft.pickle.str(RESHARDABLE);
            entries.push(("param_state_sharding_type".to_owned(), form));
        }
        made.push(draft.dict(entries));
    }
    if let [only] = made.as_slice() {
        return Ok(*only);
    }
    let numbered = made.into_iter().enumerate();
    let numbered = numbered.map(|(at, node)| (draft.pickle.int(at as i64), node)).collect();
    Ok(draft.pickle.dict(numbered))
}

#[expect(clippy::cast_possible_truncation, reason = "torch keeps the step in 32 bits")]
fn scalar(draft: &mut Draft, value: f64) -> Result<NodeId, WriteError> {
    draft.known(DType::F32, &[], (value as f32).to_le_bytes().to_vec())
}
