//! Which ranks hold the parts of a parameter group, and what its parameters are called over all of
//! them.
//!
//! A group of experts is cut over fewer ranks than others, and once for each expert rank
//! (`utils/groups.py`, `_create_expert_and_data_parallel`).

use super::Rank;
use super::experts::{Expert, Experts};
use super::mesh::{Degrees, MOST_FILES, is_of_experts};
use super::model::{ModelFile, Shapes};
use super::shard::Shard;
use crate::inventory::{Mesh, Problem, is_shared};
use crate::ranks::Opened;
use crate::ranks::{MIXED, count};
use indexmap::IndexSet;
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A parameter group with the ranks that have a part of it.
pub(super) struct Laid<'a> {
    /// The file that lists its parameters.
    pub(super) model: &'a Opened<ModelFile>,
    /// Its `mp` rank.
    pub(super) mp: u64,
    /// Its number among the groups of that rank.
    pub(super) index: usize,
    /// In the order of the flat buffer.
    pub(super) params: Vec<Param>,
    /// `mp` and data rank of each part, in order.
    pub(super) ranks: Vec<(u64, u64)>,
    /// Where on the mesh the parameters are.
    pub(super) at: Mesh,
    /// Whether they are experts'.
    pub(super) experts: bool,
}

/// A parameter of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Param {
    /// Its name; an expert is numbered over all ranks.
    pub(super) name: String,
    /// Its shape; a stack's over all ranks.
    pub(super) shape: Vec<u64>,
    /// For a stack of experts, which rows of it are here, in order.
    pub(super) rows: Option<Vec<u64>>,
}

impl Param {
    /// Its elements in the buffer; nothing if they are too many.
    pub(super) fn numel(&self) -> Option<u64> {
        let product = |sizes: &[u64]| sizes.iter().try_fold(1u64, |n, size| n.checked_mul(*size));
        match (&self.rows, self.shape.split_first()) {
            (Some(rows), Some((_, row))) => product(row)?.checked_mul(rows.len() as u64),
            _ => product(&self.shape),
        }
    }
}

/// What is in a group, over all `mp` ranks and ranks of experts, in the order of the optimizer, which may have
/// dealt it out.
pub(super) fn params(laid: &[Laid<'_>], index: usize, deals: bool) -> IndexSet<String> {
    let groups = laid.iter().filter(|group| group.index == index);
    let ordered = groups.map(|group| {
        let params: Vec<&Param> = group.params.iter().collect();
        match deals {
            true => in_turn(params, &group.model.content, group.ranks.len()),
            false => params,
        }
    });
    let ordered: Vec<Vec<&Param>> = ordered.collect();
    // A pipeline's module has what its layers share in front of all layers, on however many stages they are.
    let is_layers = |param: &&Param| !is_shared(&param.name);
    let leads = ordered.iter().all(|params| params.is_sorted_by_key(is_layers));
    let names = ordered.into_iter().flatten().map(|param| param.name.clone());
    let (shared, rest): (Vec<_>, Vec<_>) = names.partition(|name| leads && is_shared(name));
    shared.into_iter().chain(rest).collect()
}

/// The setting of ZeRO-1 and 2 that deals parameters out.
pub(super) const ROUND_ROBIN: &str = "round_robin_gradients";

/// Things in the order of the optimizer's group, of those in the order of its buffer: parameters may have
/// been dealt out over the ranks, and the buffer has what fell to each.
pub(super) fn in_turn<T>(things: Vec<T>, model: &ModelFile, ranks: usize) -> Vec<T> {
    let stage = model.zero.get("stage").and_then(Json::as_u64);
    if model.zero.get(ROUND_ROBIN) != Some(&true.into()) || stage.is_some_and(|stage| stage > 2) {
        return things;
    }
    let mut turns: Vec<_> = dealt(things.len(), ranks).into_iter().zip(things).collect();
    turns.sort_by_key(|(turn, _)| *turn);
    turns.into_iter().map(|(_, thing)| thing).collect()
}

/// The numbers of things that are dealt out in turn: those of the first rank, of the second, and so on.
pub(super) fn dealt(things: usize, ranks: usize) -> Vec<usize> {
    let ranks = ranks.max(1);
    (0..ranks.min(things)).flat_map(|rank| (rank..things).step_by(ranks)).collect()
}

type Shards<'a> = HashMap<(u64, u64), &'a Opened<Shard>>;

/// All groups of all model files.
pub(super) fn lay<'a>(
    models: &'a [(Rank, Opened<ModelFile>)],
    shards: &'a [((u64, u64), Opened<Shard>)],
    experts: &Experts,
    degrees: Degrees,
    problems: &mut Vec<Problem>,
) -> Vec<Laid<'a>> {
    let shards: Shards<'a> = shards.iter().map(|(rank, shard)| (*rank, shard)).collect();
    let mut laid = Vec::new();
    for ((mp, _), model) in models {
        let Some(groups) = &model.content.shapes else { continue };
        let here = shards.keys().filter(|(of, _)| of == mp).count();
        // There may be any number of ranks to lay out, and all that are missing were named.
        if here > 0 && super::most_are_missing(here, degrees) {
            continue;
        }
        let local = Local::of(groups);
        for (index, shapes) in groups.iter().enumerate() {
            let any = (0..degrees.dp).find_map(|dp| shards.get(&(*mp, dp)).copied());
            let is_of_experts = is_of_experts(Some(&model.content), any.map(|s| &s.content), index);
            if !is_of_experts {
                let ranks = (0..degrees.dp).map(|dp| (*mp, dp)).collect();
                let params = shapes.iter().map(|(name, shape)| Param {
                    name: name.clone(),
                    shape: shape.clone(),
                    rows: None,
                });
                let (params, at) = (params.collect(), degrees.at(*mp));
                laid.push(Laid { model, mp: *mp, index, params, ranks, at, experts: false });
                continue;
            }
            // One of the tensor ranks that share experts out speaks for all.
            if experts.whole && mp % degrees.tp.max(1) != 0 {
                continue;
            }
            let group = Group { model, mp: *mp, index, shapes, experts, degrees };
            let Some(spread) = group.spread(&shards, problems) else { continue };
            for (rank, ranks) in spread.iter().enumerate() {
                let ep = spread.len() as u64;
                let Some(params) = group.params(rank as u64, ep, &local, problems) else { break };
                let at = experts.at(*mp, degrees);
                laid.push(Laid {
                    model,
                    mp: *mp,
                    index,
                    params,
                    ranks: ranks.clone(),
                    at,
                    experts: true,
                });
            }
        }
    }
    laid
}

/// The experts that a rank numbers, by mixture.
struct Local<'a>(BTreeMap<&'a str, BTreeSet<u64>>);

impl<'a> Local<'a> {
    fn of(groups: &'a [Shapes]) -> Local<'a> {
        let mut local: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
        for expert in groups.iter().flatten().filter_map(|(name, _)| Expert::one(name)) {
            local.entry(expert.mixture).or_default().insert(expert.id);
        }
        Local(local)
    }
}

/// A group of experts on one `mp` rank.
struct Group<'a> {
    model: &'a Opened<ModelFile>,
    mp: u64,
    index: usize,
    shapes: &'a Shapes,
    experts: &'a Experts,
    degrees: Degrees,
}

impl Group<'_> {
    /// For each expert rank, the ranks that share its experts, in the order of their parts.
    fn spread(
        &self,
        shards: &Shards<'_>,
        problems: &mut Vec<Problem>,
    ) -> Option<Vec<Vec<(u64, u64)>>> {
        let (index, tp) = (self.index, self.degrees.tp.max(1));
        if self.degrees.dp.saturating_mul(tp) > MOST_FILES {
            return None;
        }
        // Ranks count tensor ranks first.
        let all: Vec<_> = match self.experts.whole {
            true => (0..self.degrees.dp)
                .flat_map(|dp| (0..tp).map(move |rank| (dp, rank)))
                .map(|(dp, rank)| (self.mp + rank, dp))
                .collect(),
            false => (0..self.degrees.dp).map(|dp| (self.mp, dp)).collect(),
        };
        let ranks = all.len() as u64;
        let held = || all.iter().filter_map(|rank| shards.get(rank).copied());
        let named = held().find_map(|shard| {
            let name = shard.content.params.get(index)?.hyper.get("name")?.as_str()?;
            name.strip_prefix("ep_size_")?.parse::<u64>().ok()
        });
        let counted = || held().find_map(|shard| shard.content.partitions.get(index).copied());
        let ep = match (named, counted()) {
            (Some(ep), _) => ep,
            (None, Some(parts)) if parts > 0 => ranks / parts,
            _ => 1,
        };
        if ep == 0 || !ranks.is_multiple_of(ep) {
            let message = format!(
                "group {index} is of `ep_size_{ep}`, which does not divide {}",
                count(ranks, "data rank")
            );
            problems.push(Problem::new(&held().next()?.path, message).help(MIXED));
            return None;
        }
        let parts = ranks / ep;
        let before = problems.len();
        for shard in held() {
            if let Some(found) = shard.content.partitions.get(index).filter(|n| **n != parts) {
                let message = format!(
                    "`partition_count` of group {index} is {found}: {} and {} of experts make {parts}",
                    count(ranks, "data rank"),
                    count(ep, "rank")
                );
                problems.push(Problem::new(&shard.path, message).help(MIXED));
            }
        }
        if problems.len() > before {
            return None;
        }
        let of = |rank: u64| {
            (0..parts).map(move |part| match self.model.content.data_before_experts {
                true => rank * parts + part,
                false => part * ep + rank,
            })
        };
        let ranks = |rank| of(rank).filter_map(|at| all.get(at as usize).copied()).collect();
        Some((0..ep).map(ranks).collect())
    }

    /// What the parameters of an expert rank are.
    fn params(
        &self,
        rank: u64,
        ep: u64,
        local: &Local<'_>,
        problems: &mut Vec<Problem>,
    ) -> Option<Vec<Param>> {
        let mut params = Vec::with_capacity(self.shapes.len());
        for (name, shape) in self.shapes {
            match self.param(name, shape, rank, ep, local) {
                Ok(param) => params.push(param),
                Err(message) => {
                    problems.push(Problem::new(&self.model.path, message).help(MIXED));
                    return None;
                }
            }
        }
        Some(params)
    }

    fn param(
        &self,
        name: &str,
        shape: &[u64],
        rank: u64,
        ep: u64,
        local: &Local<'_>,
    ) -> Result<Param, String> {
        let whole = |name| Param { name, shape: shape.to_vec(), rows: None };
        if let Some(stack) = self.model.content.stacked(name) {
            if stack.of_rank.len() as u64 != ep {
                return Err(format!(
                    "`ds_autoep_layers` has {} of experts for `{name}`, the optimizer {ep}",
                    count(stack.of_rank.len() as u64, "rank")
                ));
            }
            let (shape, rows) = stack.whole(name, shape, rank)?;
            return Ok(Param { name: name.to_owned(), shape, rows: Some(rows.to_vec()) });
        }
        let Some(expert) = Expert::one(name) else {
            return match ep {
                1 => Ok(whole(name.to_owned())),
                _ => Err(format!(
                    "`{name}` is in a group of experts over {ep} ranks, and its name does not say of \
                     which expert it is"
                )),
            };
        };
        let ids = local.0.get(expert.mixture).map_or(0, |ids| ids.len() as u64);
        let all = self.experts.count(expert.mixture);
        let each = match all {
            Some(all) if !all.is_multiple_of(ep) => {
                return Err(format!(
                    "{} of `{}` can't be shared by {ep} ranks",
                    count(all, "expert"),
                    expert.mixture
                ));
            }
            Some(all) => all / ep,
            // Its files are missing, which was said.
            None => ids,
        };
        if ids != each || expert.id >= each {
            return Err(format!(
                "`param_shapes` has {} of `{}`, expert {} among them: {} over {ep} ranks make {each}",
                count(ids, "expert"),
                expert.mixture,
                expert.id,
                count(all.unwrap_or(each * ep), "expert")
            ));
        }
        Ok(whole(expert.named(rank * each + expert.id)))
    }
}
