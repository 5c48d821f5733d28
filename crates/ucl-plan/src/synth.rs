//! A run that was never trained: its files laid out, its values made from addresses.

use crate::bind::is_weight;
use crate::laid::LaidOut;
use crate::shard::Shards;
use crate::work::{Check, Move, TargetFile, TargetTensor, Work};
use indexmap::IndexMap;
use serde_json::{Map, Value, json};
use std::ops::Range;
use std::path::PathBuf;
use ucl_formats::inventory::{Group, Role};
use ucl_formats::target::{Held, Rank, Run, WriteError};
use ucl_formats::{Format, Inventory};
use ucl_ir::Mesh;
use ucl_tensor::{DType, synth_seed};

/// The files of a synthetic run; [`Work`] without sources.
pub struct Synth {
    shards: Shards,
    laid: LaidOut,
}

/// What is not in the shards of a synthetic run.
pub struct SynthRun {
    /// The whole mesh.
    pub mesh: Mesh,
    /// The step that it is saved at.
    pub step: u64,
    /// The type of the model's own weights.
    pub dtype: DType,
    /// Megatron's arguments, if it is a Megatron run.
    pub args: Option<Map<String, Value>>,
}

impl Synth {
    /// Lays out a run of these shards, trained by Adam: matrices decay, vectors do not, as Megatron
    /// groups them.
    ///
    /// # Errors
    /// What the format cannot hold.
    pub fn new(shards: Shards, run: SynthRun, format: Format) -> Result<Synth, WriteError> {
        let states = ["fp32", "exp_avg", "exp_avg_sq"];
        let states: IndexMap<String, DType> =
            states.map(|state| (state.to_owned(), DType::F32)).into_iter().collect();
        let ranks = shards.ranks.iter().map(|rank| {
            let tensors = rank.tensors.iter().enumerate().map(|(number, (name, shape))| Held {
                name: name.clone(),
                shape: shape.clone(),
                dtype: run.dtype,
                role: Role::Trained,
                copy: rank.items[number].copy,
                place: Some((usize::from(shape.len() < 2), number)),
                states: states.clone(),
                tied_name: rank.items[number].tied_name.clone(),
                step: None,
            });
            Rank { at: rank.at.clone(), tensors: tensors.collect(), ..Rank::default() }
        });
        let group = |decay: f64| {
            let hyper = json!({
                "lr": 0.001, "betas": [0.9, 0.95], "eps": 1e-8, "weight_decay": decay,
            });
            let hyper = hyper.as_object().cloned().unwrap_or_default().into_iter().collect();
            Group { hyper, step: Some(run.step.into()), ..Group::default() }
        };
        let laid = format.lay_out(&Run {
            class: None,
            positions: None,
            mesh: run.mesh,
            stages: Vec::new(),
            step: Some(run.step),
            ranks: ranks.collect(),
            groups: vec![group(0.1), group(0.0)],
            padded_vocab: shards.padded.get("v").copied(),
            args: run.args,
            keeps_args: true,
            source: &Inventory::default(),
            uncut: None,
        })?;
        Ok(Synth { shards, laid: LaidOut::of_run(laid.files) })
    }

    /// The same files without their values, which are then zeros: as much as headers tell.
    #[must_use]
    pub fn hollow(mut self) -> Synth {
        self.laid.hollow();
        self
    }
}

impl Work for Synth {
    fn sources(&self) -> &[PathBuf] {
        &[]
    }

    fn files(&self) -> &[TargetFile] {
        &self.laid.files
    }

    fn tensors(&self) -> &[TargetTensor] {
        &self.laid.tensors
    }

    fn checks(&self) -> &[Check] {
        &[]
    }

    fn seal(&self, file: usize, sums: &[u32]) -> Vec<(u64, Vec<u8>)> {
        self.laid.seal(file, sums)
    }

    fn window(&self, tensor: usize, elements: Range<u64>) -> Vec<Move> {
        let TargetTensor { state, dtype, .. } = &self.laid.tensors[tensor];
        let weights = is_weight(state);
        // A model's own weights are its masters, rounded: the same seed.
        let state = if state == "param" { "fp32" } else { state };
        let seed = |param: &str| synth_seed(param, state);
        let mut moves = Vec::new();
        for (part, elements, before) in self.laid.meeting(tensor, &elements) {
            let of = (part.rank, part.tensor);
            if weights && self.shards.ranks[part.rank].items[part.tensor].elsewhere {
                continue;
            }
            moves.extend(self.shards.synthesise(of, elements, before, *dtype, &seed));
        }
        moves
    }
}
