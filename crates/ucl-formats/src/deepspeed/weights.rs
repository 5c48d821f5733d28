//! The model's own tensors: which of them are one and the same, and what each is to the training.

use super::Rank;
use super::mesh::Degrees;
use super::model::ModelFile;
use crate::inventory::{Data, FileId, Inventory, Mesh, Problem, Role, Stored};
use crate::named::Weight;
use crate::ranks::Opened;
use indexmap::{IndexMap, IndexSet};
use std::collections::{HashMap, HashSet};

/// The state's name of the model's own tensors.
pub(super) const PARAM: &str = "param";

/// Puts the tensors of all model and layer files into the inventory.
pub(super) fn collect(
    models: &[(Rank, Opened<ModelFile>)],
    layers: &[((u64, u64), Opened<ModelFile>)],
    degrees: Degrees,
    inventory: &mut Inventory,
    problems: &mut Vec<Problem>,
) {
    let known = Known::new(models.iter().map(|(_, model)| &model.content));
    let mut stored = HashSet::new();
    for ((mp, _), model) in models {
        let held = Held { file: model.file, at: degrees.at(*mp) };
        let mut weights = model.content.weights.clone();
        let have: IndexSet<_> = weights.iter().map(|weight| weight.name.clone()).collect();
        // From stage 2 on frozen parameters stand beside the module too.
        weights.extend(model.content.frozen.iter().filter(|w| !have.contains(&w.name)).cloned());
        known.store(weights, &held, &mut stored, inventory);
    }
    for ((layer, tp), file) in layers {
        let held = Held { file: file.file, at: degrees.at_layer(*tp) };
        let named = |weight: &Weight| {
            let name = format!("{layer}.{}", weight.name);
            Weight { name, extent: weight.extent.clone() }
        };
        let weights = file.content.weights.iter().map(named).collect();
        known.store(weights, &held, &mut stored, inventory);
    }
    complete(models, !layers.is_empty(), degrees, inventory, problems);
}

/// Stage and tensor rank, where a tensor has them.
pub(super) type Place = (Option<u64>, Option<u64>);

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
    /// The local part of `tied_modules.<key>.<local>`, where it is the only one: the full name.
    tied: HashMap<&'a str, Option<&'a str>>,
}

impl<'a> Known<'a> {
    pub(super) fn new(models: impl Iterator<Item = &'a ModelFile> + Clone) -> Known<'a> {
        let contents = || models.clone();
        let groups = || contents().filter_map(|model| model.shapes.as_ref()).flatten().flatten();
        let mut tied = HashMap::new();
        for (name, _) in groups() {
            let local = name.strip_prefix("tied_modules.").and_then(|rest| rest.split_once('.'));
            if let Some((_, local)) = local {
                let only = tied.entry(local).or_insert(Some(name.as_str()));
                *only = only.filter(|earlier| *earlier == name);
            }
        }
        Known {
            trained: groups().map(|(name, shape)| (name.as_str(), shape.as_slice())).collect(),
            buffers: contents().flat_map(|model| &model.buffers).map(String::as_str).collect(),
            shared: contents()
                .flat_map(|model| &model.shared)
                .map(|(alias, original)| (alias.as_str(), original.as_str()))
                .collect(),
            tied,
        }
    }

    /// Stores the tensors of one file, each under one name.
    pub(super) fn store(
        &self,
        weights: Vec<Weight>,
        held: &Held,
        stored: &mut HashSet<(String, Place)>,
        inventory: &mut Inventory,
    ) {
        let names = self.names(&weights);
        for weight in weights {
            let name = names.get(&weight.name).unwrap_or(&weight.name).clone();
            if name != weight.name {
                inventory.aliases.insert(weight.name, name.clone());
            }
            if stored.insert((name.clone(), place(&held.at))) {
                inventory.tensors.push(Stored {
                    state: PARAM.to_owned(),
                    dtype: weight.extent.dtype,
                    at: held.at.clone(),
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
        let mut places: IndexMap<_, Vec<&str>> = IndexMap::new();
        for (index, weight) in weights.iter().enumerate() {
            let extent = &weight.extent;
            // Tensors without elements lie anywhere.
            let unique = if extent.numel == 0 { index } else { usize::MAX };
            let place = (extent.file_offset, &extent.shape, &extent.strides, extent.dtype, unique);
            places.entry(place).or_default().push(&weight.name);
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
        layer.parse::<u64>().ok()?;
        self.tied.get(local).copied().flatten()
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
    models: &[(Rank, Opened<ModelFile>)],
    layered: bool,
    degrees: Degrees,
    inventory: &Inventory,
    problems: &mut Vec<Problem>,
) {
    let mut weights: HashMap<(&str, Place), &Stored> = HashMap::new();
    for stored in &inventory.tensors {
        weights.insert((&stored.name, place(&stored.at)), stored);
    }
    let layers_here: HashSet<_> =
        inventory.tensors.iter().map(|t| (layer_of(&t.name), place(&t.at))).collect();
    for ((mp, _), model) in models {
        let at = if layered { degrees.at_layer(mp % degrees.tp) } else { degrees.at(*mp) };
        let at = place(&at);
        let mut absent = Vec::new();
        for (name, shape) in model.content.shapes.iter().flatten().flatten() {
            match weights.get(&(name.as_str(), at)) {
                Some(stored) if stored.shape == *shape => {}
                Some(stored) => problems.push(Problem::new(
                    &inventory.files[file_of(stored) as usize].path,
                    format!(
                        "`{name}` has the shape {:?}, the optimizer's record says {shape:?}",
                        stored.shape
                    ),
                )),
                // The missing file of a layer was named already.
                None if layered && !layers_here.contains(&(layer_of(name), at)) => {}
                None => absent.push(name.as_str()),
            }
        }
        problems.extend(without_weights(model, &absent));
    }
}

/// Parameters that only the optimizer has.
pub(super) fn without_weights(model: &Opened<ModelFile>, absent: &[&str]) -> Option<Problem> {
    let first = absent.first()?;
    let more = match absent.len() - 1 {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let message = format!("the optimizer has `{first}`{more}, the weights do not");
    Some(Problem::new(&model.path, message))
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
