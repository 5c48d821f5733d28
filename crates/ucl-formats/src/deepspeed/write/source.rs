//! What the source carries that a DeepSpeed step has a place for.

use super::{DEEPSPEED, Place, Run, WriteError, Zero};
use crate::deepspeed::experts::{Stacked, stacks};
use crate::deepspeed::laid::ROUND_ROBIN;
use crate::deepspeed::model::is_random;
use crate::deepspeed::muon::offloads;
use crate::inventory::{Carried, Problem, is_shared};
use crate::target::{Draft, Held, Rank, open_carried, repeated};
use crate::torch::{NodeId, TorchFile, Value, json};
use serde_json::{Map, Value as Json};
use std::collections::{BTreeMap, BTreeSet};

/// The file of a universal folder that has what optimizers keep beside the states of parameters.
const UNIVERSAL: &str = "optimizer_state.pt";

/// Where a model file tells of AutoEP's layers, and where once.
const STACKS: [&str; 2] = ["ds_autoep_layers", "autoep_layers"];

/// The files of the source's model-parallel ranks, without what was converted: by number.
pub(super) struct Source {
    models: BTreeMap<u64, (String, TorchFile)>,
    shards: BTreeMap<u64, (String, TorchFile)>,
    /// What DeepSpeed's universal folder keeps of a shard, for all ranks.
    universal: Option<(String, TorchFile)>,
    /// The release of DeepSpeed that wrote it.
    pub(super) version: String,
}

impl Source {
    /// Opens them.
    pub(super) fn of(run: &Run<'_>) -> Result<Source, WriteError> {
        let (models, shards) = (BTreeMap::new(), BTreeMap::new());
        let mut source = Source { models, shards, universal: None, version: String::new() };
        for carried in &run.source.carried {
            if carried.name.rsplit('/').next() == Some(UNIVERSAL) {
                source.universal = Some((carried.name.clone(), open_carried(carried)?));
            }
            let (files, mp) = match number(carried) {
                Some((true, mp)) => (&mut source.models, mp),
                Some((false, mp)) => (&mut source.shards, mp),
                None => continue,
            };
            if let std::collections::btree_map::Entry::Vacant(free) = files.entry(mp) {
                free.insert((carried.name.clone(), open_carried(carried)?));
            }
        }
        let said =
            source.models.values().chain(source.shards.values()).find_map(|(_, file)| {
                Some(file.value.root().get("ds_version")?.as_str()?.to_owned())
            });
        source.version = said.unwrap_or_else(|| DEEPSPEED.to_owned());
        Ok(source)
    }

    /// The model file of a rank, or of the first one.
    pub(super) fn model(&self, mp: u64) -> Option<&TorchFile> {
        self.models.get(&mp).or(self.models.values().next()).map(|(_, file)| file)
    }

    /// Says that ranks of `places` get the random states of another, if the run saved some.
    pub(super) fn repeats(&self, places: &[Place<'_>]) -> Option<String> {
        let others = places.iter().filter(|place| !self.models.contains_key(&place.mp));
        let random = others.filter(|place| self.model(place.mp).is_some_and(has_random));
        repeated(self.models.len(), places.len(), random.count())
    }

    /// A value of a rank's optimizer that is no state of a parameter, and the file that has it.
    pub(super) fn kept(&self, mp: u64, key: &str) -> Option<(&TorchFile, Value<'_>)> {
        let of_shard = || {
            let file = self.shard(mp)?;
            Some((file, file.value.root().at(&["optimizer_state_dict", key])?))
        };
        let of_universal = || {
            let (_, file) = self.universal.as_ref()?;
            Some((file, file.value.root().get(key)?))
        };
        of_shard().or_else(of_universal)
    }

    /// Whether the run's experts are DeepSpeed's own, which it keeps in files beside all else.
    pub(super) fn has_experts(&self) -> bool {
        !self.num_experts().is_empty() || self.has_stacks()
    }

    /// The numbers of experts that the mixtures have (`num_experts`); one for all of them in old releases.
    pub(super) fn num_experts(&self) -> BTreeSet<u64> {
        let of = |value: Value<'_>| -> Vec<u64> {
            let items = value.items().into_iter().flatten().filter_map(Value::as_u64);
            items.chain(value.as_u64()).filter(|number| *number > 0).collect()
        };
        self.said("num_experts").flat_map(of).collect()
    }

    /// Whether AutoEP keeps the run's experts in stacks.
    pub(super) fn has_stacks(&self) -> bool {
        let any = |value: Value<'_>| value.items().is_some_and(|mut items| items.next().is_some());
        STACKS.into_iter().any(|key| self.said(key).any(any))
    }

    /// AutoEP's stacks.
    pub(super) fn stacks(&self) -> Result<Vec<Stacked>, Problem> {
        let mut all: Vec<Stacked> = Vec::new();
        for (_, file) in self.models.values() {
            for value in STACKS.into_iter().filter_map(|key| file.value.root().get(key)) {
                let found = stacks(value).map_err(|what| Problem::new(&file.path, what))?;
                for stack in found {
                    if !all.iter().any(|known| known.mixture == stack.mixture) {
                        all.push(stack);
                    }
                }
            }
        }
        Ok(all)
    }

    /// Whether consecutive ranks have the same experts.
    pub(super) fn has_data_before_experts(&self) -> bool {
        let key = "use_data_before_expert_parallelism";
        self.said("ds_config").any(|config| config.get(key).and_then(Value::as_bool) == Some(true))
    }

    /// What the model files have under a key.
    fn said<'s>(&'s self, key: &'s str) -> impl Iterator<Item = Value<'s>> {
        self.models.values().filter_map(move |(_, file)| file.value.root().get(key))
    }

    /// The optimizer's shard of a rank, or of the first one.
    pub(super) fn shard(&self, mp: u64) -> Option<&TorchFile> {
        self.shards.get(&mp).or(self.shards.values().next()).map(|(_, file)| file)
    }

    /// The settings of ZeRO of the run that is carried on.
    fn zero(&self, mp: u64) -> Option<Map<String, Json>> {
        let file = self.model(mp)?;
        let config = file.value.root().get("ds_config")?;
        json::object(file, config.get("zero_optimization")?)
    }

    /// Whether the run that is carried on has the optimizer on the CPU.
    pub(super) fn offloads(&self, mp: u64) -> bool {
        self.zero(mp).is_some_and(|zero| offloads(&zero))
    }

    /// Whether it deals its parameters out over the data-parallel ranks in turn, which only stages 1 and 2 do.
    pub(super) fn deals(&self, mp: u64, zero: Zero) -> bool {
        let said = self.zero(mp).and_then(|zero| zero.get(ROUND_ROBIN)?.as_bool());
        matches!(zero, Zero::One | Zero::Two) && said == Some(true)
    }

    /// The names of the files that the ranks take something from.
    pub(super) fn names(&self, ranks: impl Iterator<Item = u64>) -> Vec<String> {
        let mut names = BTreeSet::new();
        for mp in ranks {
            for files in [&self.models, &self.shards] {
                let taken = files.get(&mp).or(files.values().next());
                names.extend(taken.map(|(name, _)| name.clone()));
            }
        }
        names.extend(self.universal.iter().map(|(name, _)| name.clone()));
        names.into_iter().collect()
    }
}

/// Whether random states are among what a file has.
fn has_random(file: &TorchFile) -> bool {
    let keys = file.value.root().pairs().into_iter().flatten();
    keys.filter_map(|(key, _)| key.as_str()).any(is_random)
}

/// Whether a carried file is a rank's model file (or its shard of the optimizer), and which rank's.
pub(super) fn number(carried: &Carried) -> Option<(bool, u64)> {
    let name = carried.name.rsplit('/').next()?;
    let (_, rest) = name.split_once("mp_rank_")?;
    let (mp, kind) = rest.split_once('_')?;
    let model = match kind {
        "model_states.pt" => true,
        "optim_states.pt" => false,
        _ => return None,
    };
    Some((model, mp.parse().ok()?))
}

/// Copies an entry of a carried dict.
pub(super) fn copy(
    draft: &mut Draft,
    file: &TorchFile,
    path: &[&str],
) -> Result<Option<NodeId>, WriteError> {
    let value = file.value.root().at(path);
    value.map(|value| draft.carry(file, value)).transpose()
}

/// Whether weights go into one file per layer of a pipeline, by the number in front of their names.
pub(super) fn is_layered(run: &Run<'_>) -> bool {
    let mut held = run
        .ranks
        .iter()
        .flat_map(|rank| rank.tensors.iter().map(move |held| (rank, held)))
        .filter(|(_, held)| !held.copy)
        .peekable();
    held.peek().is_some() && held.all(|(rank, held)| !layers(rank, held).is_empty())
}

/// The pipeline layers whose files hold a tensor, and its names in them: what several layers share is in the
/// file of each that the module itself is, and its other names are of these.
pub(super) fn layers<'r>(rank: &'r Rank, held: &'r Held) -> Vec<(u64, &'r str)> {
    let own = layer(&held.name).into_iter();
    let shared = is_shared(&held.name);
    let others = rank.aliases.iter().filter(|(_, name)| shared && **name == held.name);
    own.chain(others.filter_map(|(alias, _)| layer(alias))).collect()
}

/// The pipeline layer that a name begins with, and the name in it.
fn layer(name: &str) -> Option<(u64, &str)> {
    let (layer, key) = name.split_once('.')?;
    Some((layer.parse().ok()?, key))
}
