//! `zero_pp_rank_D_mp_rank_XX_optim_states.pt`: a data-parallel rank's part of the optimizer.

use super::experts::Experts;
use super::flat::Partition;
use super::model::{scalar, staged};
use super::partitioned::SubGroups;
use super::share::{Share, shares};
use super::source::{Source, copy};
use super::{Place, Zero, size, states, tag};
use crate::deepspeed::muon::MOMENTUM;
use crate::inventory::Group;
use crate::target::{Buffer, Draft, Part, Run, RunFile, WriteError};
use crate::torch::NodeId;
use indexmap::IndexMap;
use serde_json::{Value, json};
use std::sync::Arc;
use ucl_tensor::DType;

/// A part of stages 1 and 2.
pub(super) fn flat(
    run: &Run<'_>,
    place: &Place<'_>,
    dp: u64,
    (zero, layered, source, experts): (Zero, bool, &Source, &Experts),
) -> Result<RunFile, WriteError> {
    let mut draft = Draft::default();
    let shares = shares(run, place, dp, (layered, experts, source.deals(place.mp, zero)));
    let of_matrices = has_matrices(zero, source, place);
    let (mut masters, mut paddings, mut mappings, mut numbered) = (vec![], vec![], vec![], vec![]);
    for (group, share) in shares.iter().enumerate() {
        let partition = Partition::of(place.at, share);
        let (parts, width) = (&partition.parts, partition.width);
        let flat = Flat { run, place, parts, width };
        let kept = states(place.rank, share);
        let whole = of_matrices && is_muons(&run.groups[group]);
        let matrices = whole.then(|| partition.matrices(share));
        numbered.push((group as i64, flat.states(&mut draft, group, &kept, matrices.as_ref())?));
        // A stage's masters come without their padding, BF16_Optimizer's with it.
        let len = if zero == Zero::Bf16Optimizer { width } else { partition.held };
        masters.push(draft.tensor(flat.buffer("fp32", len))?);
        paddings.push(Value::from(width - partition.held));
        mappings.push(slices(&mut draft, share, &partition));
    }
    let state = numbered_dict(&mut draft, numbered);
    let groups: Vec<Vec<usize>> = (0..run.groups.len()).map(|group| vec![group]).collect();
    let groups = param_groups(&mut draft, &run.groups, &groups);
    let base = draft.dict(vec![("state".to_owned(), state), ("param_groups".to_owned(), groups)]);
    let counts: Vec<u64> = shares.iter().map(|share| share.parts).collect();
    let mut entries = common(&mut draft, place, source, zero)?;
    entries.insert("base_optimizer_state".to_owned(), base);
    entries.insert("single_partition_of_fp32_groups".to_owned(), draft.pickle.list(masters));
    entries.insert("group_paddings".to_owned(), draft.json(&Value::Array(paddings)));
    entries.insert("partition_count".to_owned(), draft.json(&counts.into()));
    entries.insert("ds_version".to_owned(), draft.json(&source.version.clone().into()));
    entries.insert("param_slice_mappings".to_owned(), draft.pickle.list(mappings));
    finish(draft, run, place, dp, (zero, source), entries)
}

/// A part of stage 3.
pub(super) fn partitioned(
    run: &Run<'_>,
    place: &Place<'_>,
    dp: u64,
    (laid, source, experts): (&SubGroups, &Source, &Experts),
) -> Result<RunFile, WriteError> {
    let mut draft = Draft::default();
    let (mut masters, mut numbered) = (vec![], vec![]);
    let groups: Vec<Vec<usize>> = (0..run.groups.len()).map(|group| laid.of_group(group)).collect();
    for (number, share) in laid.shares().iter().enumerate() {
        let (parts, width) = laid.partition(place.at, number);
        let flat = Flat { run, place, parts: &parts, width };
        let group = laid.group(number);
        let kept = states(place.rank, share);
        numbered.push((number as i64, flat.states(&mut draft, group, &kept, None)?));
        masters.push(draft.tensor(flat.buffer("fp32", width))?);
    }
    let state = numbered_dict(&mut draft, numbered);
    let groups = param_groups(&mut draft, &run.groups, &groups);
    let base = draft.dict(vec![("state".to_owned(), state), ("param_groups".to_owned(), groups)]);
    let zero = Zero::Three { sub_group_size: 0 };
    let mut entries = common(&mut draft, place, source, zero)?;
    entries.insert("partition_count".to_owned(), draft.json(&size(run, "dp").into()));
    if let Some(sharing) = experts.sharing_of((run, place), laid) {
        entries.insert("ds_zero_partition_groups".to_owned(), draft.json(&sharing));
    }
    entries.insert("optimizer_state_dict".to_owned(), base);
    entries.insert("fp32_flat_groups".to_owned(), draft.pickle.list(masters));
    finish(draft, run, place, dp, (zero, source), entries)
}

/// A flat buffer of a rank.
struct Flat<'a> {
    run: &'a Run<'a>,
    place: &'a Place<'a>,
    parts: &'a Arc<[Part]>,
    width: u64,
}

impl Flat<'_> {
    fn buffer(&self, state: &str, len: u64) -> Buffer {
        // A buffer has one type; where there are several, one that holds them all.
        let held = self.parts.iter().map(|part| &self.place.rank.tensors[part.tensor]);
        let types = held.filter_map(|held| held.states.get(state).copied());
        let dtype = types.reduce(|a, b| a.common(b).unwrap_or(a)).unwrap_or(DType::F32);
        let name = format!("a part of {state}");
        Buffer { name, state: state.to_owned(), dtype, shape: vec![len], parts: self.parts.clone() }
    }

    /// The states of a buffer as the optimizer keeps them; `matrices` are what Muon's momentum is of, if it
    /// is of more than the buffer.
    fn states(
        &self,
        draft: &mut Draft,
        group: usize,
        kept: &[String],
        matrices: Option<&Partition>,
    ) -> Result<NodeId, WriteError> {
        let mut entries = Vec::new();
        let group = &self.run.groups[group];
        if let Some(step) = group.step.as_ref().and_then(Value::as_f64) {
            entries.push(("step".to_owned(), scalar(draft, step)?));
        }
        for state in kept {
            let buffer = match matrices.filter(|_| state == MOMENTUM) {
                None => self.buffer(state, self.width),
                // A rank that meets no matrix has no momentum.
                Some(matrices) if matrices.width == 0 => continue,
                Some(Partition { parts, width, .. }) => {
                    Flat { parts, width: *width, ..*self }.buffer(state, *width)
                }
            };
            entries.push((state.clone(), draft.tensor(buffer)?));
        }
        for (key, value) in &group.hyper {
            if let Some(name) = key.strip_prefix("state.") {
                entries.push((name.to_owned(), draft.json(value)));
            }
        }
        Ok(draft.dict(entries))
    }
}

/// Whether Muon trains a group.
pub(super) fn is_muons(group: &Group) -> bool {
    group.hyper.get("use_muon") == Some(&Value::Bool(true))
}

/// Whether a rank keeps Muon's momentum of whole matrices.
pub(super) fn has_matrices(zero: Zero, source: &Source, place: &Place<'_>) -> bool {
    matches!(zero, Zero::One | Zero::Two) && !source.offloads(place.mp)
}

fn numbered_dict(draft: &mut Draft, entries: Vec<(i64, NodeId)>) -> NodeId {
    let pairs = entries.into_iter().map(|(key, value)| (draft.pickle.int(key), value)).collect();
    draft.pickle.dict(pairs)
}

/// The groups as torch keeps them; `params` numbers their buffers.
pub(super) fn param_groups(draft: &mut Draft, groups: &[Group], buffers: &[Vec<usize>]) -> NodeId {
    let groups = groups.iter().zip(buffers).map(|(group, buffers)| {
        let hyper = group.hyper.iter().filter(|(key, _)| !key.starts_with("state."));
        let mut entries: Vec<(String, NodeId)> =
            hyper.map(|(key, value)| (key.clone(), hyper_parameter(draft, value))).collect();
        let numbers = buffers.iter().map(|number| Value::from(*number)).collect();
        entries.push(("params".to_owned(), draft.json(&Value::Array(numbers))));
        draft.dict(entries)
    });
    let groups = groups.collect();
    draft.pickle.list(groups)
}

/// A hyper-parameter; pairs such as `betas` are tuples.
fn hyper_parameter(draft: &mut Draft, value: &Value) -> NodeId {
    match value {
        Value::Array(items) if items.iter().all(Value::is_number) => {
            let items: Vec<NodeId> = items.iter().map(|item| draft.json(item)).collect();
            draft.pickle.tuple(&items)
        }
        value => draft.json(value),
    }
}

/// What all optimizers have beside their states: the source's, where it has them.
pub(super) fn common(
    draft: &mut Draft,
    place: &Place<'_>,
    source: &Source,
    zero: Zero,
) -> Result<IndexMap<String, NodeId>, WriteError> {
    let mut entries = IndexMap::new();
    let keys: &[&str] = match zero {
        Zero::Bf16Optimizer => &["clip_grad"],
        Zero::One | Zero::Two => &["loss_scaler", "dynamic_loss_scale", "overflow", "clip_grad"],
        Zero::Three { .. } => &["loss_scaler", "dynamic_loss_scale", "overflow"],
    };
    if zero.stage() == 3 {
        entries.insert("zero_stage".to_owned(), draft.json(&zero.stage().into()));
    }
    for key in keys {
        let node = match (source.kept(place.mp, key), *key) {
            (Some((file, value)), _) => draft.carry(file, value)?,
            // Without them the engine keeps its own; stage 3 alone insists.
            (None, _) if zero.stage() < 3 => continue,
            (None, "loss_scaler") => scaler(draft, place),
            (None, "dynamic_loss_scale") => draft.pickle.bool(is_half(place)),
            (None, _) => draft.pickle.bool(false),
        };
        entries.insert((*key).to_owned(), node);
    }
    if matches!(zero, Zero::One | Zero::Two) {
        entries.insert("zero_stage".to_owned(), draft.json(&zero.stage().into()));
    }
    Ok(entries)
}

fn is_half(place: &Place<'_>) -> bool {
    place.rank.tensors.iter().any(|held| held.is_trained() && held.dtype == DType::F16)
}

/// A loss scaler at its start: one that does nothing, or under fp16 the one of DeepSpeed's defaults.
fn scaler(draft: &mut Draft, place: &Place<'_>) -> NodeId {
    let half = is_half(place);
    let (class, values) = match half {
        false => ("LossScaler", json!({"cur_scale": 1.0, "dynamic": false})),
        true => (
            "DynamicLossScaler",
            json!({
                "cur_scale": 65536.0, "dynamic": true, "cur_iter": 0, "last_overflow_iter": -1,
                "scale_factor": 2.0, "scale_window": 1000, "min_scale": 1, "delayed_shift": 2,
                "cur_hysteresis": 2, "consecutive_hysteresis": false,
                "raise_error_at_min_scale": true,
            }),
        ),
    };
    let mut pairs = Vec::new();
    for (key, value) in values.as_object().into_iter().flatten() {
        pairs.push((draft.pickle.str(key), draft.json(value)));
    }
    if let Some(dtype) = draft.pickle.dtype(DType::F16).filter(|_| half) {
        pairs.push((draft.pickle.str("dtype"), dtype));
    }
    draft.pickle.object("deepspeed.runtime.fp16.loss_scaler", class, pairs)
}

/// Which tensors touch a part, and where in it they lie.
fn slices(draft: &mut Draft, share: &Share, partition: &Partition) -> NodeId {
    let parts = partition.parts.iter().zip(&partition.members);
    let entries = parts.map(|(part, member)| {
        let numbers = [("numel", part.len), ("start", part.start)];
        let attributes = numbers.map(|(key, number)| {
            let number = draft.json(&number.into());
            (draft.pickle.str(key), number)
        });
        let (module, class) = ("deepspeed.utils.tensor_fragment", "fragment_address");
        let address = draft.pickle.object(module, class, attributes.to_vec());
        (share.members[*member].name.clone(), address)
    });
    let entries = entries.collect();
    draft.ordered(entries)
}

fn finish(
    mut draft: Draft,
    run: &Run<'_>,
    place: &Place<'_>,
    dp: u64,
    (zero, source): (Zero, &Source),
    entries: IndexMap<String, NodeId>,
) -> Result<RunFile, WriteError> {
    let inner = draft.dict(entries.into_iter().collect());
    let mut entries = vec![("optimizer_state_dict".to_owned(), inner)];
    let config = match source.shard(place.mp) {
        Some(file) => copy(&mut draft, file, &["ds_config"])?,
        None => None,
    };
    if let Some(config) = config {
        staged(&mut draft, config, zero);
        entries.push(("ds_config".to_owned(), config));
    }
    let version = draft.json(&source.version.clone().into());
    entries.push(("ds_version".to_owned(), version));
    let root = draft.dict(entries);
    draft.pickle.set_root(root);
    let bf16 = place.rank.tensors.iter().any(|held| held.is_trained() && held.dtype == DType::BF16);
    let prefix = if bf16 { "bf16_" } else { "" };
    let stem = format!("{prefix}zero_pp_rank_{dp}_mp_rank_{:02}_optim_states", place.mp);
    draft.finish(format!("{}/{stem}.pt", tag(run)), &stem)
}
