//! The optimizer's parameter groups: what all ranks agree on.

use super::agree::{MIXED, name_of};
use super::laid::Laid;
use super::open::Opened;
use super::shard::Shard;
use crate::inventory::{Group, Optimizer, Problem};
use indexmap::{IndexMap, IndexSet};
use serde_json::Value as Json;
use std::path::Path;

/// The key of the step, in a state or among the hyper-parameters.
const STEP: &str = "step";

type Shards = [((u64, u64), Opened<Shard>)];

/// Makes one optimizer out of all shards; nothing if there are none.
pub(super) fn optimizer(
    laid: &[Laid<'_>],
    shards: &Shards,
    name: &str,
    problems: &mut Vec<Problem>,
) -> Option<Optimizer> {
    let count = shards.iter().map(|(_, shard)| shard.content.groups.len()).max()?;
    let groups = (0..count).map(|index| group(laid, shards, index, problems)).collect();
    Some(Optimizer { name: Some(name.to_owned()), groups })
}

fn group(laid: &[Laid<'_>], shards: &Shards, index: usize, problems: &mut Vec<Problem>) -> Group {
    let ranks = shards.iter().filter_map(|(_, shard)| {
        Some((shard.path.as_path(), &shard.content.groups.get(index)?.hyper))
    });
    let mut hyper = same_hyper(ranks, index, problems);
    let scalars = scalars(shards, index, problems);
    let mut step = hyper.get(STEP).cloned();
    for (name, value) in scalars {
        if name == STEP {
            step = Some(value);
        } else {
            hyper.insert(format!("state.{name}"), value);
        }
    }
    let params = laid.iter().filter(|group| group.index == index).flat_map(|group| &group.params);
    let params: IndexSet<_> = params.map(|param| param.name.clone()).collect();
    Group { hyper, step, steps: IndexMap::new(), params: params.into_iter().collect() }
}

/// The hyper-parameters of the first rank; others have to have the same.
fn same_hyper<'a>(
    mut ranks: impl Iterator<Item = (&'a Path, &'a IndexMap<String, Json>)>,
    index: usize,
    problems: &mut Vec<Problem>,
) -> IndexMap<String, Json> {
    let Some((witness, usual)) = ranks.next() else { return IndexMap::new() };
    for (path, hyper) in ranks {
        let keys: IndexSet<_> = usual.keys().chain(hyper.keys()).collect();
        let other = keys.into_iter().find(|key| usual.get(*key) != hyper.get(*key));
        if let Some(key) = other {
            let text = |value: Option<&Json>| value.map_or("missing".to_owned(), Json::to_string);
            problems.push(
                Problem::new(
                    path,
                    format!(
                        "`{key}` of group {index} is {}, in {} it is {}",
                        text(hyper.get(key)),
                        name_of(witness),
                        text(usual.get(key))
                    ),
                )
                .help(MIXED),
            );
        }
    }
    usual.clone()
}

/// States that are one number, as most ranks have them; a rank with another has a file of another
/// step.
fn scalars(shards: &Shards, index: usize, problems: &mut Vec<Problem>) -> IndexMap<String, Json> {
    let mut by_name: IndexMap<&str, Vec<(&Path, &Json)>> = IndexMap::new();
    for (_, shard) in shards {
        for (name, value) in shard.content.groups.get(index).iter().flat_map(|part| &part.scalars) {
            by_name.entry(name).or_default().push((&shard.path, value));
        }
    }
    let mut scalars = IndexMap::new();
    for (name, held) in by_name {
        let times = |value: &Json| held.iter().filter(|(_, other)| *other == value).count();
        // The first of the most frequent: `max_by_key` would take the last.
        let Some((witness, usual)) = held.iter().rev().max_by_key(|(_, value)| times(value)) else {
            continue;
        };
        for (path, value) in held.iter().filter(|(_, value)| value != usual) {
            problems.push(
                Problem::new(
                    *path,
                    format!(
                        "`{name}` of group {index} is {value}, in {} it is {usual}: one of them is of \
                         another step",
                        name_of(witness)
                    ),
                )
                .help(MIXED),
            );
        }
        scalars.insert(name.to_owned(), (*usual).clone());
    }
    scalars
}
