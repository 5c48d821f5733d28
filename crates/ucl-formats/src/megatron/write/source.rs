//! What the source carries that a Megatron has a place for.

use super::{Place, size};
use crate::inventory::{Carried, Framework, Inventory};
use crate::target::{Draft, Run, WriteError, open_carried, repeated};
use crate::torch::json::object;
use crate::torch::{NodeId, TorchFile, Value};
use indexmap::IndexMap;
use serde_json::Value as Json;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// Where a rank is: stage, expert rank, tensor rank.
type At = (u64, u64, u64);

/// The files of the source, without what was converted.
#[derive(Default)]
pub(crate) struct Source {
    /// Megatron-LM's ranks.
    ranks: BTreeMap<At, (String, TorchFile)>,
    /// What Megatron-core's sharded saves have in common.
    common: Option<(String, TorchFile)>,
    /// Random states of these saves, by stage and tensor rank.
    random: BTreeMap<At, (String, TorchFile)>,
    /// The first model file of Megatron-DeepSpeed, whose arguments are Megatron's.
    deepspeed: Option<(String, TorchFile)>,
    /// The names of those that something was taken from.
    taken: RefCell<BTreeSet<String>>,
    /// The ranks that got random states, and whether they are another's.
    random_of: RefCell<BTreeMap<At, bool>>,
}

/// Entries that are written anew.
const OWN: [&str; 6] =
    ["checkpoint_version", "iteration", "optimizer", "content_metadata", "state_dict", "model"];

impl Source {
    /// Opens them.
    pub(crate) fn of(run: &Run<'_>) -> Result<Source, WriteError> {
        let mut source = Source::default();
        let of = run.source.universal.as_ref().map_or(&run.source.mesh, |made| &made.source.mesh);
        let stages = of.get("pp").copied().unwrap_or(1) > 1;
        for carried in &run.source.carried {
            let mut parts = carried.name.rsplit('/');
            let (file, folder) = (parts.next().unwrap_or_default(), parts.next());
            if file == "common.pt" {
                source.common = Some(open(carried)?);
            } else if let Some(at) = random(file) {
                source.random.insert(at, open(carried)?);
            } else if let Some(at) = folder.and_then(|folder| rank(folder, stages))
                && file == "model_optim_rng.pt"
            {
                source.ranks.insert(at, open(carried)?);
            } else if file == "mp_rank_00_model_states.pt"
                && run.source.framework != Framework::DeepSpeed
            {
                source.deepspeed = Some(open(carried)?).filter(|(_, file)| {
                    file.value.root().get("args").is_some_and(|args| args.state().is_some())
                });
            }
        }
        Ok(source)
    }

    /// The names of the files that something was taken from.
    pub(crate) fn names(&self) -> Vec<String> {
        self.taken.borrow().iter().cloned().collect()
    }

    /// What a rank has beside its tensors.
    pub(crate) fn entries(
        &self,
        draft: &mut Draft,
        place: &Place,
    ) -> Result<IndexMap<String, NodeId>, WriteError> {
        self.all(draft, (place.pp, place.ep, place.tp), true)
    }

    /// What a sharded save has beside its tensors and random states.
    pub(crate) fn shared(&self, draft: &mut Draft) -> Result<IndexMap<String, NodeId>, WriteError> {
        self.all(draft, (0, 0, 0), false)
    }

    fn all(
        &self,
        draft: &mut Draft,
        at: At,
        random: bool,
    ) -> Result<IndexMap<String, NodeId>, WriteError> {
        let mut entries = IndexMap::new();
        if let Some((name, file)) = self.rank(at).or(self.common.as_ref()) {
            self.take(name);
            for (key, value) in root(file).pairs().into_iter().flatten() {
                let Some(key) = key.as_str().filter(|key| !is_own(key)) else { continue };
                if random || !key.starts_with("rng_state") {
                    entries.insert(key.to_owned(), draft.carry(file, value)?);
                }
            }
        } else if let Some((name, file)) = &self.deepspeed {
            self.take(name);
            if let Some(args) = file.value.root().get("args") {
                entries.insert("args".to_owned(), draft.carry(file, args)?);
            }
        }
        if entries.contains_key("rng_state") {
            self.random_of.borrow_mut().insert(at, !self.ranks.contains_key(&at));
        }
        if random
            && !entries.contains_key("rng_state")
            && let Some(state) = self.random(draft, at)?
        {
            entries.insert("rng_state".to_owned(), state);
        }
        Ok(entries)
    }

    /// The random states of a rank, or of the first one.
    pub(crate) fn random(&self, draft: &mut Draft, at: At) -> Result<Option<NodeId>, WriteError> {
        let known = self.random.get(&at).or(self.random.values().next());
        if let Some((name, file)) = known {
            self.take(name);
            self.random_of.borrow_mut().insert(at, !self.random.contains_key(&at));
            return Ok(Some(draft.carry(file, root(file))?));
        }
        let Some((name, file)) = self.rank(at) else { return Ok(None) };
        let Some(state) = file.value.root().get("rng_state") else { return Ok(None) };
        self.take(name);
        self.random_of.borrow_mut().insert(at, !self.ranks.contains_key(&at));
        Ok(Some(draft.carry(file, state)?))
    }

    /// Says that ranks got the random states of another.
    pub(crate) fn repeats(&self) -> Option<String> {
        let known = self.random.len().max(self.ranks.len());
        let of = self.random_of.borrow();
        repeated(known, of.len(), of.values().filter(|others| **others).count())
    }

    /// A loss scaler.
    pub(crate) fn scaler(&self, draft: &mut Draft, at: At) -> Result<Option<NodeId>, WriteError> {
        let Some((_, file)) = self.rank(at).or(self.common.as_ref()) else { return Ok(None) };
        let Some(optimizer) = root(file).get("optimizer") else { return Ok(None) };
        let scaler = first(optimizer).and_then(|one| one.get("grad_scaler"));
        scaler.map(|scaler| draft.carry(file, scaler)).transpose()
    }

    /// Whether the optimizer was a fused one, which keeps the step in its groups; `None` if no Megatron
    /// wrote the source.
    pub(crate) fn fused(&self, place: &Place) -> Option<bool> {
        let (_, file) = self.rank((place.pp, place.ep, place.tp)).or(self.common.as_ref())?;
        let one = first(root(file).get("optimizer")?)?;
        let inner = one.get("optimizer").unwrap_or(one);
        let mut groups = inner.get("param_groups")?.items()?;
        Some(groups.any(|group| group.get("step").is_some_and(|step| !step.is_none())))
    }

    fn rank(&self, at: At) -> Option<&(String, TorchFile)> {
        self.ranks.get(&at).or(self.ranks.values().next())
    }

    fn take(&self, name: &str) {
        self.taken.borrow_mut().insert(name.to_owned());
    }
}

/// An argument of the Megatron that wrote a checkpoint, or that its source was.
pub fn argument(inventory: &Inventory, key: &str) -> Option<Json> {
    let said = inventory.documents.get("args").and_then(|args| args.get(key));
    said.cloned().or_else(|| {
        let has_args = |carried: &&Carried| {
            let name = &carried.name;
            ["common.pt", "model_optim_rng.pt", "_model_states.pt"]
                .iter()
                .any(|end| name.ends_with(end))
        };
        let file = open_carried(inventory.carried.iter().find(has_args)?).ok()?;
        let args = root(&file).get("args")?;
        object(&file, args)?.get(key).cloned()
    })
}

/// Tensor and pipeline ranks of a run, stages outermost.
pub(crate) fn stages(run: &Run<'_>) -> impl Iterator<Item = (u64, u64)> + use<> {
    let (tp, pp) = (size(run, "tp"), size(run, "pp"));
    (0..pp).flat_map(move |stage| (0..tp).map(move |rank| (stage, rank)))
}

fn open(carried: &Carried) -> Result<(String, TorchFile), WriteError> {
    Ok((carried.name.clone(), open_carried(carried)?))
}

fn is_own(key: &str) -> bool {
    let chunk = key.strip_prefix("model").map(|rest| rest.trim_start_matches('_'));
    let chunk = chunk.is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit()));
    chunk || OWN.contains(&key)
}

/// An object of a sharded save is a list of one.
fn root(file: &TorchFile) -> Value<'_> {
    let root = file.value.root();
    match root.as_list().map(|mut items| (items.len(), items.next())) {
        Some((1, Some(only))) => only,
        _ => root,
    }
}

/// The first of several optimizers.
fn first(optimizer: Value<'_>) -> Option<Value<'_>> {
    match optimizer.as_list() {
        Some(mut items) => items.next(),
        None => Some(optimizer.get_int(0).unwrap_or(optimizer)),
    }
}

/// The rank of `mp_rank_01_002_003`: the number behind the first is a stage's if there are several.
fn rank(folder: &str, stages: bool) -> Option<At> {
    let numbers: Option<Vec<u64>> =
        folder.strip_prefix("mp_rank_")?.split('_').map(|number| number.parse().ok()).collect();
    Some(match numbers?.as_slice() {
        [tp] => (0, 0, *tp),
        [tp, pp] if stages => (*pp, 0, *tp),
        [tp, ep] => (0, *ep, *tp),
        [tp, pp, ep, ..] => (*pp, *ep, *tp),
        [] => return None,
    })
}

/// The rank of `rng_state_shard_0.1_2.2.pt`.
fn random(file: &str) -> Option<At> {
    let rest = file.strip_prefix("rng_state_shard_")?;
    let (at, _) = rest.split_once('_')?;
    let (pp, tp) = at.split_once('.')?;
    Some((pp.parse().ok()?, 0, tp.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{is_own, random, rank};

    #[test]
    fn names_of_ranks() {
        assert_eq!(rank("mp_rank_01_002", true), Some((2, 0, 1)));
        assert_eq!(rank("mp_rank_01_002", false), Some((0, 2, 1)));
        assert_eq!(rank("mp_rank_01_002_003", true), Some((2, 3, 1)));
        assert_eq!(random("rng_state_shard_1.0_2.2.pt"), Some((1, 0, 0)));
        assert!(is_own("model") && is_own("model0") && is_own("model_1"));
        assert!(!is_own("model_config"));
    }
}
