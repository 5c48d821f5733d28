//! A plan for a person: totals, and everything that is not a plain move.

use crate::bind::{PieceRole, is_weight};
use crate::lora::Merged;
use crate::plan::{Plan, Totals};
use crate::target::{Naming, States};
use crate::work::{MoveRole, Work};
use indexmap::{IndexMap, IndexSet};
use serde::Serialize;
use ucl_formats::Format;

/// What a plan does.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The model; `identity` without a spec.
    pub model: String,
    /// The view that the source is stored in.
    pub view: Option<String>,
    /// The layout.
    pub layout: Option<String>,
    /// Dims that are known one by one.
    pub dims: IndexMap<String, u64>,
    /// Totals.
    pub totals: Totals,
    /// By state: tensors, elements, bytes, type.
    pub states: IndexMap<String, StateTotals>,
    /// What is dropped, cast, averaged, left out or kept as a copy only; a sentence each.
    pub lossy: Vec<String>,
    /// Low-rank pairs that are added to their weights.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub merged: Vec<Merged>,
    /// What is compared as it is copied; a sentence each.
    pub checks: Vec<String>,
    /// What was proven.
    pub proofs: Vec<String>,
    /// Other remarks.
    pub notes: Vec<String>,
    /// Bytes read to plan.
    pub header_bytes: u64,
    /// Bytes of all files.
    pub disk_bytes: u64,
}

/// A state in numbers.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StateTotals {
    /// Tensors.
    pub tensors: u64,
    /// Elements.
    pub elements: u64,
    /// Bytes.
    pub bytes: u64,
    /// Element types.
    pub dtypes: Vec<String>,
}

impl Plan<'_> {
    /// What the plan does, for a person.
    pub fn report(&self) -> Report {
        let inventory = self.bound.inventory;
        let mut states: IndexMap<String, StateTotals> = IndexMap::new();
        for tensor in self.tensors() {
            let totals = states.entry(tensor.state.clone()).or_default();
            totals.tensors += 1;
            totals.elements += tensor.len();
            totals.bytes += tensor.len() * tensor.dtype.size_bytes();
            if !totals.dtypes.iter().any(|known| known == tensor.dtype.name()) {
                totals.dtypes.push(tensor.dtype.name().to_owned());
            }
        }
        Report {
            model: self
                .bound
                .spec
                .map_or("identity", |(program, _)| &program.model.name)
                .to_owned(),
            view: self.bound.spec.map(|(_, view)| view.name.clone()),
            layout: self.bound.layout.clone(),
            dims: self.bound.dims(),
            totals: self.totals.clone(),
            states,
            lossy: self.lossy(),
            merged: self.merging.as_ref().map_or_else(Vec::new, |merging| merging.merged.clone()),
            checks: self.checked(),
            proofs: self.proofs(),
            notes: self
                .bound
                .notes
                .iter()
                .chain(&inventory.notes)
                .cloned()
                .chain(self.prefixed())
                .chain(self.kept_apart())
                .collect(),
            header_bytes: inventory.files.iter().map(|file| file.header_bytes).sum(),
            disk_bytes: inventory.files.iter().map(|file| file.bytes).sum(),
        }
    }

    fn lossy(&self) -> Vec<String> {
        let mut lossy = Vec::new();
        for (param, elements) in &self.bound.padding {
            lossy
                .push(format!("`{param}`: {elements} stored elements are padding and are dropped"));
        }
        let gaps: u64 = self
            .bound
            .inventory
            .buffers
            .iter()
            .flat_map(|buffer| &buffer.padding)
            .map(|gap| gap.1)
            .sum();
        if gaps > 0 {
            lossy.push(format!("{gaps} elements of flat buffers are padding and are dropped"));
        }
        let mut casts: IndexMap<String, u64> = IndexMap::new();
        // Masters that are kept beside the weights are not lost by what is made of them.
        let kept = self.target.format == Format::HuggingFace && self.target.states == States::All;
        let lossy_from = |number: &usize| !(kept && self.said(*number) == "fp32");
        for number in (0..self.tensors().len()).filter(lossy_from) {
            let tensor = &self.tensors()[number];
            for step in self.window(number, 0..tensor.len()) {
                if step.dtype != tensor.dtype && matches!(step.role, MoveRole::Write) {
                    *casts
                        .entry(format!("{} {} to {}", self.said(number), step.dtype, tensor.dtype))
                        .or_default() += 1;
                    break;
                }
            }
        }
        lossy.extend(casts.iter().map(|(cast, count)| format!("{count} tensors are cast: {cast}")));
        if self.target.states == States::Weights {
            let left: Vec<String> =
                self.bound.states().into_iter().filter(|s| !is_weight(s)).collect();
            if !left.is_empty() {
                lossy.push(format!("optimizer states are left out: {}", left.join(", ")));
            }
        }
        if self.target.states == States::All {
            self.left_by_merging(&mut lossy);
        }
        let unread = self.bound.inventory.unread.iter();
        lossy.extend(unread.map(|problem| format!("optimizer states are left out: {problem}")));
        let merged = self.count_roles(|role| matches!(role, PieceRole::Average(_)));
        if merged > 0 {
            lossy.push(format!("{merged} pieces are averaged with their replicas"));
        }
        let summed = self.count_roles(|role| matches!(role, PieceRole::Sum));
        if summed > 0 {
            lossy.push(format!("{summed} pieces are summed with their parts"));
        }
        if !self.bound.ignored.is_empty() {
            lossy.push(format!(
                "{} tensors are ignored by the spec: {}",
                self.bound.ignored.len(),
                first(&self.bound.ignored)
            ));
        }
        let copies = self.copies();
        if !copies.is_empty() {
            lossy.push(format!(
                "{} tensors are left out, as others hold the same: {}",
                copies.len(),
                first(&copies)
            ));
        }
        let aliases = self.bound.inventory.aliases.keys();
        let aliases: Vec<String> = match self.target.format.is_cut() {
            true => Vec::new(),
            false => aliases.cloned().collect(),
        };
        if !aliases.is_empty() {
            lossy.push(format!(
                "{} second names are not repeated: {}",
                aliases.len(),
                first(&aliases)
            ));
        }
        lossy.extend(self.unkept.iter().cloned());
        if !self.bound.missing.is_empty() {
            lossy.push(format!(
                "{} parameters of the model are not in the checkpoint: {}",
                self.bound.missing.len(),
                first(&self.bound.missing)
            ));
        }
        lossy
    }

    /// What a tensor is made from, for a person.
    fn said(&self, tensor: usize) -> &str {
        let part = self.laid.parts[tensor].first();
        part.map_or("param", |part| self.source_state(tensor, self.item_of(part)))
    }

    /// Names of a Hugging Face folder that only repeat what has another name: a tied head.
    fn copies(&self) -> Vec<String> {
        let (mut counted, mut repeated) = (IndexSet::new(), IndexSet::new());
        if !self.bound.inventory.is_of_hugging_face() {
            return Vec::new();
        }
        for (param, state) in self.bound.atlas.keys() {
            for piece in self.bound.atlas.all(param, state) {
                let of_role =
                    if piece.role == PieceRole::Replica { &mut repeated } else { &mut counted };
                of_role.insert(&self.bound.inventory.tensors[piece.stored as usize].name);
            }
        }
        repeated.into_iter().filter(|name| !counted.contains(name)).cloned().collect()
    }

    /// Says that names get a prefix that the source's lack.
    fn prefixed(&self) -> Option<String> {
        let base = self.bound.without_base.as_ref()?;
        let (program, from) = self.bound.spec?;
        let Naming::View(name) = &self.target.naming else { return None };
        let adds = program.views.get(name).is_some_and(|view| view.bases.contains(base));
        (adds && from.name != *name)
            .then(|| format!("The names get the prefix `{base}`, which the source's lack."))
    }

    /// Says that there are low-rank pairs, and that they stay what they are.
    fn kept_apart(&self) -> Option<String> {
        let pairs = self.bound.inventory.adapters.pairs.len();
        (self.merging.is_none() && pairs > 0).then(|| {
            format!(
                "{pairs} low-rank pairs are kept apart from their weights; --merge-lora adds them."
            )
        })
    }

    /// What the optimizer knew of weights that are merged, and of the pairs.
    fn left_by_merging(&self, lossy: &mut Vec<String>) {
        if self.merging.is_none() {
            return;
        }
        let mut states: IndexMap<&str, u64> = IndexMap::new();
        for (_, state) in &self.outdated {
            *states.entry(state).or_default() += 1;
        }
        for (state, count) in states {
            lossy.push(format!("{count} merged weights have no `{state}` any more"));
        }
        let bound = &self.bound;
        let of_pairs = bound
            .atlas
            .keys()
            .filter(|(param, state)| bound.is_adapters(*param) && !is_weight(state));
        let of_pairs: IndexSet<&str> = of_pairs.map(|(_, state)| state).collect();
        if !of_pairs.is_empty() {
            let states: Vec<&str> = of_pairs.into_iter().collect();
            lossy.push(format!(
                "the pairs' own optimizer states are left out: {}",
                states.join(", ")
            ));
        }
    }

    fn checked(&self) -> Vec<String> {
        let mut checked = Vec::new();
        let replicas = self.count_roles(|role| role == PieceRole::Replica);
        if replicas > 0 {
            checked.push(format!(
                "{replicas} pieces are replicas and are compared with what is written"
            ));
        }
        let is_master = |tensor: usize| {
            let part = self.laid.parts[tensor].first();
            part.is_some_and(|part| self.source_state(tensor, self.item_of(part)) == "fp32")
        };
        let masters = (0..self.tensors().len()).filter(|tensor| is_master(*tensor)).count();
        let own = self.tensors().iter().enumerate().filter(|(number, tensor)| {
            is_master(*number)
                && self
                    .window(*number, 0..tensor.len())
                    .iter()
                    .any(|step| matches!(step.role, MoveRole::Rounded(_)))
        });
        let own = own.count();
        if own > 0 {
            checked.push(format!("{own} of {masters} master weights are held against the model's own weights, to which they must round"));
        }
        checked
    }

    fn count_roles(&self, wanted: impl Fn(PieceRole) -> bool) -> usize {
        let keys: Vec<(usize, &str)> = self.bound.atlas.keys().collect();
        keys.iter()
            .flat_map(|(param, state)| self.bound.atlas.all(*param, state))
            .filter(|piece| wanted(piece.role))
            .count()
    }

    fn proofs(&self) -> Vec<String> {
        let mut proofs = vec![format!(
            "every element of {} tensors is written exactly once, and none of the source's goes nowhere",
            self.tensors().len()
        )];
        let buffers = &self.bound.inventory.buffers;
        if !buffers.is_empty() {
            let elements: u64 = buffers.iter().map(|buffer| buffer.len).sum();
            proofs.push(format!(
                "every one of the {elements} elements of {} flat buffers is a parameter's or padding, once",
                buffers.len()
            ));
        }
        proofs
    }
}

fn first(names: &[String]) -> String {
    let listed: Vec<&str> = names.iter().take(4).map(String::as_str).collect();
    let more = names.len() - listed.len();
    if more > 0 { format!("{} and {more} more", listed.join(", ")) } else { listed.join(", ") }
}
