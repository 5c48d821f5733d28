//! The optimizer's parameter groups: what all ranks agree on.

use super::Rank;
use super::shard::Shard;
use crate::inventory::{Group, Optimizer, Problem};
use crate::ranks::{MIXED, Opened, name_of, usual};
use indexmap::{IndexMap, IndexSet};
use serde_json::Value as Json;
use std::path::Path;

/// The key of the step, in a state or among the hyper-parameters.
const STEP: &str = "step";

type Shards = [(Rank, Opened<Shard>)];

/// Makes one optimizer out of all shards; nothing if there are none. `params_of` names what is in a
/// buffer, over all `mp` ranks.
pub(super) fn optimizer(
    params_of: &dyn Fn(usize) -> IndexSet<String>,
    shards: &Shards,
    name: &str,
    problems: &mut Vec<Problem>,
) -> Option<Optimizer> {
    let most = |count: fn(&Shard) -> usize| shards.iter().map(|(_, s)| count(&s.content)).max();
    // Elastic states have no groups of their own: each buffer is one.
    let count = match most(|shard| shard.params.len())? {
        0 => most(|shard| shard.groups.len())?,
        count => count,
    };
    let groups = (0..count).map(|index| group(params_of, shards, index, problems)).collect();
    Some(Optimizer { name: Some(name.to_owned()), groups, ..Optimizer::default() })
}

fn group(
    params_of: &dyn Fn(usize) -> IndexSet<String>,
    shards: &Shards,
    index: usize,
    problems: &mut Vec<Problem>,
) -> Group {
    let known = || shards.iter().filter_map(|(_, s)| Some((s, s.content.params.get(index)?)));
    let ranks = known().map(|(shard, group)| (shard.path.as_path(), &group.hyper));
    let mut hyper = same_hyper(ranks, index, problems);
    let buffers = known().next().map_or_else(|| vec![index], |(_, group)| group.buffers.clone());
    for (shard, group) in known().filter(|(_, group)| group.buffers != buffers) {
        let (theirs, ours) = (&group.buffers, &buffers);
        let message =
            format!("group {index} has the buffers {theirs:?}, in other data ranks {ours:?}");
        problems.push(Problem::new(&shard.path, message).help(MIXED));
    }
    let mut group = Group { step: hyper.get(STEP).cloned(), ..Group::default() };
    for (number, buffer) in buffers.into_iter().enumerate() {
        let names = params_of(buffer);
        for (name, value) in scalars(shards, buffer, problems) {
            if name != STEP {
                let known = hyper.entry(format!("state.{name}")).or_insert_with(|| value.clone());
                if *known != value {
                    hyper.insert(format!("state.{name}.{buffer}"), value);
                }
            } else if number == 0 {
                group.step = Some(value);
            } else if group.step.as_ref() != Some(&value) {
                group.steps.extend(names.iter().map(|name| (name.clone(), value.clone())));
            }
        }
        group.params.extend(names);
    }
    Group { hyper, ..group }
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
fn scalars(shards: &Shards, buffer: usize, problems: &mut Vec<Problem>) -> IndexMap<String, Json> {
    let mut by_name: IndexMap<&str, Vec<(&Path, &Json)>> = IndexMap::new();
    for (_, shard) in shards {
        for (name, value) in shard.content.groups.get(buffer).iter().flat_map(|part| &part.scalars)
        {
            by_name.entry(name).or_default().push((&shard.path, value));
        }
    }
    let mut scalars = IndexMap::new();
    for (name, held) in by_name {
        let Some(usual) = usual(held.iter().map(|(_, value)| *value)) else { continue };
        let Some((witness, _)) = held.iter().find(|(_, value)| *value == usual) else { continue };
        for (path, value) in held.iter().filter(|(_, value)| *value != usual) {
            problems.push(
                Problem::new(
                    *path,
                    format!(
                        "`{name}` of group {buffer} is {value}, in {} it is {usual}: one of them is of \
                         another step",
                        name_of(witness)
                    ),
                )
                .help(MIXED),
            );
        }
        scalars.insert(name.to_owned(), usual.clone());
    }
    scalars
}
