//! `optimizer` of a model file: torch's state dict, or that of DeepSpeed's wrapper for 16 bits around it.

use crate::inventory::Problem;
use crate::named::bare;
use crate::torch::json;
use crate::torch::{TensorExtent, TorchFile, Value};
use indexmap::IndexMap;
use serde_json::Value as Json;

/// An optimizer that no rank shares with another.
#[derive(Clone, Debug, Default)]
pub(in crate::deepspeed) struct Whole {
    pub(super) groups: Vec<WholeGroup>,
}

/// A parameter group.
#[derive(Clone, Debug, Default)]
pub(super) struct WholeGroup {
    /// Hyper-parameters, without `params`.
    pub(super) hyper: IndexMap<String, Json>,
    /// The names that torch was given, if it was given any.
    pub(super) names: Option<Vec<String>>,
    /// Its parameters in order.
    pub(super) params: Vec<Held>,
    /// States of all its parameters end to end, as `FP16_Optimizer` has them (`fp32_groups_flat`).
    pub(super) flat: Option<Held>,
}

/// What is kept of a parameter.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    /// `fp32` if there are masters, then the optimizer's states by its own names.
    pub(super) tensors: IndexMap<String, TensorExtent>,
    /// States that are one number.
    pub(super) scalars: IndexMap<String, Json>,
}

impl WholeGroup {
    /// Whether its parameters are those of experts.
    pub(super) fn of_experts(&self) -> bool {
        self.hyper.get("moe").and_then(Json::as_bool) == Some(true)
    }
}

impl Held {
    /// The shape of its first tensor, if it has any.
    pub(super) fn shape(&self) -> Option<&[u64]> {
        self.tensors.values().next().map(|extent| extent.shape.as_slice())
    }
}

impl Whole {
    /// Over how many ranks experts are spread, if a group of theirs says so.
    pub(super) fn expert_ranks(&self) -> Option<u64> {
        let of_experts = self.groups.iter().filter(|group| group.of_experts());
        let names = of_experts.filter_map(|group| group.hyper.get("name")?.as_str());
        names.filter_map(|name| name.strip_prefix("ep_size_")?.parse().ok()).max()
    }

    /// Reads an optimizer; nothing if the file has none.
    pub(in crate::deepspeed) fn read(
        file: &TorchFile,
        value: Value<'_>,
        problems: &mut Vec<Problem>,
    ) -> Option<Whole> {
        if value.is_none() {
            return None;
        }
        let mut reader = Reader { file, problems };
        match reader.whole(value) {
            Ok(whole) => Some(whole),
            Err(message) => {
                reader.problems.push(Problem::new(&file.path, format!("`optimizer` {message}")));
                None
            }
        }
    }
}

struct Reader<'a> {
    file: &'a TorchFile,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    fn whole(&mut self, value: Value<'_>) -> Result<Whole, String> {
        let base = value.get("optimizer_state_dict").unwrap_or(value);
        let groups =
            base.get("param_groups").and_then(Value::items).ok_or("has no `param_groups`")?;
        let states: IndexMap<u64, Value<'_>> = base
            .get("state")
            .and_then(Value::pairs)
            .into_iter()
            .flatten()
            .filter_map(|(key, state)| Some((key.as_u64()?, state)))
            .collect();
        let list = |key| value.get(key).and_then(Value::items).map(Iterator::collect::<Vec<_>>);
        let (masters, flat) = (list("fp32_groups"), list("fp32_groups_flat"));
        let mut whole = Whole::default();
        for (index, group) in groups.enumerate() {
            let ids: Option<Vec<u64>> = group
                .get("params")
                .and_then(Value::items)
                .and_then(|ids| ids.map(Value::as_u64).collect());
            let ids =
                ids.ok_or_else(|| format!("has a group {index} without numbers in `params`"))?;
            let mut found = WholeGroup::default();
            for (key, value) in group.pairs().into_iter().flatten() {
                match key.as_str().unwrap_or_default() {
                    "params" => {}
                    "param_names" => {
                        let names = value.items().into_iter().flatten();
                        let names = names.map(|n| Some(bare(n.as_str()?, &mut false))).collect();
                        found.names = names;
                    }
                    key => drop(found.hyper.insert(key.to_owned(), json::json(self.file, value))),
                }
            }
            let mut masters = match masters.as_ref().map(|groups| groups.get(index)) {
                None => None,
                Some(group) => {
                    let group =
                        group.and_then(|group| group.items()).map(Iterator::collect::<Vec<_>>);
                    let group = group.filter(|group| group.len() == ids.len());
                    Some(group.ok_or_else(|| {
                        format!(
                            "has a group {index} of {} parameters, `fp32_groups` has other ones",
                            ids.len()
                        )
                    })?)
                }
            }
            .unwrap_or_default()
            .into_iter();
            if let Some(flat) = &flat {
                let label = format!("group {index} of the optimizer");
                let master = flat.get(index).copied();
                let state = ids.first().and_then(|id| states.get(id)).copied();
                found.flat = Some(self.held(&label, master, state));
            } else {
                for id in &ids {
                    let label = format!("parameter {id} of the optimizer");
                    let held = self.held(&label, masters.next(), states.get(id).copied());
                    found.params.push(held);
                }
            }
            whole.groups.push(found);
        }
        Ok(whole)
    }

    fn held(&mut self, label: &str, master: Option<Value<'_>>, state: Option<Value<'_>>) -> Held {
        let mut held = Held::default();
        let states = state.and_then(Value::pairs).into_iter().flatten();
        let states =
            states.map(|(key, value)| (key.as_str().unwrap_or_default().to_owned(), value));
        for (name, value) in master.map(|m| ("fp32".to_owned(), m)).into_iter().chain(states) {
            match value.as_tensor().filter(|tensor| name == "fp32" || !tensor.size.is_empty()) {
                None => drop(held.scalars.insert(name, json::json(self.file, value))),
                Some(tensor) => match self.file.extent(tensor) {
                    Ok(extent) => drop(held.tensors.insert(name, extent)),
                    Err(error) => self.problems.push(Problem::new(
                        &self.file.path,
                        format!("`{name}` of {label} can't be read: {}", error.kind),
                    )),
                },
            }
        }
        held
    }
}
