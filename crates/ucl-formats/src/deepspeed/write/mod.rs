//! Lays out a step of DeepSpeed's engine before any value is known, for its plain load.
//!
//! The format is the one that the readers beside this read; see `runtime/engine.py`
//! (`_save_checkpoint`, `_save_zero_checkpoint`) and the optimizers' `state_dict`.

mod args;
mod chat;
mod experts;
mod flat;
mod model;
mod optimizer;
mod partitioned;
mod share;
mod source;
mod universal;

use crate::target::{Held, Rank, Run, RunFile, RunLayout, WriteError};
pub(crate) use chat::file as chat;
use experts::Experts;
pub use experts::most_expert_ranks;
use share::{Share, shares};
use source::Source;
use std::collections::BTreeSet;
use ucl_tensor::DType;
pub(crate) use universal::lay_out as lay_out_universal;

/// How the optimizer is cut over the data-parallel ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zero {
    /// `BF16_Optimizer`: as stage 1, nothing stripped.
    Bf16Optimizer,
    /// Stage 1.
    One,
    /// Stage 2: the same files.
    Two,
    /// Stage 3.
    Three {
        /// The elements of a rank that a sub-group is closed at: `sub_group_size` of the config.
        sub_group_size: u64,
    },
}

impl Zero {
    /// The `sub_group_size` that DeepSpeed takes if its config says none.
    pub const SUB_GROUP_SIZE: u64 = 1_000_000_000;

    /// As the optimizer of a checkpoint says it, in the words of the reader.
    pub fn of_optimizer(name: &str) -> Option<Zero> {
        match name {
            "BF16_Optimizer" => Some(Zero::Bf16Optimizer),
            "ZeRO-1" => Some(Zero::One),
            "ZeRO-2" => Some(Zero::Two),
            "ZeRO-3" => Some(Zero::Three { sub_group_size: Zero::SUB_GROUP_SIZE }),
            _ => None,
        }
    }

    /// The number of the stage.
    pub(super) fn stage(self) -> u64 {
        match self {
            Zero::Bf16Optimizer | Zero::One => 1,
            Zero::Two => 2,
            Zero::Three { .. } => 3,
        }
    }
}

/// The version that is recorded where the source has none: the one whose files were looked at.
const DEEPSPEED: &str = "0.19.8";

/// The folder of a step.
fn tag(run: &Run<'_>) -> String {
    format!("global_step{}", run.step.unwrap_or(0))
}

/// A rank of the model-parallel mesh, in the order of DeepSpeed's files.
struct Place<'r> {
    /// Its number there: pipeline stages outermost.
    mp: u64,
    /// Its place in [`Run::ranks`].
    at: usize,
    rank: &'r Rank,
}

/// All files of a run, `latest` among them.
///
/// # Errors
/// A name or type that the format cannot hold; what goes along cannot be read.
pub(crate) fn lay_out(run: &Run<'_>, zero: Zero) -> Result<RunLayout, WriteError> {
    let source = Source::of(run)?;
    possible(run, zero)?;
    let mut experts = Experts::of(run, &source)?;
    let spread = experts.spread(run)?;
    let run = spread.as_ref().unwrap_or(run);
    experts.fit(run, zero)?;
    let dp = size(run, "dp");
    let places = places(run);
    let layered = source::is_layered(run);
    let trained = has_optimizer(run);
    let mut files = Vec::new();
    for place in &places {
        if layered && experts.is_empty() {
            files.extend(model::layers(run, place)?);
        }
        match zero {
            Zero::Three { sub_group_size } => {
                for part in 0..dp {
                    let shares = shares(run, place, part, (layered, &experts, false));
                    let laid = partitioned::SubGroups::of(shares, sub_group_size, dp);
                    let of = (&laid, &source, &experts);
                    files.push(model::partitioned(run, place, part, of)?);
                    files.push(optimizer::partitioned(run, place, part, of)?);
                }
            }
            _ => {
                files.extend(experts.files(run, place)?);
                files.push(model::whole(run, place, zero, layered, (&source, &experts))?);
                for part in (0..dp).filter(|_| trained) {
                    let of = (zero, layered, &source, &experts);
                    files.push(optimizer::flat(run, place, part, of)?);
                }
            }
        }
    }
    files.push(RunFile::text("latest", tag(run)));
    let along = source.names(places.iter().map(|place| place.mp));
    Ok(RunLayout {
        files,
        along,
        lossy: lossy(run, &source),
        notes: [
            notes(run, zero, &source, &places),
            experts::as_others(run, &experts).into_iter().collect(),
        ]
        .concat(),
    })
}

/// What a person should know of it, a sentence each.
fn notes(run: &Run<'_>, zero: Zero, source: &Source, places: &[Place<'_>]) -> Vec<String> {
    let dealt = places.iter().any(|place| source.deals(place.mp, zero)) && has_optimizer(run);
    let dealt = dealt.then(|| {
        "Parameters are dealt out over the data-parallel ranks in turn, as the source's were: go on with `round_robin_gradients`."
            .to_owned()
    });
    dealt.into_iter().chain(muon(run, zero, source, places)).chain(source.repeats(places)).collect()
}

/// Stages 1 and 2 load Muon's momentum only as the optimizer's place asks for it.
fn muon(run: &Run<'_>, zero: Zero, source: &Source, places: &[Place<'_>]) -> Option<String> {
    let muon = run.groups.iter().any(optimizer::is_muons) && has_optimizer(run);
    if !muon || !matches!(zero, Zero::One | Zero::Two) {
        return None;
    }
    let whole = places.iter().any(|place| optimizer::has_matrices(zero, source, place));
    let kept = match whole {
        true => "of whole matrices on each rank, for a run without `offload_optimizer`",
        false => {
            "cut over the ranks, for a run with `offload_optimizer` on the CPU, as the source was"
        }
    };
    Some(format!("Muon's `momentum_buffer` is written {kept}."))
}

/// The ranks in the order of DeepSpeed's files.
fn places<'r>(run: &'r Run<'_>) -> Vec<Place<'r>> {
    let tp = size(run, "tp");
    let places = run.ranks.iter().enumerate().map(|(at, rank)| {
        let coordinate = |axis: &str| rank.at.get(axis).copied().unwrap_or(0);
        Place { mp: coordinate("pp") * tp + coordinate("tp"), at, rank }
    });
    let mut places: Vec<Place<'_>> = places.collect();
    places.sort_by_key(|place| place.mp);
    places
}

/// What the format has no place for.
fn lossy(run: &Run<'_>, source: &Source) -> Vec<String> {
    steps(run).into_iter().chain(args::left_out(run, source)).collect()
}

/// Parameters whose step is not their group's: a flat buffer has one for all that is in it.
fn steps(run: &Run<'_>) -> Option<String> {
    let held = run.ranks.iter().flat_map(|rank| &rank.tensors);
    let other = held.filter(|held| {
        let group = held.place.and_then(|(group, _)| run.groups.get(group));
        held.step.is_some() && held.step.as_ref() != group.and_then(|group| group.step.as_ref())
    });
    let other: BTreeSet<&str> = other.map(|held| held.name.as_str()).collect();
    let first = other.first()?;
    Some(format!(
        "{} parameters were at another step than their group, such as {first:?}: DeepSpeed keeps one for all of a group",
        other.len()
    ))
}

fn size(run: &Run<'_>, axis: &str) -> u64 {
    run.mesh.get(axis).copied().unwrap_or(1)
}

fn has_optimizer(run: &Run<'_>) -> bool {
    run.ranks.iter().flat_map(|rank| &rank.tensors).any(Held::is_trained)
}

/// What the format cannot be written of.
fn possible(run: &Run<'_>, zero: Zero) -> Result<(), WriteError> {
    known_axes(run)?;
    let partitioned = matches!(zero, Zero::Three { .. });
    if partitioned && (size(run, "pp") > 1 || source::is_layered(run)) {
        return Err(WriteError::refused(
            "DeepSpeed has no pipeline under ZeRO-3",
            "take a view whose names are no pipeline's (--view) and leave `pp` out of --mesh, or write `--zero 1`",
        ));
    }
    if partitioned && !has_optimizer(run) {
        return Err(WriteError::refused(
            "a ZeRO-3 step holds the weights as the optimizer's masters, and there is no optimizer here",
            "write `--to hf`, from which ZeRO-3 starts (`from_pretrained` under its config), or `--zero 1`",
        ));
    }
    let own =
        run.ranks.iter().flat_map(|rank| &rank.tensors).find(|held| {
            zero == Zero::Bf16Optimizer && held.is_trained() && held.dtype != DType::BF16
        });
    if let Some(held) = own {
        return Err(WriteError::refused(
            format!("`BF16_Optimizer` trains bf16 weights, and {:?} is {}", held.name, held.dtype),
            "write `--zero 1`, or `--dtype bf16`",
        ));
    }
    Ok(())
}

/// The axes that ranks are counted over.
fn known_axes(run: &Run<'_>) -> Result<(), WriteError> {
    let unknown = |axis: &String| !["tp", "pp", "dp", "ep"].contains(&axis.as_str());
    match run.mesh.iter().find(|(axis, size)| unknown(axis) && **size > 1) {
        Some((axis, _)) => {
            let message = format!("a DeepSpeed run is not cut over `{axis}` here");
            Err(WriteError::refused(message, "its axes: tp, pp, dp, ep"))
        }
        None => Ok(()),
    }
}

/// For each group of the optimizer the tensors of a rank that are in it, in its order.
fn members(rank: &Rank, groups: usize) -> Vec<Vec<usize>> {
    let mut members: Vec<Vec<((usize, usize), usize)>> = vec![Vec::new(); groups];
    for (number, held) in rank.tensors.iter().enumerate() {
        if let Some((group, place)) = held.place.filter(|_| held.is_trained()) {
            members[group].push(((place, number), number));
        }
    }
    let sorted = members.into_iter().map(|mut group| {
        group.sort_unstable();
        group.into_iter().map(|(_, number)| number).collect()
    });
    sorted.collect()
}

/// The states of the optimizer in a group of tensors, masters left out.
fn states(rank: &Rank, share: &Share) -> Vec<String> {
    let mut states: Vec<String> = Vec::new();
    let held = share.members.iter().map(|member| &rank.tensors[member.tensor]);
    for state in held.flat_map(|held| held.states.keys()) {
        if state != "fp32" && !states.contains(state) {
            states.push(state.clone());
        }
    }
    states
}
