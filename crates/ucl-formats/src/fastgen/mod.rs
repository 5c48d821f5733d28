//! What DeepSpeed-FastGen serialises, laid out before any value is known.
//!
//! See `inference/v2/engine_v2.py` (`serialize`), `engine_factory.py` (`build_engine_from_ds_checkpoint`)
//! and `model_implementations/flat_model_helpers.py`. Every tensor rank has one file of bytes and one
//! that says where in these each parameter lies; the first rank has the model's config, pickled.

mod config;
mod metadata;

use crate::target::{Buffer, Draft, Part, Run, RunFile, RunLayout, WriteError};
use indexmap::IndexSet;
use metadata::{ModelMetadata, TensorMetadata};
use std::collections::HashMap;
use ucl_tensor::DType;

/// Parameters begin at multiples of this, in bytes.
const ALIGNMENT: u64 = 256;

/// The layer of what is in none.
const REST: &str = "non_transformer";

/// All files of a model.
///
/// # Errors
/// Another axis than `tp`, a view whose classes FastGen does not have, weights that it does not compute
/// in, a source without a config.
pub(crate) fn lay_out(run: &Run<'_>) -> Result<RunLayout, WriteError> {
    let dtype = possible(run)?;
    let policy = run.class.as_deref().ok_or_else(|| {
        WriteError::refused(
            "FastGen loads a model by a class of its own, and the view names none",
            "leave --view out, or add a `class` line to the view",
        )
    })?;
    let mut files = Vec::new();
    for number in 0..run.ranks.len() {
        let (bytes, metadata) = rank(run, number, policy, dtype)?;
        files.push(bytes);
        files.push(metadata);
    }
    let (config, changed) = config::file(run, dtype)?;
    files.push(config);
    let ranks = run.ranks.len();
    let mut notes = vec![format!(
        "An engine of `tp_size` {ranks} loads it, and no other. As FastGen's own, the files put each rank on its GPU: without GPUs, `torch.load` needs a `map_location`."
    )];
    notes.extend(changed);
    Ok(RunLayout { files, along: vec![config::NAME.to_owned()], notes, ..RunLayout::default() })
}

/// The type of the weights, if FastGen can have the model.
fn possible(run: &Run<'_>) -> Result<DType, WriteError> {
    if let Some((axis, _)) = run.mesh.iter().find(|(axis, size)| *axis != "tp" && **size > 1) {
        let message = format!("FastGen cuts a model over `tp` alone, not over `{axis}`");
        return Err(WriteError::refused(message, format!("leave `{axis}` out of --mesh")));
    }
    let held = || run.ranks.iter().flat_map(|rank| &rank.tensors);
    let first = held().next().ok_or_else(|| {
        WriteError::refused("there is no tensor to write", "look at it with `ucl inspect`")
    })?;
    if let Some(other) = held().find(|held| held.dtype != first.dtype) {
        let message = format!(
            "FastGen computes in one type, and {:?} is {} where {:?} is {}",
            other.name, other.dtype, first.name, first.dtype
        );
        return Err(WriteError::refused(
            message,
            "say which with `--dtype bf16` or `--dtype fp16`",
        ));
    }
    match first.dtype {
        DType::BF16 | DType::F16 => Ok(first.dtype),
        dtype => Err(WriteError::refused(
            format!("FastGen computes in bf16 or fp16, and the weights are {dtype}"),
            "say which with `--dtype bf16` or `--dtype fp16`: they are rounded to it",
        )),
    }
}

/// The two files of a rank.
fn rank(
    run: &Run<'_>,
    number: usize,
    policy: &str,
    dtype: DType,
) -> Result<(RunFile, RunFile), WriteError> {
    let ranks = run.ranks.len();
    let rank = &run.ranks[number];
    let mut model = ModelMetadata::of(policy);
    let (mut parts, mut end) = (Vec::new(), 0);
    let own: HashMap<&str, usize> =
        rank.tensors.iter().enumerate().map(|(at, held)| (&*held.name, at)).collect();
    for (full, layer, name) in placed(run)? {
        let Some(&tensor) = own.get(full) else {
            model.add(layer, name, TensorMetadata::absent());
            continue;
        };
        let held = &rank.tensors[tensor];
        model.add(layer, name, TensorMetadata::of(held, end));
        let start = end / dtype.size_bytes();
        parts.push(Part { rank: number, tensor, first: 0, len: held.elements(), start });
        end += (held.elements() * dtype.size_bytes()).next_multiple_of(ALIGNMENT);
    }
    // All weights are of one type, so the bytes are a buffer of it.
    let buffer = Buffer {
        name: format!("rank {number} of {ranks}"),
        state: "param".to_owned(),
        dtype,
        shape: vec![end / dtype.size_bytes()],
        parts: parts.into(),
    };
    let mut draft = Draft::default();
    let root = draft.bytes(buffer, &format!("cuda:{number}"))?;
    draft.pickle.set_root(root);
    let stem = format!("params_rank_{number}_of_{ranks}");
    let bytes = draft.finish(format!("{stem}.pt"), &stem)?;
    Ok((bytes, RunFile::text(format!("metadata_rank_{number}_of_{ranks}.json"), model.text())))
}

/// What some rank holds, in the order of FastGen's layers, what is in none last: the name, its layer,
/// its name there.
fn placed<'r>(run: &'r Run<'_>) -> Result<Vec<(&'r str, &'r str, &'r str)>, WriteError> {
    let mut placed = IndexSet::new();
    for held in run.ranks.iter().flat_map(|rank| &rank.tensors) {
        let (layer, name) = held.name.split_once('.').ok_or_else(|| {
            let message = format!("{:?} is in no layer of FastGen's", held.name);
            WriteError::refused(message, "names are as in the view `fastgen`: `layer.parameter`")
        })?;
        placed.insert((&*held.name, layer, name));
    }
    let mut placed: Vec<_> = placed.into_iter().collect();
    // The model's order has the embedding first.
    placed.sort_by_key(|(_, layer, _)| *layer == REST);
    Ok(placed)
}
