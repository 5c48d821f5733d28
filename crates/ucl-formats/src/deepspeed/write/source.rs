//! What the source carries that a DeepSpeed step has a place for.

use super::{DEEPSPEED, Run, WriteError};
use crate::deepspeed::muon::offloads;
use crate::inventory::Carried;
use crate::target::{Draft, open_carried};
use crate::torch::{NodeId, TorchFile, json};
use std::collections::{BTreeMap, BTreeSet};

/// The files of the source's model-parallel ranks, without what was converted: by number.
pub(super) struct Source {
    models: BTreeMap<u64, (String, TorchFile)>,
    shards: BTreeMap<u64, (String, TorchFile)>,
    /// The release of DeepSpeed that wrote it.
    pub(super) version: String,
}

impl Source {
    /// Opens them.
    pub(super) fn of(run: &Run<'_>) -> Result<Source, WriteError> {
        let mut source =
            Source { models: BTreeMap::new(), shards: BTreeMap::new(), version: String::new() };
        for carried in &run.source.carried {
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

    /// The optimizer's shard of a rank, or of the first one.
    pub(super) fn shard(&self, mp: u64) -> Option<&TorchFile> {
        self.shards.get(&mp).or(self.shards.values().next()).map(|(_, file)| file)
    }

    /// Whether the run that is carried on has the optimizer on the CPU.
    pub(super) fn offloads(&self, mp: u64) -> bool {
        let zero = self.model(mp).and_then(|file| {
            let config = file.value.root().get("ds_config")?;
            json::object(file, config.get("zero_optimization")?)
        });
        zero.is_some_and(|zero| offloads(&zero))
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
        names.into_iter().collect()
    }
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
    let mut names = run.ranks.iter().flat_map(|rank| &rank.tensors).peekable();
    names.peek().is_some() && names.all(|held| held.copy || layer(&held.name).is_some())
}

/// The pipeline layer that a name begins with, and the name in it.
pub(super) fn layer(name: &str) -> Option<(u64, &str)> {
    let (layer, key) = name.split_once('.')?;
    Some((layer.parse().ok()?, key))
}
