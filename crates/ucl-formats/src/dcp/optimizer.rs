//! The optimizer of a distributed checkpoint: its states by parameter, its groups.

use super::folder::Sharded;
use super::tree::{Part, Tree};
use crate::inventory::{Group, Optimizer, Problem, SourceFile};
use crate::named::bare;
use crate::ranks::usual;
use crate::torch::json;
use indexmap::IndexMap;
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// The key of the step.
const STEP: &str = "step";

/// The key of a group's parameters.
const PARAMS: &str = "params";

/// What was collected of all optimizers of a folder.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// Hyper-parameters by number: `param_groups.0.lr`.
    numbered: BTreeMap<(usize, u64), IndexMap<String, Json>>,
    /// Hyper-parameters by parameter: `param_groups.model.norm.weight.lr`.
    by_param: IndexMap<String, IndexMap<String, Json>>,
    /// Single numbers of parameters: `step`.
    scalars: IndexMap<String, IndexMap<String, Json>>,
}

impl Groups {
    /// Takes in a number that a parameter has: its step.
    pub(super) fn scalar(&mut self, param: &str, state: &str, value: Json) {
        self.scalars.entry(param.to_owned()).or_default().insert(state.to_owned(), value);
    }

    /// Takes in what the group of a parameter has: all of it, or a value under a key.
    fn of_param(&mut self, name: &str, value: Json) {
        let (param, hyper) = match value {
            Json::Object(hyper) => (name, hyper),
            value => {
                let (param, key) = name.rsplit_once('.').unwrap_or((name, ""));
                (param, std::iter::once((key.to_owned(), value)).collect())
            }
        };
        self.by_param.entry(bare(param, &mut false)).or_default().extend(hyper);
    }

    /// Takes in an entry of `param_groups`.
    pub(super) fn entry(&mut self, optimizer: usize, rest: &str, value: Json) {
        let (group, key) = rest.rsplit_once('.').unwrap_or((rest, ""));
        match (group.parse::<u64>(), value) {
            (Ok(number), value) => {
                self.numbered.entry((optimizer, number)).or_default().insert(key.to_owned(), value);
            }
            // All groups as one list.
            (Err(_), Json::Array(groups)) if rest.is_empty() => {
                for (number, group) in groups.into_iter().enumerate() {
                    let Json::Object(group) = group else { continue };
                    let place = self.numbered.entry((optimizer, number as u64)).or_default();
                    place.extend(group);
                }
            }
            (Err(_), value) => {
                let param = bare(group, &mut false);
                self.by_param.entry(param).or_default().insert(key.to_owned(), value);
            }
        }
    }

    /// The numbers that groups call their parameters by, in order; empty where they have names.
    pub(super) fn numbers(&self) -> Vec<Vec<u64>> {
        let of_group = |group: &IndexMap<String, Json>| -> Vec<u64> {
            let listed = group.get(PARAMS).and_then(Json::as_array);
            listed.into_iter().flatten().filter_map(Json::as_u64).collect()
        };
        self.numbered.values().map(of_group).collect()
    }

    /// The optimizer, or nothing if the folder has none. `names` calls numbered parameters by name.
    pub(super) fn optimizer(
        self,
        names: &BTreeMap<u64, String>,
        trained: &[String],
    ) -> Option<Optimizer> {
        let scalars = self.scalars;
        let mut groups: Vec<Group> = Vec::new();
        for (_, mut hyper) in self.numbered {
            let params = hyper.shift_remove(PARAMS);
            let params = params.as_ref().and_then(Json::as_array).into_iter().flatten();
            let name = |param: &Json| match param {
                Json::String(name) => Some(bare(name, &mut false)),
                number => names.get(&number.as_u64()?).cloned(),
            };
            groups.push(Group {
                hyper,
                params: params.filter_map(name).collect(),
                ..Group::default()
            });
        }
        for (param, mut hyper) in self.by_param {
            // Fused optimizers count their steps once for a group.
            let step = hyper.shift_remove(STEP);
            match groups.iter_mut().find(|group| group.hyper == hyper && group.step == step) {
                Some(group) => group.params.push(param),
                None => {
                    groups.push(Group { hyper, step, params: vec![param], ..Group::default() });
                }
            }
        }
        if groups.is_empty() && !scalars.is_empty() {
            groups.push(Group { params: trained.to_vec(), ..Group::default() });
        }
        for group in &mut groups {
            numbers_of(group, &scalars);
        }
        (!groups.is_empty()).then_some(Optimizer { name: None, groups, ..Optimizer::default() })
    }
}

/// The step of a group's parameters, and those of single ones where they differ; other numbers are
/// told under `state.` if they are the same for all.
fn numbers_of(group: &mut Group, scalars: &IndexMap<String, IndexMap<String, Json>>) {
    let mut by_state: IndexMap<&str, Vec<(&str, &Json)>> = IndexMap::new();
    for param in &group.params {
        for (state, value) in scalars.get(param).into_iter().flatten() {
            by_state.entry(state).or_default().push((param, value));
        }
    }
    let mut steps = IndexMap::new();
    let mut hyper = Vec::new();
    for (state, values) in by_state {
        let Some(usual) = usual(values.iter().map(|(_, value)| *value)) else { continue };
        let differ = values.iter().filter(|(_, value)| *value != usual);
        if state == STEP {
            steps.extend(differ.map(|(param, value)| ((*param).to_owned(), (*value).clone())));
            group.step = Some(usual.clone());
        } else {
            hyper.push((format!("state.{state}"), usual.clone()));
            hyper.extend(
                differ.map(|(param, value)| (format!("state.{param}.{state}"), (*value).clone())),
            );
        }
    }
    group.steps = steps;
    group.hyper.extend(hyper);
}

/// Reads the objects of the groups.
pub(super) fn groups(
    folder: &Sharded,
    tree: &Tree,
    files: &[SourceFile],
    groups: &mut Groups,
    problems: &mut Vec<Problem>,
) {
    // What can't be read of a file that is known to be missing or damaged is no news.
    let known: BTreeSet<PathBuf> = problems.iter().map(|problem| problem.file.clone()).collect();
    let sound = folder.objects.iter().filter(|(_, object)| !known.contains(&object.path));
    for (name, object) in sound {
        match tree.part(folder, name) {
            Part::Group(optimizer, rest) => match object.open() {
                Ok(file) => groups.entry(optimizer, rest, json::json(&file, file.value.root())),
                Err(problem) => problems.push(problem),
            },
            Part::GroupOf(param) => match object.open() {
                Ok(file) => groups.of_param(param, json::json(&file, file.value.root())),
                Err(problem) => problems.push(problem),
            },
            // A step that is a plain number.
            Part::State(_, param, state) => match object.open() {
                Ok(file) => groups.scalar(
                    &bare(param, &mut false),
                    state,
                    json::json(&file, file.value.root()),
                ),
                Err(problem) => problems.push(problem),
            },
            Part::Model(_) | Part::Other => {}
        }
    }
    for name in folder.tensors.keys() {
        if let Part::Group(optimizer, rest) = tree.part(folder, name)
            && let Some(value) = folder.scalar(name, files)
        {
            groups.entry(optimizer, rest, value);
        }
    }
}
