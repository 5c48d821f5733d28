//! Writes what DeepSpeed's engine saves, by the simplest loops: the test's own idea of the format,
//! to hold the reader's against.

use super::pt::Pt;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use ucl_formats::torch::NodeId;

/// The states of an optimizer, in the order of [`Piece::states`].
pub const STATES: [&str; 3] = ["fp32", "exp_avg", "exp_avg_sq"];

/// What a tensor-parallel rank holds of a tensor.
#[derive(Clone, Debug)]
pub struct Piece {
    /// Its name.
    pub name: String,
    /// Its local shape.
    pub shape: Vec<u64>,
    /// The weight in the module.
    pub weight: Vec<f32>,
    /// Masters and moments.
    pub states: [Vec<f32>; 3],
}

/// Which of DeepSpeed's optimizers saved it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zero {
    /// `DeepSpeedZeroOptimizer` of stage 1 or 2, in fp32: masters without the padding at the end.
    Stage(u64),
    /// `BF16_Optimizer`: a module in bf16, nothing stripped, no stage.
    Bf16,
}

/// A run to write.
#[derive(Clone, Debug)]
pub struct Run {
    /// Data-parallel ranks.
    pub dp: usize,
    /// The optimizer.
    pub zero: Zero,
    /// The step.
    pub step: u64,
    /// Megatron's arguments.
    pub args: Value,
    /// `universal_checkpoint_info`.
    pub info: Value,
    /// By tensor-parallel rank, then by parameter group.
    pub ranks: Vec<Vec<Vec<Piece>>>,
}

impl Run {
    /// Writes the folder, which must not exist.
    pub fn write(&self, folder: &Path) {
        let tag = format!("global_step{}", self.step);
        let step = folder.join(&tag);
        fs::create_dir_all(&step).expect("a folder");
        fs::write(folder.join("latest"), tag).expect("latest");
        let prefix = if self.zero == Zero::Bf16 { "bf16_" } else { "" };
        for (tp, groups) in self.ranks.iter().enumerate() {
            self.model(groups, &step.join(format!("mp_rank_{tp:02}_model_states.pt")));
            for dp in 0..self.dp {
                let name = format!("{prefix}zero_pp_rank_{dp}_mp_rank_{tp:02}_optim_states.pt");
                self.shard(groups, dp, &step.join(name));
            }
        }
    }

    fn model(&self, groups: &[Vec<Piece>], path: &Path) {
        let mut pt = Pt::default();
        let mut module = Vec::new();
        let mut shapes = Vec::new();
        for group in groups {
            let mut sizes = Vec::new();
            for piece in group {
                let weight = match self.zero {
                    Zero::Bf16 => pt.halves(&piece.shape, &piece.weight),
                    Zero::Stage(_) => pt.floats(&piece.shape, &piece.weight),
                };
                module.push((piece.name.as_str(), weight));
                sizes.push((piece.name.as_str(), pt.pickle.size(&piece.shape)));
            }
            shapes.push(pt.ordered(sizes));
        }
        let mut entries =
            vec![("module", pt.ordered(module)), ("param_shapes", pt.pickle.list(shapes))];
        let plain = json!({
            "buffer_names": [], "optimizer": null, "frozen_param_shapes": null,
            "shared_params": {}, "frozen_param_fragments": null, "lr_scheduler": null,
            "data_sampler": null, "random_ltd": null, "skipped_steps": 0,
            "global_steps": self.step, "global_samples": self.step * 4,
            "dp_world_size": self.dp, "mp_world_size": self.ranks.len(),
            "checkpoint_parallel_dimensions": {"pp_degree": 1, "tp_degree": self.ranks.len()},
            "ds_config": {"zero_optimization": {"stage": self.stage()}},
            "ds_version": "0.19.8",
        });
        for (key, value) in plain.as_object().into_iter().flatten() {
            entries.push((key, pt.json(value)));
        }
        if let Some(args) = self.args.as_object() {
            let attributes = args.iter().map(|(key, value)| {
                let value = pt.json(value);
                (pt.pickle.str(key), value)
            });
            let attributes = attributes.collect();
            entries.push(("args", pt.pickle.namespace(attributes)));
            entries.push(("checkpoint_version", pt.json(&json!(3.0))));
            entries.push(("iteration", pt.json(&json!(self.step))));
        }
        if !self.info.is_null() {
            entries.push(("universal_checkpoint_info", pt.json(&self.info)));
        }
        let root = pt.dict(entries);
        pt.save(root, path);
    }

    fn shard(&self, groups: &[Vec<Piece>], dp: usize, path: &Path) {
        let mut pt = Pt::default();
        let (mut states, mut hyper, mut masters) = (Vec::new(), Vec::new(), Vec::new());
        let (mut paddings, mut gaps) = (Vec::new(), Vec::new());
        for (index, group) in groups.iter().enumerate() {
            let [fp32, exp_avg, exp_avg_sq] =
                [0, 1, 2].map(|state| self.partition(group, state, dp));
            let shape = [exp_avg.len() as u64];
            let step = pt.floats(&[], &[self.step as f32]);
            let entries = vec![
                ("step", step),
                ("exp_avg", pt.floats(&shape, &exp_avg)),
                ("exp_avg_sq", pt.floats(&shape, &exp_avg_sq)),
            ];
            let entries = pt.dict(entries);
            states.push((pt.pickle.int(index as i64), entries));
            let padding = self.padding(group, dp);
            let held = match self.zero {
                Zero::Bf16 => fp32.len(),
                Zero::Stage(_) => python_end(fp32.len(), fp32.len() as i64 - padding as i64),
            };
            masters.push(pt.floats(&[held as u64], &fp32[..held]));
            paddings.push(padding);
            gaps.push(vec![0; group.len()]);
            hyper.push(json!({
                "lr": 0.001, "betas": [0.9, 0.95], "eps": 1e-8,
                "weight_decay": if index == 0 { 0.1 } else { 0.0 }, "params": [index],
            }));
        }
        let states = pt.pickle.dict(states);
        let base = vec![("state", states), ("param_groups", pt.json(&json!(hyper)))];
        let base = pt.dict(base);
        let mut entries = vec![
            ("base_optimizer_state", base),
            ("single_partition_of_fp32_groups", pt.pickle.list(masters)),
        ];
        let plain = json!({
            "clip_grad": 1.0, "group_paddings": paddings, "ds_version": "0.19.8",
            "partition_count": vec![self.dp; groups.len()],
        });
        for (key, value) in plain.as_object().into_iter().flatten() {
            entries.push((key, pt.json(value)));
        }
        if let Zero::Stage(stage) = self.zero {
            entries.push(("param_alignment_paddings", pt.json(&json!(gaps))));
            let stage = pt.pickle.int(stage as i64);
            let module = "deepspeed.runtime.zero.config";
            entries.push(("zero_stage", pt.pickle.call(module, "ZeroStageEnum", &[stage])));
        }
        let root = whole(&mut pt, entries);
        pt.save(root, path);
    }

    fn stage(&self) -> u64 {
        match self.zero {
            Zero::Stage(stage) => stage,
            Zero::Bf16 => 1,
        }
    }

    /// A rank's part of a group: all tensors end to end, zeros until 2 dp divides the length, cut
    /// in dp equal parts.
    fn partition(&self, group: &[Piece], state: usize, dp: usize) -> Vec<f32> {
        let mut flat: Vec<f32> = Vec::new();
        for piece in group {
            flat.extend(&piece.states[state]);
        }
        while !flat.len().is_multiple_of(2 * self.dp) {
            flat.push(0.0);
        }
        let width = flat.len() / self.dp;
        flat[dp * width..(dp + 1) * width].to_vec()
    }

    /// All padding counts as the last rank's, even what lies in the parts of others.
    fn padding(&self, group: &[Piece], dp: usize) -> usize {
        let total: usize = group.iter().map(|piece| piece.states[0].len()).sum();
        if dp + 1 == self.dp { total.next_multiple_of(2 * self.dp) - total } else { 0 }
    }
}

fn whole(pt: &mut Pt, entries: Vec<(&str, NodeId)>) -> NodeId {
    let state = pt.dict(entries);
    let version = pt.json(&json!("0.19.8"));
    pt.dict(vec![("optimizer_state_dict", state), ("ds_version", version)])
}

/// Where `list[:end]` ends in Python, which counts negative numbers from the end of the list.
fn python_end(len: usize, end: i64) -> usize {
    let end = if end < 0 { end + len as i64 } else { end };
    (end.max(0) as usize).min(len)
}
