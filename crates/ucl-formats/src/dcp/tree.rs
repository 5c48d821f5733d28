//! Which entries are a model's and which an optimizer's, by the keys that lead to them.
//!
//! A script puts both anywhere in a tree of dicts: `{"model": …, "optim": …}`, `{"app": {"model": …}}`,
//! the model's names at the top. An optimizer is known by `state` and `param_groups` side by side, the
//! model by holding the parameters that the optimizer names.

use super::folder::Sharded;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Where a model and its optimizers are in a tree of names. Prefixes end with a dot or are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tree {
    /// What comes before the names of the model's tensors; `None` if there is no model.
    pub(super) model: Option<String>,
    /// What comes before `state.` and `param_groups.`.
    pub(super) optimizers: Vec<String>,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// A tensor or object of the model, by its name there.
    Model(&'a str),
    /// A state of a parameter: the optimizer, the parameter, the state.
    State(usize, &'a str, &'a str),
    /// Something of an optimizer's groups: the optimizer, and the rest of the name.
    Group(usize, &'a str),
    /// What the group of a parameter has: Megatron-core's FSDP keeps a dict for each.
    GroupOf(&'a str),
    /// Anything else.
    Other,
}

const STATE: &str = "state.";
const GROUPS: &str = "param_groups";
const GROUP_OF: &str = "param_to_group_meta.";

/// What people call an optimizer's dict, where nothing else says that it is one.
const OPTIMIZERS: [&str; 8] = [
    "optim",
    "optimizer",
    "optimizers",
    "optim_state",
    "optimizer_state",
    "optim_state_dict",
    "optimizer_state_dict",
    "osd",
];

/// What people call a model's dict.
const MODELS: [&str; 7] =
    ["model", "module", "state_dict", "model_state_dict", "model_state", "net", "network"];

impl Tree {
    /// Finds the trees of a folder.
    pub(super) fn of(folder: &Sharded) -> Tree {
        let names: Vec<&str> =
            folder.tensors.keys().chain(folder.objects.keys()).map(String::as_str).collect();
        let optimizers = optimizers(&names);
        let mut tree = Tree { model: None, optimizers };
        let rest: Vec<&str> = folder
            .tensors
            .keys()
            .map(String::as_str)
            .filter(|name| tree.of_optimizer(name).is_none())
            .collect();
        let params: BTreeSet<&str> = names
            .iter()
            .filter_map(|name| match tree.of_optimizer(name)? {
                Part::State(_, param, _) => Some(param),
                _ => None,
            })
            .collect();
        tree.model = model(folder, &rest, &params);
        tree
    }

    /// What an entry is.
    pub(super) fn part<'a>(&self, folder: &Sharded, name: &'a str) -> Part<'a> {
        if let Some(part) = self.of_optimizer(name) {
            return part;
        }
        let Some(prefix) = &self.model else { return Part::Other };
        match name.strip_prefix(prefix.as_str()) {
            // At the top there are other dicts beside the model's names.
            Some(_)
                if prefix.is_empty()
                    && folder.paths.get(name).is_some_and(|keys| keys.len() > 1) =>
            {
                Part::Other
            }
            Some(name) => Part::Model(name),
            None => Part::Other,
        }
    }

    fn of_optimizer<'a>(&self, name: &'a str) -> Option<Part<'a>> {
        for (index, prefix) in self.optimizers.iter().enumerate() {
            let Some(rest) = name.strip_prefix(prefix.as_str()) else { continue };
            if let Some(param) = rest.strip_prefix(GROUP_OF) {
                return Some(Part::GroupOf(param));
            }
            if let Some(rest) = rest.strip_prefix(GROUPS) {
                return Some(Part::Group(index, rest.strip_prefix('.').unwrap_or(rest)));
            }
            if let Some((param, state)) =
                rest.strip_prefix(STATE).and_then(|rest| rest.rsplit_once('.'))
            {
                return Some(Part::State(index, param, state));
            }
        }
        None
    }
}

/// What stands before a word that begins the name or follows a dot, everywhere in the name.
fn before<'a>(name: &'a str, word: &'a str) -> impl Iterator<Item = &'a str> {
    name.match_indices(word)
        .map(|(at, _)| &name[..at])
        .filter(|prefix| prefix.is_empty() || prefix.ends_with('.'))
}

fn last_key(prefix: &str) -> &str {
    let whole = prefix.strip_suffix('.').unwrap_or(prefix);
    whole.rsplit('.').find(|key| key.parse::<u64>().is_err()).unwrap_or(whole)
}

fn optimizers(names: &[&str]) -> Vec<String> {
    let mut found: BTreeSet<&str> = BTreeSet::new();
    for name in names {
        found.extend(before(name, GROUPS).next());
        let called = |prefix: &&str| OPTIMIZERS.contains(&last_key(prefix));
        found.extend(before(name, STATE).find(called));
    }
    // One below another is a parameter's name.
    let inner = |one: &&str| {
        found.iter().any(|other| other != one && one.starts_with(&format!("{other}{STATE}")))
    };
    found.iter().filter(|one| !inner(one)).map(|one| (*one).to_owned()).collect()
}

/// The prefix of the model's names among tensors that are no optimizer's.
fn model(folder: &Sharded, names: &[&str], params: &BTreeSet<&str>) -> Option<String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut known: HashMap<&str, String> = HashMap::new();
    for name in names {
        let keys = folder.keys(name);
        let leaf = keys.last().copied().unwrap_or_default();
        let prefix = name.strip_suffix(leaf).unwrap_or_default().to_owned();
        *counts.entry(prefix.clone()).or_default() += 1;
        known.insert(name, prefix);
    }
    // A folder without recorded keys says where the model is by the optimizer's names alone.
    if folder.paths.is_empty() {
        let first = params.iter().find(|param| param.parse::<u64>().is_err());
        let ends = first.and_then(|param| {
            names.iter().filter_map(|name| name.strip_suffix(*param)).min_by_key(|p| p.len())
        });
        return (!names.is_empty()).then(|| ends.unwrap_or_default().to_owned());
    }
    let held = |prefix: &str| {
        let of_prefix = names.iter().filter(|name| known.get(**name).is_some_and(|p| p == prefix));
        of_prefix.filter(|name| params.contains(&name[prefix.len()..])).count()
    };
    let named = |prefix: &str| MODELS.contains(&last_key(prefix));
    // A nested dict of modules has a prefix for each: the shortest that begins all of them is meant.
    let best = counts.iter().max_by_key(|(prefix, count)| {
        (held(prefix), named(prefix), **count, std::cmp::Reverse(prefix.len()))
    })?;
    let shorter =
        counts.keys().filter(|prefix| named(prefix) && best.0.starts_with(prefix.as_str()));
    Some(shorter.min_by_key(|prefix| prefix.len()).unwrap_or(best.0).clone())
}
