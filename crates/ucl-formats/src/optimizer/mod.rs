//! The state dict of a torch optimizer: states by parameter and groups, as one file or one rank has them.

mod merge;
mod odd;
mod order;

use crate::inventory::Problem;
use crate::sharded::{Held, held, is_tensor};
use crate::torch::json::{json, scalar};
use crate::torch::{TorchFile, Value};
use indexmap::IndexMap;
use serde_json::Value as Json;

pub(crate) use merge::{Model, Order, copies, left_out, merge, unread};
pub(crate) use odd::Odd;
pub(crate) use order::{BY_ORDER, Numbered, assign};

/// What an optimizer calls a parameter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// Its name.
    Name(String),
    /// Its number, in the order in which the groups were made.
    Number(u64),
}

/// A state of a parameter.
#[derive(Clone, Debug)]
enum State {
    Tensor(Held),
    Scalar(Json),
}

/// A group as it was saved.
#[derive(Clone, Debug, Default)]
struct SavedGroup {
    hyper: IndexMap<String, Json>,
    params: Vec<Key>,
    /// The names of the parameters, where the optimizer was given some.
    names: Option<Vec<String>>,
}

/// The optimizer's state dict in one file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Saved {
    states: IndexMap<Key, IndexMap<String, State>>,
    groups: Vec<SavedGroup>,
}

/// Whether a value is a state dict of an optimizer.
pub(crate) fn is_optimizer(value: Value<'_>) -> bool {
    let states = value.get("state").is_some_and(|state| state.as_dict().is_some());
    states && value.get("param_groups").is_some_and(|groups| groups.as_list().is_some())
}

impl Saved {
    /// Reads a state dict.
    pub(crate) fn read(file: &TorchFile, root: Value<'_>, problems: &mut Vec<Problem>) -> Saved {
        let mut saved = Saved::default();
        for (param, states) in root.get("state").and_then(Value::pairs).into_iter().flatten() {
            let Some(param) = key(param) else { continue };
            let held = saved.states.entry(param.clone()).or_default();
            for (name, value) in states.pairs().into_iter().flatten() {
                let Some(name) = name.as_str() else { continue };
                match state(file, value) {
                    Ok(Some(state)) => drop(held.insert(name.to_owned(), state)),
                    Ok(None) => {}
                    Err(why) => {
                        let message = format!("the state `{name}` of {}: {why}", called(&param));
                        problems.push(Problem::new(&file.path, message));
                    }
                }
            }
        }
        let groups = root.get("param_groups").and_then(Value::as_list).into_iter().flatten();
        saved.groups = groups.map(|found| group(file, found)).collect();
        saved
    }

    /// All tensors in it.
    pub(crate) fn held(&self) -> impl Iterator<Item = &Held> {
        self.states.values().flat_map(IndexMap::values).filter_map(|state| match state {
            State::Tensor(held) => Some(held),
            State::Scalar(_) => None,
        })
    }
}

fn key(value: Value<'_>) -> Option<Key> {
    match value.as_str() {
        Some(name) => Some(Key::Name(name.to_owned())),
        None => value.as_u64().map(Key::Number),
    }
}

/// A parameter in a sentence.
fn called(key: &Key) -> String {
    match key {
        Key::Name(name) => format!("`{name}`"),
        Key::Number(number) => format!("parameter {number}"),
    }
}

fn state(file: &TorchFile, value: Value<'_>) -> Result<Option<State>, String> {
    if let Some(tensor) = value.as_tensor()
        && tensor.size.is_empty()
    {
        let number = scalar(file, tensor).ok_or("its number can't be read")?;
        return Ok(Some(State::Scalar(number)));
    }
    if is_tensor(value) {
        return held(file, value).map(|held| Some(State::Tensor(held)));
    }
    Ok((!value.is_none()).then(|| State::Scalar(json(file, value))))
}

fn group(file: &TorchFile, value: Value<'_>) -> SavedGroup {
    let mut group = SavedGroup::default();
    for (name, held) in value.pairs().into_iter().flatten() {
        match name.as_str() {
            Some("params") => {
                group.params = held.items().into_iter().flatten().filter_map(key).collect();
            }
            Some("param_names") => {
                let names = held.items().map(|names| names.map(Value::as_str));
                group.names = names.and_then(|mut names| {
                    names.try_fold(Vec::new(), |mut known, name| {
                        known.push(name?.to_owned());
                        Some(known)
                    })
                });
            }
            Some(name) => drop(group.hyper.insert(name.to_owned(), json(file, held))),
            None => {}
        }
    }
    group
}
