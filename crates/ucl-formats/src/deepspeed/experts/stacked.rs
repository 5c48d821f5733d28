//! AutoEP, which swaps a model's own mixtures for stacks of experts: `ds_autoep_layers`.
//!
//! A rank keeps the weights of its experts as one tensor with an expert in each row
//! (`module_inject/auto_ep_layer.py`); the files of experts have the rows, one by one. The inventory has
//! the stack over all ranks, as DeepSpeed's own converter does.

use super::Expert;
use super::name::STACKED;
use crate::inventory::{Data, FileId, Mesh, Problem, Role, Run, Stored};
use crate::named::Weight;
use crate::ranks::count;
use crate::torch::Value;
use indexmap::IndexMap;
use std::collections::BTreeSet;
use std::path::Path;

/// More experts than this in a mixture are no number but damage.
const MOST: u64 = 1 << 20;

/// A mixture of AutoEP.
#[derive(Clone, Debug, Default)]
pub(in crate::deepspeed) struct Stacked {
    /// What its names begin with, `model.layers.1.mlp.experts`.
    pub(in crate::deepspeed) mixture: String,
    /// How many experts there are.
    pub(in crate::deepspeed) experts: u64,
    /// The experts of each expert rank, in the order of their rows.
    pub(in crate::deepspeed) of_rank: Vec<Vec<u64>>,
    /// The expert rank that saved the file.
    pub(in crate::deepspeed) here: Option<u64>,
}

impl Stacked {
    /// Whether a stack is of this mixture, by its name.
    pub(in crate::deepspeed) fn holds(&self, name: &str) -> bool {
        let of = name.rsplit_once('.');
        of.is_some_and(|(mixture, weight)| mixture == self.mixture && STACKED.contains(&weight))
    }

    /// A router's parameter, by the name that it has in another child of the layer: AutoEP puts the router under
    /// the name that the model looks for its outputs by, too.
    pub(in crate::deepspeed) fn router(&self, name: &str) -> Option<String> {
        let layer = self.mixture.strip_suffix("experts")?;
        (layer.is_empty() || layer.ends_with('.')).then_some(())?;
        let (child, rest) = name.strip_prefix(layer)?.split_once('.')?;
        (!["experts", "router"].contains(&child)).then(|| format!("{layer}router.{rest}"))
    }

    /// The shape of a stack over all ranks, and the rows of it that an expert rank has, by its own shape.
    pub(in crate::deepspeed) fn whole(
        &self,
        name: &str,
        own: &[u64],
        rank: u64,
    ) -> Result<(Vec<u64>, &[u64]), String> {
        let rows = usize::try_from(rank).ok().and_then(|rank| self.of_rank.get(rank));
        let Some(rows) = rows else {
            let ranks = self.of_rank.len();
            return Err(format!(
                "`ds_autoep_layers` shares `{name}` out among {ranks} ranks, rank {rank} is not among them"
            ));
        };
        match own.split_first() {
            Some((first, row)) if *first == rows.len() as u64 => {
                Ok(([&[self.experts], row].concat(), rows))
            }
            _ => Err(format!(
                "`{name}` has the shape {own:?}, `ds_autoep_layers` says that a rank has {}",
                count(rows.len() as u64, "expert")
            )),
        }
    }
}

/// The mixtures of `ds_autoep_layers`.
pub(in crate::deepspeed) fn stacks(value: Value<'_>) -> Result<Vec<Stacked>, String> {
    let layers = value.items().into_iter().flatten();
    layers
        .enumerate()
        .map(|(index, layer)| {
            stack(layer).map_err(|what| format!("entry {index} of `ds_autoep_layers` {what}"))
        })
        .collect()
}

fn stack(layer: Value<'_>) -> Result<Stacked, String> {
    let number = |key: &str| {
        let found = layer.get(key).and_then(Value::as_u64).filter(|n| (1..=MOST).contains(n));
        found.ok_or_else(|| format!("has no number of at most {MOST} in `{key}`"))
    };
    let mixture = layer.get("expert_key_prefix").and_then(|v| v.as_str().map(str::to_owned));
    let mixture = mixture.ok_or("has no name in `expert_key_prefix`")?;
    let (experts, ranks) = (number("num_experts")?, number("ep_size")?);
    let placed = layer.get("expert_placement").and_then(|placement| placement.get("ranks"));
    let of_rank: Vec<Vec<u64>> = match placed.and_then(Value::items) {
        Some(entries) => {
            let mut of_rank: Vec<(u64, Vec<u64>)> = Vec::new();
            for entry in entries {
                let rank = entry.get("rank").and_then(Value::as_u64);
                let ids = entry.get("experts").and_then(Value::items);
                let ids: Option<Vec<u64>> = ids.and_then(|ids| ids.map(Value::as_u64).collect());
                of_rank.push(rank.zip(ids).ok_or("has an `expert_placement` without numbers")?);
            }
            of_rank.sort_by_key(|(rank, _)| *rank);
            if of_rank.iter().enumerate().any(|(at, (rank, _))| at as u64 != *rank) {
                return Err(
                    "has an `expert_placement` that lacks a rank or has one twice".to_owned()
                );
            }
            of_rank.into_iter().map(|(_, ids)| ids).collect()
        }
        None if experts.is_multiple_of(ranks) => {
            let each = experts / ranks;
            (0..ranks).map(|rank| (rank * each..(rank + 1) * each).collect()).collect()
        }
        None => return Err(format!("shares {experts} experts out among {ranks} ranks")),
    };
    let placed: Vec<u64> = of_rank.iter().flatten().copied().collect();
    let distinct: BTreeSet<u64> = placed.iter().copied().collect();
    let all = distinct.len() == placed.len() && distinct.into_iter().eq(0..experts);
    if of_rank.len() as u64 != ranks || !all {
        return Err(format!(
            "does not place each of {experts} experts on one of {ranks} ranks (`expert_placement`)"
        ));
    }
    let here = layer.get("ep_rank").and_then(Value::as_u64);
    Ok(Stacked { mixture, experts, of_rank, here })
}

/// Puts the rows of all files of experts together.
pub(in crate::deepspeed) fn store(
    rows: &[(&Weight, FileId, &Path, Mesh)],
    stacks: &[&Stacked],
    state: &str,
    problems: &mut Vec<Problem>,
) -> Vec<Stored> {
    let mut whole: IndexMap<(String, Vec<(String, u64)>), Stored> = IndexMap::new();
    let mut strays: Vec<(&Path, &str)> = Vec::new();
    for (weight, file, path, at) in rows {
        let Some(expert) = Expert::of(&weight.name).filter(|expert| expert.stacked) else {
            continue;
        };
        let Some(stack) = stacks.iter().find(|stack| stack.mixture == expert.mixture) else {
            strays.push((*path, weight.name.as_str()));
            continue;
        };
        let extent = &weight.extent;
        if !extent.is_contiguous() {
            problems.push(Problem::new(*path, format!("`{}` has holes", weight.name)));
            continue;
        }
        let place = at.iter().map(|(axis, index)| (axis.clone(), *index)).collect();
        let name = expert.named(0);
        let stored = whole.entry((name.clone(), place)).or_insert_with(|| Stored {
            name,
            state: state.to_owned(),
            dtype: extent.dtype,
            shape: [&[stack.experts], extent.shape.as_slice()].concat(),
            at: at.clone(),
            role: Role::Trained,
            data: Data::Runs(Vec::new()),
        });
        if stored.dtype != extent.dtype || stored.shape[1..] != extent.shape {
            problems.push(Problem::new(
                *path,
                format!(
                    "`{}` is {} of {:?}, those of other experts are {} of {:?}",
                    weight.name,
                    extent.dtype,
                    extent.shape,
                    stored.dtype,
                    &stored.shape[1..]
                ),
            ));
            continue;
        }
        if let Data::Runs(runs) = &mut stored.data {
            let start = expert.id.saturating_mul(extent.numel);
            runs.push(Run { start, len: extent.numel, file: *file, offset: extent.file_offset });
        }
    }
    if let Some((path, name)) = strays.first() {
        let more = match strays.len() - 1 {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        let message = format!("`{name}`{more} is of no mixture of `ds_autoep_layers`");
        problems.push(Problem::new(*path, message));
    }
    let mut whole: Vec<Stored> = whole.into_values().collect();
    for stored in &mut whole {
        if let Data::Runs(runs) = &mut stored.data {
            runs.sort_by_key(|run| run.start);
        }
    }
    whole
}
