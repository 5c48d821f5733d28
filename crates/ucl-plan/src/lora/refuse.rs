//! Why low-rank pairs cannot be added to their weights.

use super::{Half, is_mergeable};
use crate::bind::{Bound, PieceRole, is_weight};
use std::collections::BTreeSet;
use ucl_formats::Inventory;
use ucl_formats::lora::{Pair, is_half};
use ucl_ir::Diagnostic;
use ucl_tensor::DType;

/// Where a pair can be merged that this program does not merge.
const ELSEWHERE: &str = "merge it with the library that trained it (PEFT: `merge_and_unload`); `--to universal` without --merge-lora keeps its tensors as they are";

fn lora(message: String) -> Diagnostic {
    Diagnostic::new("ucl::lora", message)
}

/// What a Hugging Face model is not: a model with pairs beside it.
pub(crate) fn unmergeable(bound: &Bound<'_>) -> Option<Diagnostic> {
    if is_all_halves(bound.inventory) {
        return Some(weights_elsewhere(bound.inventory));
    }
    let pairs = bound.inventory.adapters.tensors.len();
    (pairs > 0).then(|| {
        lora(format!(
            "{pairs} tensors are of low-rank adapters (LoRA), which are no part of a Hugging Face model"
        ))
        .help("`--merge-lora` adds each pair to its weight; `--to universal` keeps them apart, with their optimizer states")
    })
}

/// Whether all tensors are halves of pairs, by their names: what was trained, without its model.
pub(crate) fn is_all_halves(inventory: &Inventory) -> bool {
    let mut names = inventory.tensors.iter().map(|stored| stored.name.as_str()).peekable();
    names.peek().is_some() && names.all(is_half)
}

fn weights_elsewhere(inventory: &Inventory) -> Diagnostic {
    let names: BTreeSet<&str> = inventory.tensors.iter().map(|s| s.name.as_str()).collect();
    let what = match names.len() {
        1 => "the tensor here is a half of a low-rank pair".to_owned(),
        count => format!("all {count} tensors here are halves of low-rank pairs"),
    };
    lora(format!(
        "{what} (LoRA), and the weights that they belong to are not in this folder"
    ))
    .help("frozen weights are left out of some folders: give the step that this one was made from, which has both, with `--merge-lora`; `--to universal` keeps the pairs as they are")
}

/// What stands against merging at all.
pub(super) fn obstacles(bound: &Bound<'_>) -> Vec<Diagnostic> {
    let adapters = &bound.inventory.adapters;
    if bound.inventory.is_adapter() {
        return vec![
            lora("this is an adapter without its model, so there is nothing to merge it into".to_owned())
                .help("give the model's folder, and this one behind the flag: `ucl convert MODEL DST --to hf --merge-lora=ADAPTER`"),
        ];
    }
    if is_all_halves(bound.inventory) {
        return vec![weights_elsewhere(bound.inventory)];
    }
    if adapters.is_empty() {
        return vec![
            lora("there are no low-rank pairs here to merge".to_owned())
                .help("leave --merge-lora out, or name the folder of an adapter: --merge-lora=DIR"),
        ];
    }
    let obstacle =
        |why: &String| lora(format!("the adapter can't be merged: {why}")).help(ELSEWHERE);
    adapters.obstacles.iter().map(obstacle).collect()
}

pub(super) fn no_weight(bound: &Bound<'_>, pair: &Pair) -> Diagnostic {
    let Pair { weight, down, .. } = pair;
    let model = bound.spec.map_or("identity", |(program, _)| &program.model.name);
    lora(format!("{weight:?}, the weight of the pair {down:?}, is no weight of `{model}`")).help(
        match bound.tied {
            true => "an adapter of another model? A tied head has no weight of its own to add to",
            false => "an adapter of another model?",
        },
    )
}

pub(super) fn no_plain_weight(pair: &Pair, shape: &[u64]) -> Diagnostic {
    lora(format!("{:?} has shape {shape:?}; a pair is added to a matrix", pair.weight))
        .help(ELSEWHERE)
}

pub(super) fn no_half(name: &str) -> Diagnostic {
    lora(format!("{name:?}, a half of a pair, is not among the tensors"))
}

pub(super) fn no_matrix(name: &str, shape: &[u64]) -> Diagnostic {
    lora(format!("{name:?}, a half of a pair, has shape {shape:?}; two dims are expected, neither of them 0"))
        .help("weights that were saved under ZeRO-3 before they were gathered are empty: save the adapter again")
}

pub(super) fn in_part(name: &str) -> Diagnostic {
    lora(format!("{name:?}, a half of a pair, is not stored whole and once"))
        .help("the checkpoint is incomplete")
}

pub(super) fn dtype(name: &str, dtype: DType) -> Diagnostic {
    lora(format!("{name:?} is {dtype}; pairs are merged in F32, from F32, BF16 and F16"))
        .help("dequantise the weights first")
}

pub(super) fn ranks(pair: &Pair, down: &Half<'_>, up: &Half<'_>) -> Diagnostic {
    lora(format!(
        "{:?} has rank {}, {:?} has rank {}: they are no pair",
        pair.down, down.rank, pair.up, up.rank
    ))
    .help("files of different runs?")
}

pub(super) fn said_rank(pair: &Pair, rank: u64) -> Diagnostic {
    let said = pair.rank.unwrap_or_default();
    lora(format!("{:?} has rank {rank}, adapter_config.json says {said}", pair.down))
        .help("is it the config of another adapter?")
}

pub(super) fn shapes(pair: &Pair, weight: [u64; 2], input: u64, output: u64) -> Diagnostic {
    lora(format!(
        "the pair of {:?} goes from {input} to {output}, the weight is {weight:?}",
        pair.weight
    ))
    .help("an adapter of another model?")
}

pub(super) fn square(pair: &Pair) -> Diagnostic {
    lora(format!(
        "{:?} is square, and nothing says whether its rows are the output",
        pair.weight
    ))
    .help("put the adapter's adapter_config.json beside the checkpoint: its fan_in_fan_out says it")
}

pub(super) fn no_alpha(pair: &Pair) -> Diagnostic {
    lora(format!("no file records by what the pair of {:?} is scaled", pair.weight)).help(
        "put the adapter's adapter_config.json beside the checkpoint, or say --lora-alpha X: pairs are scaled by X / rank",
    )
}

pub(super) fn two_alphas(pair: &Pair, known: f64, said: f64) -> Diagnostic {
    lora(format!(
        "--lora-alpha says {said}, adapter_config.json says {known} for {:?}",
        pair.weight
    ))
    .help("leave --lora-alpha out, or correct the file")
}

pub(super) fn no_scale(pair: &Pair, alpha: f64) -> Diagnostic {
    lora(format!("alpha {alpha} of {:?} is no scale in F32", pair.weight))
}

/// What stands against adding to a weight.
pub(super) fn unmergeable_weight(
    bound: &Bound<'_>,
    pair: &Pair,
    param: usize,
    bounds: &[(u64, u64)],
) -> Result<(), Diagnostic> {
    let path = &bound.params[param].path;
    let tied = |program: &ucl_ir::Program| {
        program.model.params.iter().any(|other| other.tied.as_ref() == Some(path))
    };
    if bound.tied && bound.spec.is_some_and(|(program, _)| tied(program)) {
        let message = format!(
            "{:?} is the head too, and the pair was trained for one of them alone",
            pair.weight
        );
        return Err(lora(message).help(ELSEWHERE));
    }
    for state in bound.states().iter().filter(|state| is_weight(state)) {
        for (piece, _) in bound.atlas.meeting(param, state, bounds) {
            if !is_mergeable(piece.dtype) {
                return Err(dtype(&pair.weight, piece.dtype));
            }
            if matches!(piece.role, PieceRole::Average(_) | PieceRole::Sum) {
                let message = format!("{:?} is merged of several ranks' values", pair.weight);
                return Err(lora(message).help(ELSEWHERE));
            }
        }
    }
    Ok(())
}
