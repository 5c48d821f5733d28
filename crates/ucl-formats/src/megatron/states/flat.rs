//! The distributed optimizer's states: runs of flat buffers.

use super::groups::Known;
use super::{Found, own};
use crate::inventory::{Buffer, Data, Inventory, Problem, Role, Run, Stored};
use crate::megatron::distributed::{Buffers, Flat, Placed, read, starts};
use crate::megatron::mesh::{Held, Step};
use crate::megatron::names::{Files, Numbers};
use crate::megatron::optimizer::Part;
use crate::megatron::order::{Kinds, Param, is_expert};
use crate::megatron::rank::RankFile;
use crate::named::Weight;
use crate::ranks::{Opened, open_all};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use ucl_tensor::DType;

/// A rank's `distrib_optim.pt`, or what is not as expected in it.
type Read = Opened<Result<Vec<Buffers>, String>>;

/// Opens the files of all ranks.
pub(super) fn open(
    files: &Files,
    inventory: &mut Inventory,
    unread: &mut Vec<Problem>,
) -> BTreeMap<Numbers, Read> {
    let paths: Vec<_> = files.distributed.values().cloned().enumerate().collect();
    let opened = open_all(&paths, inventory, unread, |file, _| read(file));
    let numbers: Vec<&Numbers> = files.distributed.keys().collect();
    opened
        .into_iter()
        .filter_map(|(index, file)| Some(((*numbers.get(index)?).clone(), file)))
        .collect()
}

impl<'a> Found<'a> {
    /// Adds one rank's states.
    pub(super) fn flat(
        &mut self,
        step: &Step<'_>,
        held: &'a Held,
        opened: &Read,
    ) -> Result<(), String> {
        let content = &held.file.content;
        let buffers = opened
            .content
            .as_ref()
            .map_err(|message| format!("distrib_optim.pt beside it: {message}"))?;
        let parts = &content.optimizer;
        if parts.len() != buffers.len() {
            return Err(format!(
                "distrib_optim.pt beside it has states of {}, the file itself has {}",
                crate::ranks::count(buffers.len() as u64, "optimizer"),
                parts.len()
            ));
        }
        let weights = own(&content.chunks);
        for (index, (part, buffers)) in parts.iter().zip(buffers).enumerate() {
            let of_part: Vec<(u64, &'a Weight)> = weights
                .iter()
                .filter(|(_, weight)| takes(parts, index, &weight.name))
                .copied()
                .collect();
            self.groups(part, held, &of_part);
            let places = of_part.iter().map(|(_, w)| (held.file.file, w.extent.file_offset));
            self.trained.extend(places);
            if let Some(buffers) = buffers {
                self.buffers_of(step, held, opened, buffers, &of_part)?;
            }
        }
        Ok(())
    }

    /// Which group each parameter is in, by its kind.
    fn groups(&mut self, part: &'a Part, held: &'a Held, weights: &[(u64, &'a Weight)]) {
        let kinds = Kinds::of(part.groups.iter().map(|group| &group.hyper));
        for (number, group) in part.groups.iter().enumerate() {
            let of_group = |weight: &Weight| {
                let param = Param { name: &weight.name, shape: &weight.extent.shape };
                kinds.of_param(&param) == Some(number)
            };
            let names = weights.iter().filter(|(_, weight)| of_group(weight));
            let names = names.map(|(_, weight)| weight.name.as_str()).collect();
            self.known.push(Known { path: &held.file.path, group, names });
        }
    }

    fn buffers_of(
        &mut self,
        step: &Step<'_>,
        held: &Held,
        opened: &Read,
        buffers: &[Flat],
        weights: &[(u64, &'a Weight)],
    ) -> Result<(), String> {
        let wanted = by_buffer(weights);
        if wanted.len() != buffers.len() {
            return Err(format!(
                "distrib_optim.pt beside it has {} buffers, the weights are of {} chunks and types",
                buffers.len(),
                wanted.len()
            ));
        }
        for (number, (flat, weights)) in buffers.iter().zip(wanted).enumerate() {
            let shared =
                |weight: &Weight| step.degrees.pp > 1 && is_shared(&held.file.content, weight);
            let placed: Vec<Placed> = weights
                .iter()
                .map(|(_, weight)| Placed { numel: weight.extent.numel, shared: shared(weight) })
                .collect();
            let starts = starts(&placed, flat.len, &sizes(&held.file.content))
                .map_err(|message| format!("distrib_optim.pt beside it: {message}"))?;
            for (state, extent) in &flat.states {
                self.buffers.push(Buffer {
                    label: format!("buffer {number} of {state}, {}", opened.path.display()),
                    file: opened.file,
                    offset: extent.file_offset,
                    len: flat.len,
                    dtype: extent.dtype,
                    padding: gaps(&placed, &starts, flat.len),
                });
                for ((chunk, weight), start) in weights.iter().zip(&starts) {
                    let run = Run {
                        start: 0,
                        len: weight.extent.numel,
                        file: opened.file,
                        offset: extent.file_offset + start * extent.dtype.size_bytes(),
                    };
                    self.tensors.push(Stored {
                        name: weight.name.clone(),
                        state: state.clone(),
                        dtype: extent.dtype,
                        shape: weight.extent.shape.clone(),
                        at: step.degrees.at(held.rank, *chunk),
                        role: Role::Trained,
                        data: Data::Runs(vec![run]),
                    });
                }
            }
        }
        Ok(())
    }
}

/// Whether an optimizer has a parameter: one of several says so for experts.
fn takes(parts: &[Part], index: usize, name: &str) -> bool {
    let of_experts = |part: &Part| {
        part.groups.iter().any(|group| {
            group.hyper.get("is_expert_parallel").and_then(Json::as_bool) == Some(true)
        })
    };
    let apart = parts.len() > 1 && parts.iter().any(of_experts);
    match apart {
        true => of_experts(&parts[index]) == is_expert(name),
        // Several optimizers that nothing tells apart: all have all, which comes to no length.
        false => true,
    }
}

/// Parameters with their chunks.
type Members<'a> = Vec<(u64, &'a Weight)>;

/// Parameters by chunk, then type, in the order in which the types come up.
fn by_buffer<'a>(weights: &[(u64, &'a Weight)]) -> Vec<Members<'a>> {
    let mut found: Vec<((u64, DType), Members<'a>)> = Vec::new();
    for (chunk, weight) in weights {
        let key = (*chunk, weight.extent.dtype);
        match found.iter_mut().find(|(known, _)| *known == key) {
            Some((_, members)) => members.push((*chunk, weight)),
            None => found.push((key, vec![(*chunk, weight)])),
        }
    }
    found.into_iter().map(|(_, members)| members).collect()
}

/// A table that the first and the last stage share has a bucket of its own.
fn is_shared(content: &RankFile, weight: &Weight) -> bool {
    let untied = content
        .args
        .as_ref()
        .and_then(|args| args.get("untie_embeddings_and_output_weights")?.as_bool());
    let ends = ["word_embeddings.weight", "output_layer.weight", "word_embeddings_for_head.weight"];
    untied != Some(true) && ends.iter().any(|end| weight.name.ends_with(end))
}

/// Sizes of buckets that flags may have set.
fn sizes(content: &RankFile) -> Vec<u64> {
    let ranks = content.arg("data_parallel_size").unwrap_or(1);
    let ranks = ranks.saturating_mul(content.arg("context_parallel_size").unwrap_or(1));
    let usual = ranks.saturating_mul(1_000_000).max(40_000_000);
    content.arg("ddp_bucket_size").into_iter().chain([usual]).collect()
}

/// What lies between parameters.
fn gaps(placed: &[Placed], starts: &[u64], len: u64) -> Vec<(u64, u64)> {
    let mut gaps = Vec::new();
    let mut next = 0;
    for (param, start) in placed.iter().zip(starts).rev() {
        if *start > next {
            gaps.push((next, start - next));
        }
        next = start + param.numel;
    }
    if len > next {
        gaps.push((next, len - next));
    }
    gaps
}
