//! A Hugging Face folder as a target: the order of its tensors, and what its config has to say.

use crate::document::numbers_of;
use crate::plan::Plan;
use crate::target::{Item, Naming, States, of_view};
use crate::work::{TargetTensor, Work};
use serde_json::{Map, Value};
use std::collections::HashMap;
use ucl_formats::Format;
use ucl_formats::huggingface::{States as OptimizerStates, torch_name};
use ucl_ir::Document;
use ucl_tensor::DType;

/// The view that a folder is written in, if no other is asked for.
pub const VIEW: &str = "hf";

/// The view of what transformers holds in memory since version 5, for models where that is not what it
/// saves.
const IN_MEMORY: &str = "hf5";

/// Whether the head is the embedding.
const TIED: &str = "tie_word_embeddings";

/// A value of `config.json` that the conversion changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigChange {
    /// The key.
    pub key: String,
    /// The value that it had.
    pub was: Option<Value>,
    /// The value that it gets.
    pub value: Value,
}

impl Plan<'_> {
    /// What is kept beside a model of masters that are no weights of it, as these have another type.
    pub(crate) fn kept_master(
        &self,
        item: &Item,
        state: &str,
        weight: &TargetTensor,
    ) -> Option<TargetTensor> {
        let keeps = self.target.format == Format::HuggingFace && self.target.states == States::All;
        let master = self.counted_type(item, state).filter(|_| keeps && state == "fp32")?;
        let tensor = || TargetTensor { state: state.to_owned(), dtype: master, ..weight.clone() };
        (master != weight.dtype).then(tensor)
    }

    /// What `optimizer.json` says beside a model; `None` if nothing of an optimizer is written. `digests`
    /// are those of [`Work::tensors`], in order.
    pub fn optimizer_states(&self, digests: &[String]) -> Option<OptimizerStates> {
        let inventory = self.bound.inventory;
        let beside = self.tensors().iter().any(|tensor| tensor.state != "param");
        let keeps = self.target.format == Format::HuggingFace && self.target.states == States::All;
        (keeps && (beside || inventory.optimizer.is_some())).then(|| {
            let optimizer = inventory.optimizer.as_ref().map(|of| self.optimizer(of));
            OptimizerStates::new(inventory.step, optimizer, self.entries(digests))
        })
    }

    /// What `config.json` has to say otherwise: the type of the weights, where it says one, and whether
    /// the head is tied. Empty where there is no config. `given` says that the config is not the
    /// source's own.
    pub fn config_changes(&self, given: bool) -> Vec<ConfigChange> {
        let Some(config) = self.bound.inventory.documents.get("config") else { return Vec::new() };
        let change = |key: &str, value: Value| {
            let was = config.get(key).cloned();
            (was.as_ref() != Some(&value)).then(|| ConfigChange { key: key.to_owned(), was, value })
        };
        let said: Vec<&str> = ["dtype", "torch_dtype"]
            .iter()
            .filter_map(|key| config.get(*key).and_then(Value::as_str))
            .collect();
        let dtype = self.new_dtype(given, &said);
        let dtypes = ["dtype", "torch_dtype"].into_iter().filter(|key| {
            config.get(*key).and_then(Value::as_str).is_some_and(|said| said != "auto")
        });
        let mut changes: Vec<ConfigChange> =
            dtypes.filter_map(|key| change(key, Value::from(dtype?))).collect();
        // A model without a head says nothing by not having a second one.
        let headed = self.bound.spec.is_some_and(|(program, _)| {
            program.model.params.iter().any(|param| param.tied.is_some())
        });
        if headed && self.said_tied(config).is_some_and(|said| said != self.bound.tied) {
            changes.extend(change(TIED, Value::from(self.bound.tied)));
        }
        changes
    }

    /// What the config has to say of the type of the weights, if that is not what it says: where they
    /// were cast, or where it is the config of other weights.
    ///
    /// transformers calls a model's type that of its first floats. Those of one byte have scales
    /// beside them, and the type that a config says is that of what they stand for.
    fn new_dtype(&self, given: bool, said: &[&str]) -> Option<&'static str> {
        let own_types = self.own_types();
        let weights = self.wholes().filter(|(tensor, _, _)| tensor.state == "param");
        let tensors = weights.map(|(tensor, item, _)| (tensor, item));
        let floats: Vec<_> = tensors.filter(|(tensor, _)| is_wide(tensor.dtype)).collect();
        let cast = floats
            .iter()
            .any(|(tensor, item)| own_types[*item].is_some_and(|own| own != tensor.dtype));
        let cast = cast && self.target.dtype.is_some();
        if !cast && (self.bound.spec.is_none() || !given && self.of_these_weights(said)) {
            return None;
        }
        let (first, _) = floats.iter().min_by_key(|(_, item)| *item)?;
        torch_name(first.dtype)
    }

    /// Whether the source's config was written with its weights. A universal folder keeps a config as
    /// it was, and may have been cast when it was made.
    fn of_these_weights(&self, said: &[&str]) -> bool {
        let inventory = self.bound.inventory;
        let is_said = |dtype| torch_name(dtype).is_some_and(|name| said.contains(&name));
        inventory.is_of_hugging_face()
            && (inventory.universal.is_none()
                || self.tensors().iter().any(|t| t.state == "param" && is_said(t.dtype)))
    }

    /// Whether the config says that the head is tied.
    fn said_tied(&self, config: &Map<String, Value>) -> Option<bool> {
        let (program, view) = self.bound.spec?;
        let numbers = numbers_of(program, view, Document::Config, config);
        numbers.get("tied").map(|tied| *tied != 0)
    }

    /// For each item where transformers puts it when it saves, if that is not the order of the view.
    ///
    /// Where version 5 holds a model in other shapes than it saves, it sorts the names in memory and
    /// undoes the shapes then. What shares a place is a part of one tensor, and stays in one file.
    pub(crate) fn saved_order(&self) -> Option<Vec<Place>> {
        let (program, _) = self.bound.spec?;
        let of_view_hf = self.target.naming == Naming::View(VIEW.to_owned());
        if self.target.format != Format::HuggingFace || !of_view_hf || !self.since_5() {
            return None;
        }
        let view = program.views.get(IN_MEMORY).filter(|view| view.lacking.is_empty())?;
        let held = of_view(&self.bound, program, view, false).ok()?;
        let mut dims: HashMap<usize, Vec<String>> = HashMap::new();
        let mut places: HashMap<(usize, Vec<u64>), Place> = HashMap::new();
        for item in &held {
            for (number, term) in item.terms.iter().enumerate() {
                dims.insert(*term, item.unit.iter().map(|unit| unit.0.clone()).collect());
                let at = item.unit.iter().map(|unit| unit.1).collect();
                places.insert((*term, at), (natural(&item.name), number));
            }
        }
        let place = |item: &Item| {
            let term = item.terms[0];
            let at = |dim: &String| item.unit.iter().find(|unit| unit.0 == *dim).map(|unit| unit.1);
            let at = dims.get(&term)?.iter().map(at).collect::<Option<Vec<u64>>>()?;
            places.get(&(term, at)).cloned()
        };
        self.items.iter().map(place).collect()
    }

    /// Whether the config is one of transformers 5 or later.
    fn since_5(&self) -> bool {
        let config = self.bound.inventory.documents.get("config");
        let version = config.and_then(|config| config.get("transformers_version")?.as_str());
        let major = version.and_then(|version| version.split('.').next()?.parse::<u64>().ok());
        major.is_some_and(|major| major >= 5)
    }
}

/// Whether a type is one of floats that need no scales beside them.
fn is_wide(dtype: DType) -> bool {
    dtype.is_float() && dtype.size_bytes() > 1
}

/// A place in the order of saving: the name in memory, and the number of the part of that tensor.
pub(crate) type Place = (Vec<Part>, usize);

/// A part of a name between dots: numbers first, as numbers; text with the number at its end apart.
type Part = (bool, String, Option<u64>);

/// A name as it is sorted.
fn natural(name: &str) -> Vec<Part> {
    let part = |part: &str| {
        let text = part.trim_end_matches(|letter: char| letter.is_ascii_digit());
        let number = part[text.len()..].parse().ok();
        (!text.is_empty(), text.to_owned(), number)
    };
    name.split('.').map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::natural;

    #[test]
    fn numbers_in_names_are_sorted_as_numbers() {
        let mut names = ["a.10.x", "a.b", "a.2.x", "a.w11", "a.w2", "a.w", "a"];
        names.sort_by_key(|name| natural(name));
        assert_eq!(names, ["a", "a.2.x", "a.10.x", "a.b", "a.w", "a.w2", "a.w11"]);
    }
}
