//! The universal folder's `ucl.json`, from a plan and the digests of what it wrote.

use crate::bind::{Own, is_weight};
use crate::plan::Plan;
use crate::recognise::Sure;
use crate::target::{Item, Naming};
use crate::work::{TargetTensor, Work};
use indexmap::IndexMap;
use std::collections::HashMap;
use ucl_formats::Format;
use ucl_formats::inventory::{Group, Optimizer, Role};
use ucl_formats::lora::Adapters;
use ucl_formats::universal::{Entry, Manifest, Origin, StateEntry, VERSION};
use ucl_tensor::DType;

impl Plan<'_> {
    /// What `ucl.json` says. `digests` are those of [`Work::tensors`], in order; `spec` is the text of
    /// the model's spec without inheritance; `extra` are the files that go along.
    pub fn manifest(
        &self,
        digests: &[String],
        spec: Option<String>,
        extra: Vec<String>,
    ) -> Manifest {
        let inventory = self.bound.inventory;
        let own_word = self.bound.sure == Some(Sure::Described) && self.leaves_its_spec();
        let mut source = self.origin();
        source.cuts = source.cuts.or_else(|| spec.clone().filter(|_| own_word));
        let spec = spec.filter(|_| !self.leaves_its_spec());
        Manifest {
            format: "ucl.universal".to_owned(),
            version: VERSION,
            step: inventory.step,
            source,
            model: self
                .bound
                .spec
                .filter(|_| !self.leaves_its_spec())
                .map_or("identity", |(program, _)| &program.model.name)
                .to_owned(),
            view: match &self.target.naming {
                Naming::Universal if self.bound.spec.is_some() => "universal".to_owned(),
                Naming::Universal | Naming::Stored => "stored".to_owned(),
                Naming::View(name) => name.clone(),
            },
            without_prefix: self.bound.without_prefix(),
            dims: match self.leaves_its_spec() {
                true => IndexMap::new(),
                false => self.bound.dims(),
            },
            numbers: match self.leaves_its_spec() {
                true => IndexMap::new(),
                false => self.bound.numbers(),
            },
            spec,
            tensors: self.entries(digests),
            optimizer: inventory.optimizer.as_ref().map(|optimizer| self.optimizer(optimizer)),
            metadata: inventory.metadata.clone(),
            adapters: self.adapters(),
            extra,
        }
    }

    /// Every tensor that is written, with its states, in the order of the model.
    pub(crate) fn entries(&self, digests: &[String]) -> Vec<Entry> {
        let mut entries: IndexMap<usize, Entry> = IndexMap::new();
        let mut order: Vec<usize> = self.wholes().map(|(_, item, _)| item).collect();
        order.sort_unstable();
        order.dedup();
        let own_types = self.own_types();
        for item in order {
            let own = self.own(&self.items[item]);
            entries.insert(
                item,
                Entry {
                    name: self.items[item].name.clone(),
                    dims: match self.leaves_its_spec() {
                        true => Vec::new(),
                        false => self.items[item].dims.clone(),
                    },
                    shape: self.items[item].shape.clone(),
                    role: own.map_or(Role::Trained, |own| own.role),
                    dtype: own_types[item].unwrap_or(DType::F32),
                    aliases: own.map_or_else(Vec::new, |own| self.aliases(&own.name)),
                    states: IndexMap::new(),
                },
            );
        }
        for ((tensor, item, from), digest) in self.wholes().zip(digests) {
            let Some(entry) = entries.get_mut(&item) else { continue };
            let known = own_types[item].is_some();
            if is_weight(&tensor.state) && (!known || self.target.dtype.is_some()) {
                entry.dtype = tensor.dtype;
            }
            let state = StateEntry {
                file: self.files()[tensor.file].path.clone(),
                dtype: tensor.dtype,
                digest: digest.clone(),
            };
            entry.states.insert(self.told_state(tensor, item, from).to_owned(), state);
        }
        entries.into_values().collect()
    }

    /// The state that a written tensor is told to be in: a model's weight that is its own master is one.
    fn told_state<'s>(&self, tensor: &'s TargetTensor, item: usize, from: &'s str) -> &'s str {
        let master = self.target.format == Format::HuggingFace
            && tensor.state == "param"
            && from == "fp32"
            && self.counted_type(&self.items[item], from) == Some(tensor.dtype);
        if master { from } else { &tensor.state }
    }

    /// The low-rank pairs that are kept, and the view that spells their weights.
    fn adapters(&self) -> Adapters {
        if self.merging.is_some() {
            return Adapters::default();
        }
        let mut adapters = self.bound.inventory.adapters.clone();
        let own = self.bound.spec.filter(|_| !adapters.is_empty());
        adapters.view = adapters.view.or_else(|| own.map(|(_, view)| view.name.clone()));
        adapters
    }

    /// Whether the spec has done all that it can: whole tensors under the source's own names, of a
    /// model that has no other names. What they mean is then as open as in a file without a spec.
    fn leaves_its_spec(&self) -> bool {
        let only = |(program, _): (&ucl_ir::Program, _)| program.views.len() == 1;
        self.target.naming == Naming::Stored && self.bound.spec.is_some_and(only)
    }

    /// For each item the type of the model's own weights, where it is stored or was remembered.
    pub(crate) fn own_types(&self) -> Vec<Option<DType>> {
        let remembered = self.remembered();
        let of = |own: &Own| own.dtype.or_else(|| remembered.get(own.name.as_str()).copied());
        let common = |item: &Item| {
            let mut types = self.owns(item).into_iter().filter_map(of);
            let first = types.next()?;
            types.try_fold(first, DType::common)
        };
        self.items.iter().map(common).collect()
    }

    /// What the model itself knows of all that an item is made of.
    pub(crate) fn owns(&self, item: &Item) -> Vec<&Own> {
        let of_term = |term: usize| {
            let param = &self.bound.params[term];
            let each = &param.dims[..param.each];
            let in_name = |name: &str| item.unit.iter().any(|unit| unit.0 == name);
            if each.iter().all(|dim| in_name(&dim.name)) {
                let own = self.bound.own.get(&(term, item.indices(param)));
                return own.into_iter().collect::<Vec<_>>();
            }
            let all = self.bound.own.iter().filter(|((param, _), _)| *param == term);
            all.map(|(_, own)| own).collect()
        };
        item.terms.iter().flat_map(|term| of_term(*term)).collect()
    }

    fn origin(&self) -> Origin {
        let inventory = self.bound.inventory;
        match &inventory.universal {
            Some(manifest) => manifest.source.clone(),
            None => Origin {
                kind: inventory.kind.clone(),
                version: inventory.version.clone(),
                mesh: inventory.mesh.clone(),
                view: self.bound.spec.map(|(_, view)| view.name.clone()),
                stages: match self.bound.spec {
                    Some(_) => Vec::new(),
                    None => inventory.stages.clone(),
                },
                cuts: None,
            },
        }
    }

    /// The types that a reader or a universal folder knows of the model's own weights where they are
    /// not stored, by stored name.
    fn remembered(&self) -> IndexMap<&str, DType> {
        let inventory = self.bound.inventory;
        let entries = inventory.universal.iter().flat_map(|manifest| &manifest.tensors);
        let entries = entries.map(|entry| (entry.name.as_str(), entry.dtype));
        let known = inventory.own_types.iter().map(|(name, dtype)| (name.as_str(), *dtype));
        entries.chain(known).collect()
    }

    /// What the model itself knows of an item: by its first term.
    pub(crate) fn own(&self, item: &Item) -> Option<&Own> {
        let term = item.terms[0];
        let param = &self.bound.params[term];
        let fixed = param.dims[..param.each]
            .iter()
            .map(|dim| item.unit.iter().find(|unit| unit.0 == dim.name).map_or(0, |unit| unit.1));
        self.bound.own.get(&(term, fixed.collect()))
    }

    fn aliases(&self, name: &str) -> Vec<String> {
        let aliases = self.bound.inventory.aliases.iter();
        aliases.filter(|(_, original)| *original == name).map(|(alias, _)| alias.clone()).collect()
    }

    /// The optimizer's groups under the target's names: in the run's own order where it has the same names,
    /// else in the target's.
    pub(crate) fn optimizer(&self, optimizer: &Optimizer) -> Optimizer {
        let names = self.names();
        let number: HashMap<&str, usize> =
            self.wholes().map(|(tensor, item, _)| (tensor.name.as_str(), item)).collect();
        let rename = |name: &String| names.get(name).cloned().unwrap_or_else(|| vec![name.clone()]);
        let groups = optimizer.groups.iter().map(|group| {
            let mut params: Vec<String> = Vec::new();
            let merged =
                |name: &&String| self.merging.is_some() && self.bound.inventory.adapters.has(name);
            let kept = group.params.iter().filter(|name| !merged(name));
            for name in kept.flat_map(rename) {
                if !params.contains(&name) {
                    params.push(name);
                }
            }
            let saved = group.saved();
            let of: HashMap<&String, usize> =
                saved.iter().enumerate().map(|(place, name)| (name, place)).collect();
            match params.iter().all(|name| of.contains_key(name)) {
                true => params.sort_by_key(|name| of.get(name)),
                false => params.sort_by_key(|name| number.get(name.as_str())),
            }
            Group {
                stored: if params == saved { Vec::new() } else { saved.to_vec() },
                hyper: group.hyper.clone(),
                step: group.step.clone(),
                steps: group
                    .steps
                    .iter()
                    .flat_map(|(name, step)| {
                        rename(name).into_iter().map(|name| (name, step.clone()))
                    })
                    .collect(),
                params,
            }
        });
        Optimizer {
            name: optimizer.name.clone(),
            groups: groups.collect(),
            unordered: optimizer.unordered,
        }
    }

    /// From stored names to the target's tensors that hold their elements: those of an equation in the
    /// order in which it puts them together, else in the target's order.
    pub fn names(&self) -> IndexMap<String, Vec<String>> {
        let mut names: IndexMap<String, Vec<Named>> = IndexMap::new();
        for (tensor, item, from) in self.wholes() {
            for (param, component) in self.boxes(&self.items[item], 0..tensor.len()) {
                for (piece, _) in self.bound.atlas.meeting(param, from, &component.bounds) {
                    let stored = &self.bound.inventory.tensors[piece.stored as usize];
                    let known = names.entry(stored.name.clone()).or_default();
                    if known.iter().all(|one| one.name != tensor.name) {
                        let unit = self.items[item].unit.iter().map(|(_, index)| *index);
                        known.push(Named {
                            unit: unit.collect(),
                            term: self.term(param),
                            name: tensor.name.clone(),
                        });
                    }
                }
            }
        }
        let ordered = names.into_iter().map(|(stored, mut of)| {
            of.sort_by(|a, b| (&a.unit, a.term).cmp(&(&b.unit, b.term)));
            (stored, of.into_iter().map(|one| one.name).collect())
        });
        ordered.collect()
    }

    /// Where a parameter stands in the equation that the source stores it by.
    fn term(&self, param: usize) -> usize {
        let path = &self.bound.params[param].path;
        let rules = self.bound.spec.into_iter().flat_map(|(_, view)| &view.rules);
        rules.filter_map(|rule| rule.terms.iter().position(|term| term == path)).next().unwrap_or(0)
    }
}

/// A target's tensor among those that a stored one becomes.
struct Named {
    /// The indices in its name.
    unit: Vec<u64>,
    term: usize,
    name: String,
}
