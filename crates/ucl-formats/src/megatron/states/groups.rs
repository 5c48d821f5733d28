//! The optimizer's groups: those of all ranks that are of one kind are one.

use super::PartGroup;
use crate::inventory::{Group, Optimizer, Problem};
use crate::ranks::{MIXED, count, usual};
use indexmap::{IndexMap, IndexSet};
use serde_json::Value as Json;
use std::path::Path;

/// The key of the step, among states or hyper-parameters.
const STEP: &str = "step";

/// A group of a rank, with the names of its parameters.
pub(super) struct Known<'a> {
    pub(super) path: &'a Path,
    pub(super) group: &'a PartGroup,
    pub(super) names: Vec<&'a str>,
}

/// What tells groups apart: a stage may lack some of them.
type Kind = (Vec<Option<Json>>, usize);

/// Makes one optimizer of all ranks' groups; nothing if there are none.
pub(super) fn optimizer(known: &[Known<'_>], problems: &mut Vec<Problem>) -> Option<Optimizer> {
    let mut by_kind: IndexMap<Kind, Vec<&Known<'_>>> = IndexMap::new();
    let mut seen: IndexMap<(&Path, Vec<Option<Json>>), usize> = IndexMap::new();
    for one in known {
        let kind = kind(&one.group.hyper);
        let times = seen.entry((one.path, kind.clone())).or_insert(0);
        by_kind.entry((kind, *times)).or_default().push(one);
        *times += 1;
    }
    let groups: Vec<Group> = by_kind.into_values().map(|ranks| merged(&ranks, problems)).collect();
    let name = "Megatron-LM's".to_owned();
    (!groups.is_empty()).then(|| Optimizer { name: Some(name), groups, ..Optimizer::default() })
}

fn kind(hyper: &IndexMap<String, Json>) -> Vec<Option<Json>> {
    let keys = ["is_expert_parallel", "wd_mult", "lr_mult", "is_decoupled_lr"];
    let mut kind: Vec<Option<Json>> = keys.iter().map(|key| hyper.get(*key).cloned()).collect();
    if kind[1].is_none() {
        let decay = hyper.get("weight_decay").and_then(Json::as_f64);
        kind[1] = decay.map(|decay| Json::from(decay != 0.0));
    }
    kind
}

fn merged(ranks: &[&Known<'_>], problems: &mut Vec<Problem>) -> Group {
    let mut group = Group::default();
    let Some(first) = ranks.first() else { return group };
    group.hyper = first.group.hyper.clone();
    for rank in &ranks[1..] {
        let hyper = &rank.group.hyper;
        let keys: IndexSet<&String> = group.hyper.keys().chain(hyper.keys()).collect();
        if let Some(key) = keys.into_iter().find(|key| group.hyper.get(*key) != hyper.get(*key)) {
            let text = |value: Option<&Json>| value.map_or("missing".to_owned(), Json::to_string);
            let message = format!(
                "`{key}` of a group is {}, in {} it is {}",
                text(hyper.get(key)),
                first.path.display(),
                text(group.hyper.get(key))
            );
            problems.push(Problem::new(rank.path, message).help(MIXED));
        }
    }
    let names: IndexSet<&str> = ranks.iter().flat_map(|rank| rank.names.iter().copied()).collect();
    group.params = names.into_iter().map(str::to_owned).collect();
    group.step = group.hyper.shift_remove(STEP);
    scalars(ranks, &mut group, problems);
    group
}

/// States that are one number, as most parameters have them. A step may differ, other numbers may not.
fn scalars(ranks: &[&Known<'_>], group: &mut Group, problems: &mut Vec<Problem>) {
    let mut by_name: IndexMap<&str, Vec<(&Path, &str, &Json)>> = IndexMap::new();
    for rank in ranks {
        for (slot, name) in rank.group.slots.iter().zip(&rank.names) {
            for (state, value) in &slot.scalars {
                by_name.entry(state).or_default().push((rank.path, name, value));
            }
        }
    }
    for (state, held) in by_name {
        let Some(usual) = usual(held.iter().map(|(.., value)| *value)).cloned() else { continue };
        let others = held.iter().filter(|(.., value)| **value != usual);
        if state == STEP {
            let steps = others.map(|(_, name, value)| ((*name).to_owned(), (*value).clone()));
            group.steps = steps.collect();
            group.step = Some(usual);
            continue;
        }
        let others: Vec<_> = others.collect();
        if let Some((path, name, value)) = others.first() {
            let message = format!(
                "`{state}` of {} differs: {value} of `{name}`, {usual} of most",
                count(others.len() as u64, "parameter")
            );
            problems.push(Problem::new(*path, message));
        }
        group.hyper.insert(format!("state.{state}"), usual);
    }
}
