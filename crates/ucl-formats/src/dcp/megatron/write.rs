//! Lays out a step of Megatron-core's `torch_dist` before any value is known.
//!
//! `megatron/core/dist_checkpointing`: whole tensors, which ranks of any mesh take their parts from. A
//! chunk is one matrix or a part of its rows, so that a rank which wants one layer reads no other. The
//! optimizer's states have the shapes of the weights, in one of two forms: see [`Optimizer`].

use super::common::METADATA_JSON;
use super::optimizer;
use super::optimizer::{RESHARDABLE, SHARDING};
use crate::dcp::write::{Save, rows};
use crate::megatron::write::{Groups, Kind, LATEST, Source};
use crate::megatron::write::{fit, folder, is_trained, latest, size, stages};
use crate::target::{Draft, Held, Run, RunFile, RunLayout, WriteError};
use crate::torch::NodeId;
use indexmap::IndexMap;
use serde_json::json;
use ucl_tensor::DType;

/// The most bytes of a chunk, where rows can be cut.
const LARGEST: u64 = 1 << 28;

/// More files than this are no help to anybody.
const MOST_FILES: u64 = 1 << 14;

/// Which optimizer goes on. Neither loads what the other saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Optimizer {
    /// Every data-parallel rank has all of it: masters are called `fp32_param`, and 32-bit weights have
    /// none. The states are whatever there are.
    Plain,
    /// `--use-distributed-optimizer`: its form `fully_reshardable`, which any mesh loads since core 0.15.
    /// Masters are called `param`, and all weights have them. The states are those of Adam.
    Distributed,
}

/// All files of a run.
///
/// # Errors
/// A name or type that the format cannot hold; states that the optimizer does not have; what goes along
/// cannot be read.
pub(crate) fn lay_out(run: &Run<'_>, kind: Optimizer) -> Result<RunLayout, WriteError> {
    optimizer::possible(run, kind)?;
    let writers = run.mesh.iter().filter(|(axis, _)| !["vpp", "etp"].contains(&axis.as_str()));
    let writers: u64 = writers.map(|(_, size)| size.max(&1)).product();
    if writers > MOST_FILES {
        let message = format!("the mesh has {writers} ranks, and each would write a file");
        return Err(WriteError::refused(message, "say fewer with --mesh; any mesh loads it"));
    }
    let source = Source::of(run)?;
    let groups = Groups::of(run)?;
    let mut save = Save::default();
    for writer in 0..writers {
        save.file(format!("__{writer}_0.distcp"));
    }
    let halves = run.ranks.iter().flat_map(|rank| &rank.tensors).any(has_master);
    let mut layers = Linear::default();
    for (rank, own) in run.ranks.iter().enumerate() {
        for (number, held) in own.tensors.iter().enumerate() {
            let at = (rank, number);
            whole(&mut save, run, at, (&held.name, "param"))?;
            layers.add(held);
            for state in held.states.keys().filter(|_| held.is_trained()) {
                let key = match (state.as_str(), kind) {
                    ("fp32", Optimizer::Distributed) => "param",
                    ("fp32", Optimizer::Plain) if !has_master(held) => continue,
                    ("fp32", Optimizer::Plain) => "fp32_param",
                    (state, _) => state,
                };
                let name = format!("optimizer.state.{key}.{}", held.name);
                whole(&mut save, run, at, (&name, state))?;
            }
        }
    }
    layers.write(&mut save)?;
    for (stage, rank) in stages(run) {
        let mut draft = Draft::default();
        let Some(state) = source.random(&mut draft, (stage, 0, rank))? else { break };
        let root = draft.pickle.list(vec![state]);
        draft.pickle.set_root(root);
        let (pp, tp) = (size(run, "pp"), size(run, "tp"));
        let file = save.emptiest();
        save.object(&format!("rng_state/shard_{stage}.{rank}_{pp}.{tp}"), file, draft)?;
    }
    let step = folder(run);
    let mut files = save.finish(&step)?;
    files.push(common(run, &groups, &source, (kind, halves))?);
    let backend = json!({
        "sharded_backend": "torch_dist", "sharded_backend_version": 1,
        "common_backend": "torch", "common_backend_version": 1,
    });
    files.push(RunFile::text(format!("{step}/{METADATA_JSON}"), backend.to_string()));
    files.push(RunFile::text(LATEST, latest(run)));
    let mut notes = optimizer::notes(run, &groups, kind);
    notes.extend(source.repeats());
    Ok(RunLayout { files, along: source.names(), notes, ..RunLayout::default() })
}

fn has_master(held: &Held) -> bool {
    held.is_trained() && held.dtype != DType::F32
}

/// A tensor in one of its states, a chunk for each matrix in it.
fn whole(
    save: &mut Save,
    run: &Run<'_>,
    (rank, number): (usize, usize),
    (name, state): (&str, &str),
) -> Result<(), WriteError> {
    let held = &run.ranks[rank].tensors[number];
    let dtype = held.states.get(state).copied().unwrap_or(held.dtype);
    save.tensor(name, dtype, &held.shape);
    let cut = held.shape.len().saturating_sub(2);
    let (front, matrix) = held.shape.split_at(cut);
    if held.elements() == 0 && !held.shape.is_empty() {
        return Ok(());
    }
    let extent = matrix.first().copied().unwrap_or(1);
    let row: u64 = matrix.iter().skip(1).product::<u64>() * dtype.size_bytes();
    let most = (LARGEST / row.max(1)).max(1);
    let parts = extent.div_ceil(most);
    let mut index = vec![0; cut];
    loop {
        for part in 0..parts {
            let (lo, hi) = (extent * part / parts, extent * (part + 1) / parts);
            let (offsets, buffer) = rows(run, (rank, number), state, (&index, lo, hi - lo));
            let file = save.emptiest();
            save.chunk(name, file, offsets, buffer)?;
        }
        // The next matrix: the last index first.
        let next = (0..cut).rev().find(|dim| index[*dim] + 1 < front[*dim]);
        let Some(dim) = next else { return Ok(()) };
        index[dim] += 1;
        index[dim + 1..].fill(0);
    }
}

/// The linear modules of layers: each has an extra state, which is empty but under fp8.
#[derive(Default)]
struct Linear(IndexMap<String, Vec<u64>>);

impl Linear {
    fn add(&mut self, held: &Held) {
        let Some(module) = held.name.strip_suffix(".weight") else { return };
        let own = module.rsplit('.').next().unwrap_or_default();
        if !own.starts_with("linear_") || !module.contains(".layers.") {
            return;
        }
        let axes = held.shape.len().saturating_sub(2);
        self.0.insert(module.to_owned(), held.shape[..axes].to_vec());
    }

    fn write(self, save: &mut Save) -> Result<(), WriteError> {
        for (module, extents) in self.0 {
            let count: u64 = extents.iter().product();
            for number in 0..count {
                let (mut rest, mut at) = (number, vec![0; extents.len()]);
                for dim in (0..extents.len()).rev() {
                    (at[dim], rest) = (rest % extents[dim], rest / extents[dim]);
                }
                let mut draft = Draft::default();
                let none = draft.pickle.none();
                let root = draft.pickle.list(vec![none]);
                draft.pickle.set_root(root);
                let name = match extents.is_empty() {
                    true => format!("{module}._extra_state/shard_0_1"),
                    false => {
                        format!("{module}._extra_state/shard_{}_{}", dotted(&at), dotted(&extents))
                    }
                };
                let file = save.emptiest();
                save.object(&name, file, draft)?;
            }
        }
        Ok(())
    }
}

fn dotted(numbers: &[u64]) -> String {
    let numbers: Vec<String> = numbers.iter().map(u64::to_string).collect();
    numbers.join(".")
}

/// `common.pt`: everything that is not sharded.
fn common(
    run: &Run<'_>,
    groups: &Groups,
    source: &Source,
    (kind, halves): (Optimizer, bool),
) -> Result<RunFile, WriteError> {
    let mut draft = Draft::default();
    let mut carried = source.shared(&mut draft)?;
    let args = fit(&mut draft, run, carried.shift_remove("args"), (0, 0, 0), Kind::TorchDist(kind));
    let mut entries: IndexMap<String, NodeId> = IndexMap::new();
    entries.extend(args.map(|args| ("args".to_owned(), args)));
    entries.insert("checkpoint_version".to_owned(), draft.pickle.float(3.0));
    entries.insert("iteration".to_owned(), draft.json(&run.step.unwrap_or(0).into()));
    if is_trained(run) {
        let optimizer = optimizer::common(&mut draft, (groups, source), (kind, halves))?;
        entries.insert("optimizer".to_owned(), optimizer);
    }
    entries.extend(carried);
    let mut about = match kind {
        Optimizer::Plain => json!({}),
        // By these a run that goes on finds out in which form the states are.
        Optimizer::Distributed => json!({
            SHARDING: RESHARDABLE, "distrib_optim_fully_reshardable_mem_efficient": false,
        }),
    };
    about["singleton_local_shards"] = false.into();
    about["chained_optim_avoid_prefix"] = true.into();
    entries.insert("content_metadata".to_owned(), draft.json(&about));
    let root = draft.dict(entries.into_iter().collect());
    draft.pickle.set_root(root);
    draft.finish(format!("{}/common.pt", folder(run)), "common")
}
