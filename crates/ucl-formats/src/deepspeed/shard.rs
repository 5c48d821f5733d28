//! `zero_pp_rank_D_mp_rank_XX_optim_states.pt`: one data rank's part of the masters and of the
//! optimizer's states.
//!
//! `runtime/zero/stage_1_and_2.py`, `runtime/zero/stage3.py` and `runtime/bf16_optimizer.py`
//! (`state_dict`) write them.

use crate::inventory::Problem;
use crate::named::bare;
use crate::ranks::unchecked;
use crate::torch::json;
use crate::torch::{TensorExtent, TorchFile, Value};
use indexmap::IndexMap;
use serde_json::Value as Json;

/// What is wanted of an optimizer shard.
#[derive(Debug, Default)]
pub(super) struct Shard {
    /// By flat buffer: one for each parameter group, under ZeRO-3 one for each of its sub-groups.
    pub(super) groups: Vec<GroupPart>,
    /// What the optimizer says of its parameter groups; elastic states have nothing of them.
    pub(super) params: Vec<ParamGroup>,
    /// 1, 2 or 3; BF16_Optimizer does not say.
    pub(super) stage: Option<u64>,
    /// Data ranks, per group.
    pub(super) partitions: Vec<u64>,
    /// Elements behind each parameter, per group.
    pub(super) gaps: Option<Vec<Vec<u64>>>,
    /// Per group, the first entry of `param_slice_mappings`: a parameter, the first element in this
    /// part, how many. Only good to tell whose part it is; see the module above.
    pub(super) firsts: Vec<Option<(String, u64, u64)>>,
    /// Per sub-group of ZeRO-3 with AutoEP, the ranks that share it, in the order of their parts
    /// (`ds_zero_partition_groups`).
    pub(super) shared: Vec<Vec<u64>>,
    /// Whether states are lists without padding, made with `elastic_checkpoint`.
    pub(super) elastic: bool,
    /// The scale of a dynamic loss scaler.
    pub(super) loss_scale: Option<f64>,
    /// The release of DeepSpeed.
    pub(super) version: Option<String>,
    /// Whether data has no checksum in the file.
    pub(super) unchecked: bool,
}

/// A parameter group's part in a shard.
#[derive(Debug, Default)]
pub(super) struct GroupPart {
    /// `fp32` first, then the optimizer's states by its own names: flat tensors.
    pub(super) flat: IndexMap<String, TensorExtent>,
    /// States that are one number: `step`, and what else an optimizer keeps.
    pub(super) scalars: IndexMap<String, Json>,
}

/// A parameter group of the optimizer.
#[derive(Debug, Default)]
pub(super) struct ParamGroup {
    /// Hyper-parameters, without `params`.
    pub(super) hyper: IndexMap<String, Json>,
    /// The flat buffers that its parameters lie in.
    pub(super) buffers: Vec<usize>,
}

impl Shard {
    /// Reads a shard.
    pub(super) fn read(file: &TorchFile, problems: &mut Vec<Problem>) -> Shard {
        let root = file.value.root();
        let mut shard = Shard { unchecked: unchecked(file), ..Shard::default() };
        shard.version = root.get("ds_version").and_then(|v| v.as_str()).map(str::to_owned);
        let Some(state) = root.get("optimizer_state_dict") else {
            problems.push(
                Problem::new(&file.path, "it has no `optimizer_state_dict`")
                    .help("It may be of another program, or of a DeepSpeed older than 0.3."),
            );
            return shard;
        };
        shard.stage = state.get("zero_stage").and_then(Value::as_u64);
        shard.partitions = integers(state.get("partition_count"));
        let gaps = state.get("param_alignment_paddings").and_then(Value::items);
        shard.gaps = gaps.map(|groups| groups.map(|group| integers(Some(group))).collect());
        let mappings = state.get("param_slice_mappings").and_then(Value::items);
        shard.firsts = mappings.into_iter().flatten().map(first).collect();
        let scaler = state.get("loss_scaler");
        let dynamic = state.get("dynamic_loss_scale").and_then(Value::as_bool) == Some(true);
        let scale = scaler.and_then(|scaler| scaler.attr("cur_scale")).and_then(Value::as_f64);
        shard.loss_scale = scale.filter(|_| dynamic);
        if shard.stage == Some(3) || state.get("fp32_flat_groups").is_some() {
            shard.stage = Some(3);
            let shared = state.get("ds_zero_partition_groups").and_then(Value::items);
            let ranks = |group: Value<'_>| integers(group.get("partition_ranks"));
            shard.shared = shared.into_iter().flatten().map(ranks).collect();
            shard.masters(file, state, "fp32_flat_groups", problems);
            let key = "optimizer_state_dict";
            shard.states(file, state, key, problems);
            return shard;
        }
        shard.masters(file, state, "single_partition_of_fp32_groups", problems);
        shard.states(file, state, "base_optimizer_state", problems);
        shard
    }

    fn group(&mut self, index: usize) -> &mut GroupPart {
        if self.groups.len() <= index {
            self.groups.resize_with(index + 1, GroupPart::default);
        }
        &mut self.groups[index]
    }

    fn masters(
        &mut self,
        file: &TorchFile,
        state: Value<'_>,
        key: &str,
        problems: &mut Vec<Problem>,
    ) {
        let Some(masters) = state.get(key).and_then(Value::items) else {
            problems
                .push(Problem::new(&file.path, format!("it has no `{key}`, the master weights")));
            return;
        };
        for (index, master) in masters.enumerate() {
            let label = format!("`{key}` of group {index}");
            let part = self.group(index);
            flat(file, &label, master, problems)
                .map(|extent| part.flat.insert("fp32".into(), extent));
        }
    }

    fn states(
        &mut self,
        file: &TorchFile,
        state: Value<'_>,
        key: &str,
        problems: &mut Vec<Problem>,
    ) {
        let Some(base) = state.get(key) else {
            problems.push(Problem::new(&file.path, format!("it has no `{key}`")));
            return;
        };
        if let Some(groups) = base.as_list() {
            self.elastic = true;
            for (index, group) in groups.enumerate() {
                self.group_states(file, index, group, problems);
            }
            let steps = state.get("base_optimizer_state_step").and_then(Value::items);
            for (index, step) in steps.into_iter().flatten().enumerate() {
                let step = json::json(file, step);
                self.group(index).scalars.insert("step".to_owned(), step);
            }
            return;
        }
        let groups = base.get("param_groups").and_then(Value::items);
        for (index, group) in groups.into_iter().flatten().enumerate() {
            let mut hyper = IndexMap::new();
            for (key, value) in group.pairs().into_iter().flatten() {
                let key = key.as_str().unwrap_or_default();
                if !matches!(key, "params" | "param_names") {
                    hyper.insert(key.to_owned(), json::json(file, value));
                }
            }
            // Under ZeRO-1 and 2 the one tensor of a group is its buffer.
            let numbers = integers(group.get("params")).into_iter().map(|number| number as usize);
            let buffers = if self.stage == Some(3) { numbers.collect() } else { vec![index] };
            self.params.push(ParamGroup { hyper, buffers });
        }
        for (number, group) in base.get("state").and_then(Value::pairs).into_iter().flatten() {
            match number.as_u64() {
                Some(index) if index < self.groups.len() as u64 => {
                    self.group_states(file, index as usize, group, problems);
                }
                _ => problems.push(Problem::new(
                    &file.path,
                    format!("a key of `{key}.state` is not the number of a group"),
                )),
            }
        }
    }

    fn group_states(
        &mut self,
        file: &TorchFile,
        index: usize,
        group: Value<'_>,
        problems: &mut Vec<Problem>,
    ) {
        for (name, value) in group.pairs().into_iter().flatten() {
            let name = name.as_str().unwrap_or_default();
            let scalar = value.as_tensor().is_none_or(|tensor| tensor.size.is_empty());
            if scalar {
                let value = json::json(file, value);
                self.group(index).scalars.insert(name.to_owned(), value);
                continue;
            }
            let label = format!("state `{name}` of group {index}");
            if let Some(extent) = flat(file, &label, value, problems) {
                self.group(index).flat.insert(name.to_owned(), extent);
            }
        }
    }
}

/// The first parameter of a group's slice mapping.
fn first(group: Value<'_>) -> Option<(String, u64, u64)> {
    let (name, fragment) = group.pairs()?.next()?;
    let count = |field| fragment.attr(field).and_then(Value::as_u64);
    Some((bare(name.as_str()?, &mut false), count("start")?, count("numel")?))
}

/// A 1-D tensor without holes.
fn flat(
    file: &TorchFile,
    label: &str,
    value: Value<'_>,
    problems: &mut Vec<Problem>,
) -> Option<TensorExtent> {
    let mut wrong =
        |what: String| problems.push(Problem::new(&file.path, format!("{label} {what}")));
    let Some(tensor) = value.as_tensor() else {
        wrong(format!("is {}, not a tensor", value.kind()));
        return None;
    };
    match file.extent(tensor) {
        Ok(extent) if extent.shape.len() == 1 && extent.is_contiguous() => Some(extent),
        Ok(extent) => {
            wrong(format!("has the shape {:?}, it should be flat", extent.shape));
            None
        }
        Err(error) => {
            wrong(format!("can't be read: {}", error.kind));
            None
        }
    }
}

/// A list of counts; a single count stands for itself.
fn integers(value: Option<Value<'_>>) -> Vec<u64> {
    match value {
        None => Vec::new(),
        Some(value) => match value.items() {
            Some(items) => items.filter_map(Value::as_u64).collect(),
            None => value.as_u64().into_iter().collect(),
        },
    }
}
