//! The optimizer of all ranks together: states by name, groups.

use super::{BY_ORDER, Key, Numbered, Odd, Saved, SavedGroup, State, assign, called};
use crate::inventory::{FileId, Group, Inventory, Mesh, Optimizer, Problem, Role, Stored};
use crate::named::bare;
use crate::ranks::{name_of, usual};
use crate::sharded::{Held, Place, gather};
use indexmap::{IndexMap, IndexSet};
use serde_json::Value as Json;
use std::path::Path;

/// The state that counts steps.
const STEP: &str = "step";

/// The parameters of a model: shapes by name.
pub(crate) struct Model<'a> {
    pub(crate) shapes: &'a IndexMap<String, Vec<u64>>,
    /// Who says that they stand in the order of the model's modules, if someone does.
    pub(crate) order: Option<Order<'a>>,
}

/// Who knows the order of a model's modules.
#[derive(Clone, Copy)]
pub(crate) enum Order<'a> {
    /// The files of the weights.
    Files,
    /// A view, which a reader is told of.
    View(&'a str),
}

/// Adds the states of an optimizer that lies in one file or in one for each rank, and its groups.
///
/// Where numbers can't be made names, the weights stay and it is said.
pub(crate) fn merge(
    saved: &[(&Path, FileId, &Saved)],
    model: &Model<'_>,
    inventory: &mut Inventory,
    problems: &mut Vec<Problem>,
) {
    let Some((path, _, first)) = saved.first() else { return };
    for (other, _, held) in saved {
        let same = held.groups.len() == first.groups.len()
            && held.groups.iter().zip(&first.groups).all(|(a, b)| a.params == b.params);
        if !same {
            let message =
                format!("its groups have other parameters than those of {}", name_of(path));
            problems.push(Problem::new(*other, message).help("Keep the files of one save."));
            return;
        }
    }
    let Names { names, by_order } = match names(saved, model) {
        Ok(names) => names,
        Err(why) => {
            if why == Numbered::Unordered {
                inventory.unordered.push((*path).to_owned());
            }
            unread(
                inventory,
                Problem::new(*path, format!("the optimizer numbers its parameters, and {why}")),
            );
            return;
        }
    };
    if by_order {
        inventory.notes.push(match model.order {
            Some(Order::View(view)) => format!(
                "The optimizer's states are numbered and not named: they were given to the parameters by \
                 shape, in the order of {view}. Where two of one shape are neighbours, that order alone tells \
                 them apart."
            ),
            _ => BY_ORDER.to_owned(),
        });
    }
    let mut odd = Odd::default();
    let mut trained: IndexSet<String> = IndexSet::new();
    let mut scalars: IndexMap<String, IndexMap<String, Json>> = IndexMap::new();
    let keys: IndexSet<&Key> = saved.iter().flat_map(|(_, _, saved)| saved.states.keys()).collect();
    let mut stored = Vec::new();
    for key in keys {
        let name = names.get(key).cloned().unwrap_or_else(|| match key {
            Key::Name(name) => bare(name, &mut false),
            Key::Number(number) => number.to_string(),
        });
        let name = inventory.aliases.get(&name).cloned().unwrap_or(name);
        for (state, held) in states(saved, key) {
            match held {
                Found::Scalar(value) => {
                    scalars.entry(name.clone()).or_default().insert(state.to_owned(), value);
                }
                Found::Differ(one, other) => {
                    let message = format!(
                        "the state `{state}` of `{name}` is {one} on one rank and {other} on another"
                    );
                    problems.push(Problem::new(*path, message).help("Keep the files of one save."));
                }
                Found::Tensor(parts) => match of_model(&parts, model, &name) {
                    Ok((place, shape)) => {
                        trained.insert(name.clone());
                        if place.shape == *shape {
                            stored.extend(copies(&name, state, Role::Trained, place));
                        } else {
                            odd.add(state, &name, &place.shape, shape);
                        }
                    }
                    Err(why) => {
                        let message =
                            format!("the state `{state}` of {}, `{name}`: {why}", called(key));
                        problems
                            .push(Problem::new(*path, message).help("Keep the files of one save."));
                    }
                },
            }
        }
    }
    if !trained.is_empty() {
        inventory.freeze(|name| !trained.contains(name));
    }
    inventory.tensors.extend(stored);
    inventory.unread.extend(odd.told(path));
    let groups = first.groups.iter().map(|group| told(group, &names, &scalars)).collect();
    inventory.optimizer = Some(Optimizer { name: None, groups, ..Optimizer::default() });
}

/// Says why states are not taken; what the weights become does not depend on them.
pub(crate) fn unread(inventory: &mut Inventory, why: Problem) {
    inventory.notes.push(format!(
        "{}: {}. What `torch.distributed.checkpoint.state_dict.\
         get_optimizer_state_dict` gives has names instead.",
        left_out(&why.file),
        why.message
    ));
}

/// How a note begins that says why states were not taken.
pub(crate) fn left_out(file: &Path) -> String {
    format!("The optimizer's states in {} are left out", name_of(file))
}

/// A state, whole, and the shape of its parameter.
fn of_model<'a>(
    parts: &[(FileId, Held)],
    model: &Model<'a>,
    name: &str,
) -> Result<(Place, &'a Vec<u64>), String> {
    let place = gather(parts)?;
    let shape = model.shapes.get(name).ok_or("the model has no such parameter")?;
    Ok((place, shape))
}

/// One state of one parameter, over all ranks.
enum Found {
    Tensor(Vec<(FileId, Held)>),
    Scalar(Json),
    Differ(Json, Json),
}

fn states<'a>(saved: &[(&Path, FileId, &'a Saved)], key: &Key) -> IndexMap<&'a str, Found> {
    let mut found: IndexMap<&str, Found> = IndexMap::new();
    for (_, file, saved) in saved {
        for (state, held) in saved.states.get(key).into_iter().flatten() {
            match (held, found.get_mut(state.as_str())) {
                (State::Tensor(held), Some(Found::Tensor(parts))) => {
                    parts.push((*file, held.clone()));
                }
                (State::Tensor(held), None) => {
                    found.insert(state, Found::Tensor(vec![(*file, held.clone())]));
                }
                (State::Scalar(value), None) => {
                    found.insert(state, Found::Scalar(value.clone()));
                }
                (State::Scalar(value), Some(Found::Scalar(known))) if value != known => {
                    let differ = Found::Differ(known.clone(), value.clone());
                    found.insert(state, differ);
                }
                _ => {}
            }
        }
    }
    found
}

/// The names of the parameters of all groups.
#[derive(Default)]
struct Names {
    names: IndexMap<Key, String>,
    /// Whether only order and shapes gave them.
    by_order: bool,
}

fn names(saved: &[(&Path, FileId, &Saved)], model: &Model<'_>) -> Result<Names, Numbered> {
    let Some((_, _, first)) = saved.first() else { return Ok(Names::default()) };
    let mut names = IndexMap::new();
    let numbered =
        |group: &&SavedGroup| group.params.iter().any(|key| matches!(key, Key::Number(_)));
    let named = |group: &SavedGroup| {
        let names = group.names.as_ref().filter(|names| names.len() == group.params.len())?;
        Some(names.iter().map(|name| bare(name, &mut false)).collect::<Vec<_>>())
    };
    if !first.groups.iter().any(|group| numbered(&group)) {
        for key in first.groups.iter().flat_map(|group| &group.params) {
            if let Key::Name(name) = key {
                names.insert(key.clone(), bare(name, &mut false));
            }
        }
        return Ok(Names { names, by_order: false });
    }
    let given: Option<Vec<Vec<String>>> = first.groups.iter().map(named).collect();
    let by_order = given.is_none() && model.shapes.len() > 1;
    let by_group = match given {
        Some(given) => given,
        None if model.order.is_none() => return Err(Numbered::Unordered),
        None => {
            let shape = |key: &Key| {
                let ranks = saved.iter().filter_map(|(_, _, saved)| saved.states.get(key));
                ranks.flat_map(IndexMap::values).find_map(|state| match state {
                    State::Tensor(held) => Some(held.shape.as_slice()),
                    State::Scalar(_) => None,
                })
            };
            let shapes: Vec<Vec<_>> =
                first.groups.iter().map(|group| group.params.iter().map(shape).collect()).collect();
            let params: Vec<(&str, &[u64])> = model
                .shapes
                .iter()
                .map(|(name, shape)| (name.as_str(), shape.as_slice()))
                .collect();
            let name = |place: usize| params.get(place).map(|(name, _)| (*name).to_owned());
            let places = assign(&params, &shapes)?.into_iter();
            places.map(|group| group.into_iter().filter_map(name).collect()).collect()
        }
    };
    for (group, given) in first.groups.iter().zip(by_group) {
        names.extend(group.params.iter().cloned().zip(given));
    }
    Ok(Names { names, by_order })
}

/// A group under names, with the steps of its parameters.
fn told(
    group: &SavedGroup,
    names: &IndexMap<Key, String>,
    scalars: &IndexMap<String, IndexMap<String, Json>>,
) -> Group {
    let params: Vec<String> =
        group.params.iter().filter_map(|key| names.get(key).cloned()).collect();
    let held: Vec<(&String, &Json)> =
        params.iter().filter_map(|param| Some((param, scalars.get(param)?.get(STEP)?))).collect();
    let usual = usual(held.iter().map(|(_, value)| *value));
    let differ = held.iter().filter(|(_, value)| Some(*value) != usual);
    let steps = differ.map(|(param, value)| ((*param).clone(), (*value).clone())).collect();
    let mut hyper = group.hyper.clone();
    for param in &params {
        for (state, value) in
            scalars.get(param).into_iter().flatten().filter(|(state, _)| *state != STEP)
        {
            hyper.entry(format!("state.{state}")).or_insert_with(|| value.clone());
        }
    }
    Group { hyper, step: usual.cloned(), steps, params, ..Group::default() }
}

/// A tensor and its copies, which have to be equal.
pub(crate) fn copies(name: &str, state: &str, role: Role, place: Place) -> Vec<Stored> {
    let several = place.copies.len() > 1;
    let one = |(number, data)| Stored {
        name: name.to_owned(),
        state: state.to_owned(),
        dtype: place.dtype,
        shape: place.shape.clone(),
        at: match several {
            true => Mesh::from_iter([("replica".to_owned(), number as u64)]),
            false => Mesh::new(),
        },
        role,
        data,
    };
    place.copies.into_iter().enumerate().map(one).collect()
}
