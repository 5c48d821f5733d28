//! A run that was never trained: its files laid out, its values made from addresses.

use crate::shard::Shards;
use crate::work::{Check, Move, TargetFile, TargetTensor, Work};
use std::ops::Range;
use std::path::PathBuf;
use ucl_formats::deepspeed::write::{Content, Run, RunFile, WriteError, lay_out};
use ucl_tensor::{DType, synth_seed};

/// The files of a synthetic run; [`Work`] without sources.
pub struct Synth {
    shards: Shards,
    files: Vec<TargetFile>,
    tensors: Vec<TargetTensor>,
    contents: Vec<Content>,
    dtype: DType,
}

impl Synth {
    /// Lays out a DeepSpeed ZeRO-1 run of these shards over `run.dp` data-parallel ranks.
    ///
    /// `run.ranks` is taken from the shards.
    ///
    /// # Errors
    /// A name or type that the format cannot hold.
    pub fn deepspeed(shards: Shards, run: &Run<'_>) -> Result<Synth, WriteError> {
        let ranks: Vec<Vec<(String, Vec<u64>)>> =
            shards.ranks.iter().map(|rank| rank.tensors.clone()).collect();
        let laid_out = lay_out(&Run { ranks: &ranks, ..*run })?;
        let mut synth = Synth {
            shards,
            files: Vec::new(),
            tensors: Vec::new(),
            contents: Vec::new(),
            dtype: run.dtype,
        };
        for file in laid_out {
            synth.add(file);
        }
        Ok(synth)
    }

    /// The same files without their values, which are then zeros: as much as headers tell.
    #[must_use]
    pub fn hollow(mut self) -> Synth {
        self.tensors.clear();
        self.contents.clear();
        self
    }

    fn add(&mut self, file: RunFile) {
        for (offset, content) in file.storages {
            let (name, state, dtype, shape) = match &content {
                Content::Weight { rank, tensor } => {
                    let (name, shape) = &self.shards.ranks[*rank].tensors[*tensor];
                    (name.clone(), "param", self.dtype, shape.clone())
                }
                Content::Partition { state, len, .. } => {
                    (format!("a partition of {state}"), *state, DType::F32, vec![*len])
                }
            };
            self.tensors.push(TargetTensor {
                name,
                state: state.to_owned(),
                dtype,
                shape,
                file: self.files.len(),
                offset,
            });
            self.contents.push(content);
        }
        self.files.push(TargetFile { path: file.path, len: file.len, fixed: file.fixed });
    }
}

impl Work for Synth {
    fn sources(&self) -> &[PathBuf] {
        &[]
    }

    fn files(&self) -> &[TargetFile] {
        &self.files
    }

    fn tensors(&self) -> &[TargetTensor] {
        &self.tensors
    }

    fn checks(&self) -> &[Check] {
        &[]
    }

    fn window(&self, tensor: usize, elements: Range<u64>) -> Vec<Move> {
        match &self.contents[tensor] {
            Content::Weight { rank, tensor } => {
                // A model's own weights are its masters, rounded: the same seed.
                let seed = |param: &str| synth_seed(param, "fp32");
                let window = signed(elements.start);
                self.shards.synthesise((*rank, *tensor), elements, window, self.dtype, &seed)
            }
            Content::Partition { rank, state, tensors, .. } => {
                let seed = |param: &str| synth_seed(param, state);
                let mut moves = Vec::new();
                for (place, first, len, start) in tensors {
                    let lo = elements.start.max(*start);
                    let hi = elements.end.min(start + len);
                    if lo < hi {
                        let part = first + (lo - start)..first + (hi - start);
                        // Element `first` of the tensor stands at `start` of the partition.
                        let window = signed(*first) - signed(*start) + signed(elements.start);
                        let tensor = (*rank, *place);
                        moves.extend(self.shards.synthesise(
                            tensor,
                            part,
                            window,
                            DType::F32,
                            &seed,
                        ));
                    }
                }
                moves
            }
        }
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
