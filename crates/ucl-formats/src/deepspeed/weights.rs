//! The model's own tensors: which of them are one and the same, and what each is to the training.

use super::Rank;
use super::experts::{self, Expert, Experts};
use super::laid::{Laid, Param};
use super::mesh::Degrees;
use super::model::ModelFile;
use super::tied;
use crate::inventory::{Data, FileId, Inventory, Mesh, Problem, Role, Stored};
use crate::named::{Storages, Weight, place as place_of};
use crate::ranks::Opened;
use indexmap::{IndexMap, IndexSet};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

/// The state's name of the model's own tensors.
pub(super) const PARAM: &str = "param";

/// Puts the tensors of all model and layer files into the inventory.
pub(super) fn collect(
    laid: &[Laid<'_>],
    read: &Read<'_>,
    degrees: Degrees,
    inventory: &mut Inventory,
    problems: &mut Vec<Problem>,
) {
    let Read { models, layers, .. } = *read;
    let params = laid.iter().flat_map(|group| &group.params);
    let trained = params.map(|param| (param.name.as_str(), param.shape.as_slice()));
    let mut known = Known::new(models.iter().map(|(_, model)| &model.content), trained.clone());
    known.tied = tied::layers(trained, layers);
    let mut stored = Places::new();
    for ((mp, _), model) in models {
        let held = Held { file: model.file, at: degrees.at(*mp) };
        let mut weights = model.content.weights.clone();
        let have: IndexSet<_> = weights.iter().map(|weight| weight.name.clone()).collect();
        // From stage 2 on frozen parameters stand beside the module too.
        weights.extend(model.content.frozen.iter().filter(|w| !have.contains(&w.name)).cloned());
        // Those numbered on this rank are in the files of experts too, under their numbers over all.
        weights.retain(|weight| read.files.is_empty() || Expert::one(&weight.name).is_none());
        known.store(weights, &held, &mut stored, inventory);
    }
    for ((layer, tp), file) in layers {
        let held = Held { file: file.file, at: degrees.at_layer(*tp) };
        let named = |weight: &Weight| {
            let name = format!("{layer}.{}", weight.name);
            Weight { name, extent: weight.extent.clone() }
        };
        let weights = file.content.weights.iter().map(named);
        let of_expert = |weight: &Weight| Expert::one(&weight.name).is_some();
        let weights = weights.filter(|w| read.files.is_empty() || !of_expert(w)).collect();
        known.store(weights, &held, &mut stored, inventory);
    }
    let layered = !layers.is_empty();
    let mut rows = Vec::new();
    for (expert, file) in read.files {
        let mut at = read.experts.at(expert.mp, degrees);
        if layered {
            at.shift_remove("pp");
        }
        let held = Held { file: file.file, at };
        let of = |weight: &&Weight| Expert::one(&weight.name).is_some();
        let (one, stacked): (Vec<_>, Vec<_>) = file.content.weights.iter().partition(of);
        rows.extend(stacked.into_iter().map(|w| (w, file.file, &*file.path, held.at.clone())));
        known.store(one.into_iter().cloned().collect(), &held, &mut stored, inventory);
    }
    let stacks: Vec<_> = models.iter().flat_map(|(_, model)| &model.content.autoep).collect();
    for mut stored in experts::store(&rows, &stacks, PARAM, problems) {
        stored.role = known.role(&stored.name);
        inventory.tensors.push(stored);
    }
    complete(laid, layered, read.experts.incomplete, inventory, problems);
}

/// Everything that has weights.
pub(super) struct Read<'a> {
    pub(super) models: &'a [(Rank, Opened<ModelFile>)],
    pub(super) layers: &'a [((u64, u64), Opened<ModelFile>)],
    /// The files of experts, and what they tell together.
    pub(super) files: &'a [experts::Read],
    pub(super) experts: &'a Experts,
}

/// Stage and tensor rank, where a tensor has them.
type Place = (Option<u64>, Option<u64>);

/// Where the copies of a tensor lie that are stored.
pub(super) type Places = HashMap<(String, Place), Vec<(FileId, u64)>>;

fn place(at: &Mesh) -> Place {
    (at.get("pp").copied(), at.get("tp").copied())
}

/// A file whose tensors are being stored.
pub(super) struct Held {
    pub(super) file: FileId,
    pub(super) at: Mesh,
}

/// What the model files say of names.
pub(super) struct Known<'a> {
    pub(super) trained: HashMap<&'a str, &'a [u64]>,
    pub(super) buffers: IndexSet<&'a str>,
    /// Alias to original.
    pub(super) shared: IndexMap<&'a str, &'a str>,
    /// The layers of a pipeline that are a module which several share: `tied_modules.<key>`.
    tied: HashMap<u64, &'a str>,
}

impl<'a> Known<'a> {
    /// `trained` are the parameters that the optimizer has.
    pub(super) fn new(
        models: impl Iterator<Item = &'a ModelFile> + Clone,
        trained: impl Iterator<Item = (&'a str, &'a [u64])> + Clone,
    ) -> Known<'a> {
        let contents = || models.clone();
        Known {
            trained: trained.collect(),
            buffers: contents().flat_map(|model| &model.buffers).map(String::as_str).collect(),
            shared: contents()
                .flat_map(|model| &model.shared)
                .map(|(alias, original)| (alias.as_str(), original.as_str()))
                .collect(),
            tied: HashMap::new(),
        }
    }

    /// Stores the tensors of one file, each under one name.
    ///
    /// What has a second name may lie in several files: the layers of a pipeline that are tied. Each copy
    /// is stored, so that they are compared.
    pub(super) fn store(
        &self,
        weights: Vec<Weight>,
        held: &Held,
        stored: &mut Places,
        inventory: &mut Inventory,
    ) {
        let names = self.names(&weights);
        for weight in weights {
            let name = names.get(&weight.name).unwrap_or(&weight.name).clone();
            let copies = stored.entry((name.clone(), place(&held.at))).or_default();
            let here = (held.file, weight.extent.file_offset);
            let apart = weight.extent.numel > 0 && !copies.contains(&here);
            let copied = name != weight.name && apart;
            if name != weight.name {
                inventory.aliases.insert(weight.name, name.clone());
            }
            if copies.is_empty() || copied {
                let mut at = held.at.clone();
                if !copies.is_empty() {
                    at.insert("replica".to_owned(), copies.len() as u64);
                }
                copies.push(here);
                inventory.tensors.push(Stored {
                    state: PARAM.to_owned(),
                    dtype: weight.extent.dtype,
                    at,
                    role: self.role(&name),
                    data: Data::Strided {
                        file: held.file,
                        offset: weight.extent.file_offset,
                        strides: weight.extent.strides,
                    },
                    shape: weight.extent.shape,
                    name,
                });
            }
        }
    }

    /// For every alias among the tensors of a file, the name that it goes by: the one that the
    /// optimizer knows, else the recorded original, else the first.
    fn names(&self, weights: &[Weight]) -> HashMap<String, String> {
        let mut storages = Storages::new();
        let mut places: IndexMap<&str, Vec<&str>> = IndexMap::new();
        for weight in weights {
            let name = weight.name.as_str();
            let first = storages.original(place_of(&weight.extent), || name).copied();
            places.entry(first.unwrap_or(name)).or_default().push(name);
        }
        let mut names = HashMap::new();
        for together in places.values() {
            let known = together.iter().copied().find(|name| self.trained.contains_key(name));
            let known = known.or_else(|| together.iter().find_map(|name| self.tied(name)));
            let recorded = || together.iter().find_map(|name| self.recorded(name, weights));
            let one = known.or_else(recorded).unwrap_or(together[0]);
            for name in together.iter().filter(|name| **name != one) {
                names.insert((*name).to_owned(), one.to_owned());
            }
        }
        // An alias with a storage of its own: the record says that it is the same.
        for alias in self.shared.keys() {
            if !self.trained.contains_key(alias)
                && !names.contains_key(*alias)
                && let Some(original) = self.recorded(alias, weights)
            {
                let original = names.get(original).cloned().unwrap_or(original.to_owned());
                if original != *alias {
                    names.insert((*alias).to_owned(), original);
                }
            }
        }
        names
    }

    /// What an alias is recorded as a second name of, if that is in the file or was trained. Where
    /// the original was left out, the alias is the only name that there is.
    fn recorded(&self, alias: &str, weights: &[Weight]) -> Option<&'a str> {
        let original = *self.shared.get(alias)?;
        let stored = weights.iter().any(|weight| weight.name == original);
        (stored || self.trained.contains_key(original)).then_some(original)
    }

    /// What a pipeline calls a layer's tensor that several stages share.
    fn tied(&self, name: &str) -> Option<&'a str> {
        let (layer, local) = name.split_once('.')?;
        let module = self.tied.get(&layer.parse().ok()?)?;
        let shared = self.trained.get_key_value(format!("{module}.{local}").as_str());
        shared.map(|(name, _)| *name)
    }

    fn role(&self, name: &str) -> Role {
        // Without ZeRO nothing tells trained from frozen.
        if self.trained.contains_key(name)
            || self.trained.is_empty() && !self.buffers.contains(name)
        {
            Role::Trained
        } else if self.buffers.contains(name) {
            Role::Buffer
        } else {
            Role::Frozen
        }
    }
}

/// Every trained parameter of every rank has to be among the weights, in its shape.
fn complete(
    laid: &[Laid<'_>],
    layered: bool,
    incomplete: bool,
    inventory: &Inventory,
    problems: &mut Vec<Problem>,
) {
    let mut weights: HashMap<(&str, Place), &Stored> = HashMap::new();
    for stored in &inventory.tensors {
        weights.insert((&stored.name, place(&stored.at)), stored);
    }
    let layers_here: HashSet<_> =
        inventory.tensors.iter().map(|t| (layer_of(&t.name), place(&t.at))).collect();
    let mut absent: BTreeMap<u64, (&PathBuf, Vec<&str>)> = BTreeMap::new();
    for group in laid {
        let (stage, tp) = place(&group.at);
        let at = (stage.filter(|_| !layered), tp);
        for Param { name, shape, .. } in &group.params {
            match weights.get(&(name.as_str(), at)) {
                Some(stored) if stored.shape == *shape => {}
                Some(stored) => problems.push(Problem::new(
                    &inventory.files[file_of(stored) as usize].path,
                    format!(
                        "`{name}` has the shape {:?}, the optimizer's record says {shape:?}",
                        stored.shape
                    ),
                )),
                // The missing file of a layer or an expert was named already.
                None if layered && !layers_here.contains(&(layer_of(name), at)) => {}
                None if group.experts && incomplete => {}
                None => absent.entry(group.mp).or_insert((&group.model.path, vec![])).1.push(name),
            }
        }
    }
    problems.extend(absent.values().filter_map(|(path, absent)| without_weights(path, absent)));
}

/// Parameters that only the optimizer has.
pub(super) fn without_weights(path: &Path, absent: &[&str]) -> Option<Problem> {
    let first = absent.first()?;
    let more = match absent.len() - 1 {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let message = format!("the optimizer has `{first}`{more}, the weights do not");
    Some(Problem::new(path, message))
}

/// The part of a pipeline's name that says which layer's file holds it.
fn layer_of(name: &str) -> &str {
    name.split_once('.').map_or(name, |(layer, _)| layer)
}

fn file_of(stored: &Stored) -> FileId {
    match &stored.data {
        Data::Strided { file, .. } => *file,
        Data::Runs(runs) => runs.first().map_or(0, |run| run.file),
        Data::Boxes(chunks) => chunks.first().map_or(0, |chunk| chunk.file),
    }
}
