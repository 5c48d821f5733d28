//! Lays out the files of a ZeRO-1 run before any value is known.
//!
//! The format is the one that the reader beside this reads; `bf16` runs are written as
//! `BF16_Optimizer` does (nothing stripped), others as ZeRO-1 does (masters without their padding).

use crate::torch::{EmitError, LayoutError, NodeId, Pickle, TorchLayout, emit};
use indexmap::IndexMap;
use serde_json::{Map, Value};
use ucl_tensor::DType;

/// A run to lay out.
pub struct Run<'a> {
    /// Data-parallel ranks.
    pub dp: u64,
    /// Tensor-parallel ranks.
    pub tp: u64,
    /// Pipeline stages.
    pub pp: u64,
    /// The step that it is saved at.
    pub step: u64,
    /// The type of the model's own weights.
    pub dtype: DType,
    /// Whether weights go into one file per layer, by the number in front of their names.
    pub layer_files: bool,
    /// Megatron's arguments, if it is a Megatron run.
    pub args: Option<&'a Map<String, Value>>,
    /// The tensors of each model-parallel rank, pipeline stages outermost: name and local shape.
    pub ranks: &'a [Vec<(String, Vec<u64>)>],
}

/// A file of the run.
#[derive(Clone, Debug)]
pub struct RunFile {
    /// Its path under the run's folder.
    pub path: String,
    /// Its length in bytes.
    pub len: u64,
    /// What is known of it, by offset.
    pub fixed: Vec<(u64, Vec<u8>)>,
    /// What is not, by offset.
    pub storages: Vec<(u64, Content)>,
}

/// A storage of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A weight of the model itself.
    Weight {
        /// The model-parallel rank.
        rank: usize,
        /// The tensor, by its place in [`Run::ranks`].
        tensor: usize,
    },
    /// A data-parallel rank's part of a group.
    Partition {
        /// The model-parallel rank.
        rank: usize,
        /// `fp32`, `exp_avg` or `exp_avg_sq`.
        state: &'static str,
        /// The tensors in it: place in [`Run::ranks`], first element that is here, how many, where in
        /// the partition they begin.
        tensors: Vec<(usize, u64, u64, u64)>,
        /// Its length in elements, padding included.
        len: u64,
    },
}

/// Why a run cannot be laid out.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The pickle.
    #[error(transparent)]
    Emit(#[from] EmitError),
    /// The zip.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A name without the number of its layer.
    #[error("{0:?} does not begin with the number of its pipeline layer")]
    NoLayer(String),
    /// A type that torch files have no storage for.
    #[error("torch has no storage of {0}")]
    DType(DType),
}

/// The version that is recorded: the one whose files were looked at.
const DEEPSPEED: &str = "0.19.8";

/// All files of a run, `latest` among them.
///
/// # Errors
/// A name or type that the format cannot hold.
pub fn lay_out(run: &Run<'_>) -> Result<Vec<RunFile>, WriteError> {
    let tag = format!("global_step{}", run.step);
    let mut files = Vec::new();
    for rank in 0..run.ranks.len() {
        if run.layer_files {
            files.extend(layer_files(run, &tag, rank)?);
        }
        files.push(model_file(run, &tag, rank)?);
        for partition in 0..run.dp {
            files.push(optimizer_file(run, &tag, rank, partition)?);
        }
    }
    files.push(RunFile {
        path: "latest".to_owned(),
        len: tag.len() as u64,
        fixed: vec![(0, tag.into_bytes())],
        storages: Vec::new(),
    });
    Ok(files)
}

/// Matrices decay, vectors do not: two groups, as Megatron makes them.
fn groups(tensors: &[(String, Vec<u64>)]) -> [Vec<usize>; 2] {
    let (matrices, vectors) = (0..tensors.len()).partition(|at| tensors[*at].1.len() > 1);
    [matrices, vectors]
}

fn numel(shape: &[u64]) -> u64 {
    shape.iter().product()
}

/// Layer files hold the same on every pipeline stage, so the stage that has the layer writes them.
fn layer_files(run: &Run<'_>, tag: &str, rank: usize) -> Result<Vec<RunFile>, WriteError> {
    let mut layers: IndexMap<u64, Vec<(usize, &str)>> = IndexMap::new();
    for (tensor, (name, _)) in run.ranks[rank].iter().enumerate() {
        let parts = name.split_once('.').and_then(|(layer, key)| Some((layer.parse().ok()?, key)));
        let (layer, key) = parts.ok_or_else(|| WriteError::NoLayer(name.clone()))?;
        layers.entry(layer).or_default().push((tensor, key));
    }
    let shard = rank as u64 % run.tp;
    let mut files = Vec::new();
    for (layer, tensors) in layers {
        let mut file = Building::new();
        let mut entries = Vec::new();
        for (tensor, key) in tensors {
            entries.push((key.to_owned(), file.weight(run, rank, tensor)?));
        }
        let root = file.ordered(entries);
        file.pickle.set_root(root);
        files.push(file.finish(tag, &format!("layer_{layer:02}-model_{shard:02}-model_states"))?);
    }
    Ok(files)
}

fn model_file(run: &Run<'_>, tag: &str, rank: usize) -> Result<RunFile, WriteError> {
    let mut file = Building::new();
    let tensors = &run.ranks[rank];
    let module = if run.layer_files {
        file.pickle.none()
    } else {
        let mut entries = Vec::new();
        for (tensor, (name, _)) in tensors.iter().enumerate() {
            entries.push((name.clone(), file.weight(run, rank, tensor)?));
        }
        file.ordered(entries)
    };
    let shapes = groups(tensors).map(|group| {
        let entries = group.iter().map(|at| {
            let size = file.pickle.size(&tensors[*at].1);
            (tensors[*at].0.clone(), size)
        });
        let entries = entries.collect();
        file.ordered(entries)
    });
    let shapes = file.pickle.list(shapes.to_vec());
    let degrees = [("pp_degree", run.pp), ("tp_degree", run.tp)];
    let degrees = degrees.map(|(key, n)| (key.to_owned(), Value::from(n))).into_iter().collect();
    let degrees = file.json(&Value::Object(degrees));
    let mut entries: Vec<(String, NodeId)> = vec![
        ("module".to_owned(), module),
        ("param_shapes".to_owned(), shapes),
        ("checkpoint_parallel_dimensions".to_owned(), degrees),
    ];
    let plain = serde_json::json!({
        "buffer_names": [], "optimizer": null, "frozen_param_shapes": null,
        "frozen_param_fragments": null, "shared_params": {}, "lr_scheduler": null,
        "skipped_steps": 0, "global_steps": run.step, "global_samples": run.step * run.dp,
        "dp_world_size": run.dp, "mp_world_size": run.tp * run.pp,
        "ds_config": {"zero_optimization": {"stage": 1}}, "ds_version": DEEPSPEED,
    });
    for (key, value) in plain.as_object().into_iter().flatten() {
        entries.push((key.clone(), file.json(value)));
    }
    if let Some(args) = run.args {
        let attributes = args.iter().map(|(key, value)| (key.clone(), file.json(value)));
        let attributes: Vec<(String, NodeId)> = attributes.collect();
        let namespace = file.namespace(attributes);
        entries.push(("args".to_owned(), namespace));
        let version = file.json(&Value::from(3.0));
        entries.push(("checkpoint_version".to_owned(), version));
        let info = ["original_vocab_size", "padded_vocab_size"];
        let mut info: Map<String, Value> = info
            .into_iter()
            .filter_map(|key| Some((key.to_owned(), args.get(key)?.clone())))
            .collect();
        info.insert("universal_checkpoint_version".to_owned(), Value::from(0.2));
        let info = file.json(&Value::Object(info));
        entries.push(("universal_checkpoint_info".to_owned(), info));
        let iteration = file.json(&Value::from(run.step));
        entries.push(("iteration".to_owned(), iteration));
    }
    let root = file.dict(entries);
    file.pickle.set_root(root);
    file.finish(tag, &format!("mp_rank_{rank:02}_model_states"))
}

fn optimizer_file(run: &Run<'_>, tag: &str, rank: usize, dp: u64) -> Result<RunFile, WriteError> {
    let bf16 = run.dtype == DType::BF16;
    let tensors = &run.ranks[rank];
    let mut file = Building::new();
    let (mut states, mut masters, mut paddings, mut hyper) = (vec![], vec![], vec![], vec![]);
    for (group, members) in groups(tensors).iter().enumerate() {
        let total: u64 = members.iter().map(|at| numel(&tensors[*at].1)).sum();
        let width = total.div_ceil(2 * run.dp) * 2;
        let start = dp * width;
        let held = width.min(total.saturating_sub(start));
        let padding = width - held;
        let mut parts = Vec::new();
        let mut offset = 0;
        for at in members {
            let len = numel(&tensors[*at].1);
            let (from, to) = (start.max(offset), (start + width).min(offset + len));
            if from < to {
                parts.push((*at, from - offset, to - from, from - start));
            }
            offset += len;
        }
        let partition =
            |state, len| Content::Partition { rank, state, tensors: parts.clone(), len };
        let step = file.step(run.step);
        let moments = [("exp_avg", width), ("exp_avg_sq", width)];
        let mut entries = vec![("step".to_owned(), step)];
        for (state, len) in moments {
            entries
                .push((state.to_owned(), file.storage(partition(state, len), DType::F32, &[len])?));
        }
        let entries = file.dict(entries);
        states.push((group, entries));
        let len = if bf16 { width } else { held };
        masters.push(file.storage(partition("fp32", len), DType::F32, &[len])?);
        paddings.push(Value::from(padding));
        hyper.push(serde_json::json!({
            "lr": 0.001, "betas": [0.9, 0.95], "eps": 1e-8,
            "weight_decay": if group == 0 { 0.1 } else { 0.0 }, "params": [group],
        }));
    }
    let keys: Vec<NodeId> =
        states.iter().map(|(group, _)| file.pickle.int(*group as i64)).collect();
    let state = keys.into_iter().zip(states).map(|(key, (_, entries))| (key, entries)).collect();
    let state = file.pickle.dict(state);
    let hyper = file.json(&Value::Array(hyper));
    let base = file.dict(vec![("state".to_owned(), state), ("param_groups".to_owned(), hyper)]);
    let masters = file.pickle.list(masters);
    let mut entries = vec![
        ("base_optimizer_state".to_owned(), base),
        ("single_partition_of_fp32_groups".to_owned(), masters),
    ];
    let mut plain = serde_json::json!({
        "clip_grad": 1.0, "group_paddings": paddings, "partition_count": [run.dp, run.dp],
        "ds_version": DEEPSPEED, "param_slice_mappings": [{}, {}],
    });
    if !bf16 {
        plain["zero_stage"] = Value::from(1);
    }
    for (key, value) in plain.as_object().into_iter().flatten() {
        entries.push((key.clone(), file.json(value)));
    }
    let inner = file.dict(entries);
    let version = file.json(&Value::from(DEEPSPEED));
    let root = file
        .dict(vec![("optimizer_state_dict".to_owned(), inner), ("ds_version".to_owned(), version)]);
    file.pickle.set_root(root);
    let prefix = if bf16 { "bf16_" } else { "" };
    file.finish(tag, &format!("{prefix}zero_pp_rank_{dp}_mp_rank_{rank:02}_optim_states"))
}

/// A torch file on the way.
struct Building {
    pickle: Pickle,
    storages: Vec<(String, u64)>,
    contents: Vec<Option<Content>>,
    /// Bytes of storages that are known: steps.
    known: Vec<(usize, Vec<u8>)>,
}

impl Building {
    fn new() -> Building {
        Building { pickle: Pickle::new(), storages: vec![], contents: vec![], known: vec![] }
    }

    fn weight(&mut self, run: &Run<'_>, rank: usize, tensor: usize) -> Result<NodeId, WriteError> {
        let shape = &run.ranks[rank][tensor].1;
        self.storage(Content::Weight { rank, tensor }, run.dtype, shape)
    }

    fn storage(
        &mut self,
        content: Content,
        dtype: DType,
        shape: &[u64],
    ) -> Result<NodeId, WriteError> {
        let key = self.storages.len().to_string();
        let node = self.pickle.whole_tensor(&key, dtype, shape).ok_or(WriteError::DType(dtype))?;
        self.storages.push((key, numel(shape) * dtype.size_bytes()));
        self.contents.push(Some(content));
        Ok(node)
    }

    #[expect(clippy::cast_precision_loss, reason = "torch keeps the step as a float, too")]
    fn step(&mut self, step: u64) -> NodeId {
        let key = self.storages.len().to_string();
        let node = self.pickle.whole_tensor(&key, DType::F32, &[]);
        self.known.push((self.storages.len(), (step as f32).to_le_bytes().to_vec()));
        self.storages.push((key, 4));
        self.contents.push(None);
        node.unwrap_or_else(|| self.pickle.none())
    }

    fn pairs(&mut self, entries: Vec<(String, NodeId)>) -> Vec<(NodeId, NodeId)> {
        entries.into_iter().map(|(key, value)| (self.pickle.str(&key), value)).collect()
    }

    fn dict(&mut self, entries: Vec<(String, NodeId)>) -> NodeId {
        let pairs = self.pairs(entries);
        self.pickle.dict(pairs)
    }

    fn ordered(&mut self, entries: Vec<(String, NodeId)>) -> NodeId {
        let pairs = self.pairs(entries);
        self.pickle.ordered_dict(pairs)
    }

    fn namespace(&mut self, attributes: Vec<(String, NodeId)>) -> NodeId {
        let pairs = self.pairs(attributes);
        self.pickle.namespace(pairs)
    }

    fn json(&mut self, value: &Value) -> NodeId {
        match value {
            Value::Null => self.pickle.none(),
            Value::Bool(flag) => self.pickle.bool(*flag),
            Value::String(text) => self.pickle.str(text),
            Value::Number(number) => match number.as_i64() {
                Some(number) => self.pickle.int(number),
                None => self.pickle.float(number.as_f64().unwrap_or(0.0)),
            },
            Value::Array(items) => {
                let items = items.iter().map(|item| self.json(item)).collect();
                self.pickle.list(items)
            }
            Value::Object(entries) => {
                let entries =
                    entries.iter().map(|(key, value)| (key.clone(), self.json(value))).collect();
                self.dict(entries)
            }
        }
    }

    fn finish(self, tag: &str, stem: &str) -> Result<RunFile, WriteError> {
        let layout = TorchLayout::new(stem, emit(&self.pickle)?, &self.storages)?;
        let offsets = layout.storage_offsets().to_vec();
        let mut fixed = layout.chunks(&[]);
        fixed.extend(self.known.into_iter().map(|(storage, bytes)| (offsets[storage], bytes)));
        fixed.sort_by_key(|(offset, _)| *offset);
        let contents = offsets.iter().zip(self.contents);
        Ok(RunFile {
            path: format!("{tag}/{stem}.pt"),
            len: layout.total_len(),
            fixed,
            storages: contents.filter_map(|(offset, content)| Some((*offset, content?))).collect(),
        })
    }
}
