//! The optimizers in a rank's file: states by number, masters by group.
//!
//! `megatron/core/optimizer/optimizer.py`: `Float16OptimizerWithFloat16Params.state_dict` nests torch's own
//! state dict under `optimizer` and has the masters of 16-bit parameters beside it, `FP32Optimizer` is
//! torch's state dict, `ChainedOptimizer` a list. The distributed optimizer keeps its states elsewhere.

use crate::inventory::Problem;
use crate::torch::json::{json, scalar};
use crate::torch::{TensorExtent, TorchFile, Value};
use indexmap::IndexMap;
use serde_json::Value as Json;
use std::collections::HashMap;

/// One optimizer.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) groups: Vec<PartGroup>,
    /// Whether it keeps masters beside 16-bit weights.
    pub(super) masters: bool,
    /// Whether its states are here; the distributed optimizer's are in a file of their own.
    pub(super) states: bool,
    /// Where a dynamic loss scaler stands.
    pub(super) loss_scale: Option<f64>,
}

/// A parameter group of one optimizer.
#[derive(Debug, Default)]
pub(super) struct PartGroup {
    /// Hyper-parameters without `params`.
    pub(super) hyper: IndexMap<String, Json>,
    /// Its parameters' states in the order of the group.
    pub(super) slots: Vec<Slot>,
    /// Masters of those of its parameters that have 16 bits, in order.
    pub(super) masters: Vec<TensorExtent>,
}

/// The states of one parameter, whose name is not recorded.
#[derive(Debug, Default)]
pub(super) struct Slot {
    pub(super) states: IndexMap<String, TensorExtent>,
    /// States that are one number: the step.
    pub(super) scalars: IndexMap<String, Json>,
}

/// Reads one optimizer, or a list of them.
pub(super) fn parts(
    file: &TorchFile,
    value: Value<'_>,
    taken: &mut Vec<Vec<String>>,
    problems: &mut Vec<Problem>,
) -> Vec<Part> {
    let at = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
    let mut reader = Reader { file, taken, problems };
    if value.as_dict().is_some() {
        return vec![reader.part(value, at(&["optimizer"]))];
    }
    let Some(items) = value.items() else {
        let message = format!("`optimizer` is {}, not a dict or a list of dicts", value.kind());
        problems.push(Problem::new(&file.path, message));
        return Vec::new();
    };
    // An optimizer without parameters may be `None`.
    let items = items.enumerate().filter(|(_, item)| !item.is_none());
    items.map(|(index, item)| reader.part(item, at(&["optimizer", &index.to_string()]))).collect()
}

struct Reader<'a> {
    file: &'a TorchFile,
    taken: &'a mut Vec<Vec<String>>,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    fn part(&mut self, value: Value<'_>, at: Vec<String>) -> Part {
        let below = |key: &str| at.iter().cloned().chain([key.to_owned()]).collect::<Vec<_>>();
        // Before 2020's end the inner one had another name.
        let key = ["optimizer", "optimizer_state_dict"]
            .into_iter()
            .find(|key| value.get(key).is_some_and(|inner| inner.as_dict().is_some()));
        let inner = key.and_then(|key| value.get(key)).unwrap_or(value);
        let at_inner = key.map_or_else(|| at.clone(), below);
        let mut part = Part::default();
        let states = inner.get("state").filter(|states| states.as_dict().is_some());
        part.states = states.is_some();
        self.taken.push(at_inner.into_iter().chain(["state".to_owned()]).collect());
        let mut by_number: HashMap<i64, Value<'_>> = HashMap::new();
        for (number, states) in states.and_then(Value::pairs).into_iter().flatten() {
            by_number.extend(number.as_i64().map(|number| (number, states)));
        }
        for group in inner.get("param_groups").and_then(Value::items).into_iter().flatten() {
            part.groups.push(self.group(group, &by_number));
        }
        for key in ["fp32_from_fp16_params", "fp32_from_fp16"] {
            if let Some(masters) = value.get(key) {
                part.masters = true;
                self.taken.push(below(key));
                self.masters(&mut part, masters, key);
            }
        }
        let scaler = value.get("grad_scaler").and_then(|scaler| scaler.get("scale"));
        part.loss_scale = scaler.and_then(|scale| match scale.as_tensor() {
            Some(tensor) => scalar(self.file, tensor)?.as_f64(),
            None => scale.as_f64(),
        });
        part
    }

    fn group(&mut self, value: Value<'_>, states: &HashMap<i64, Value<'_>>) -> PartGroup {
        let mut group = PartGroup::default();
        for (key, held) in value.pairs().into_iter().flatten() {
            let Some(key) = key.as_str() else { continue };
            if key != "params" {
                group.hyper.insert(key.to_owned(), json(self.file, held));
                continue;
            }
            for number in held.items().into_iter().flatten() {
                let states = number.as_i64().and_then(|number| states.get(&number).copied());
                group.slots.push(states.map_or_else(Slot::default, |states| self.slot(states)));
            }
        }
        group
    }

    fn slot(&mut self, states: Value<'_>) -> Slot {
        let mut slot = Slot::default();
        for (name, value) in states.pairs().into_iter().flatten() {
            let Some(name) = name.as_str() else { continue };
            match value.as_tensor() {
                Some(tensor) if !tensor.size.is_empty() => {
                    if let Some(extent) = self.extent(tensor, name) {
                        slot.states.insert(name.to_owned(), extent);
                    }
                }
                Some(tensor) => {
                    slot.scalars.extend(Some(name.to_owned()).zip(scalar(self.file, tensor)));
                }
                None if !value.is_none() => {
                    slot.scalars.insert(name.to_owned(), json(self.file, value));
                }
                None => {}
            }
        }
        slot
    }

    fn masters(&mut self, part: &mut Part, value: Value<'_>, key: &str) {
        let groups: Vec<_> = value.items().into_iter().flatten().collect();
        if groups.len() != part.groups.len() {
            let message = format!(
                "`{key}` has {} groups, the optimizer has {}",
                groups.len(),
                part.groups.len()
            );
            self.problems.push(Problem::new(&self.file.path, message));
            return;
        }
        for (group, masters) in part.groups.iter_mut().zip(groups) {
            for master in masters.items().into_iter().flatten() {
                match master.as_tensor() {
                    Some(tensor) => group.masters.extend(self.extent(tensor, key)),
                    None => self.problems.push(Problem::new(
                        &self.file.path,
                        format!("`{key}` holds {}, not a tensor", master.kind()),
                    )),
                }
            }
        }
    }

    fn extent(&mut self, tensor: &crate::torch::Tensor, name: &str) -> Option<TensorExtent> {
        match self.file.extent(tensor) {
            Ok(extent) => Some(extent),
            Err(error) => {
                let message = format!("`{name}` of the optimizer: {}", error.kind);
                self.problems.push(Problem::new(&self.file.path, message));
                None
            }
        }
    }
}
