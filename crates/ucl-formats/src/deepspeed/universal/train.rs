//! The optimizer's groups and steps.

use super::super::laid::in_turn;
use super::super::model::ModelFile;
use super::Rank;
use super::entry::{Content, Entries};
use crate::inventory::{Group, Optimizer, Problem};
use crate::ranks::Opened;
use indexmap::{IndexMap, IndexSet};
use serde_json::Value as Json;

/// The groups with the parameters that the model files list for each. From stage 3 a group is several
/// lists, one for each of its sub-groups.
pub(super) fn optimizer(
    models: &[(Rank, Opened<ModelFile>)],
    entries: &Entries,
    problems: &mut Vec<Problem>,
) -> Option<Optimizer> {
    let path = entries.optimizer.as_ref()?;
    let lists = models.iter().filter_map(|(_, model)| Some(model.content.shapes.as_ref()?.len()));
    let lists = lists.max().unwrap_or(0);
    let parts: usize = entries.groups.iter().map(|group| group.1).sum();
    let one_each = lists == entries.groups.len();
    if !one_each && lists > 0 && parts != lists {
        problems.push(Problem::new(
            path,
            format!(
                "it has {} groups, the model files list the parameters of {lists}",
                entries.groups.len()
            ),
        ));
        return None;
    }
    let mut next = 0;
    let mut groups = Vec::new();
    for (hyper, parts) in &entries.groups {
        let parts = if one_each { 1 } else { *parts };
        let range = next..next + parts;
        next += parts;
        let mut params: IndexSet<String> = IndexSet::new();
        for model in models.iter().map(|(_, model)| &model.content) {
            let Some(shapes) = &model.shapes else { continue };
            let own = shapes.get(range.start.min(shapes.len())..range.end.min(shapes.len()));
            let ranks = model.dp.and_then(|dp| usize::try_from(dp).ok()).unwrap_or(1);
            for list in own.into_iter().flatten() {
                let names = list.iter().map(|(name, _)| name.clone()).collect();
                params.extend(in_turn(names, model, ranks));
            }
        }
        if lists == 0 && entries.groups.len() == 1 {
            params.extend(entries.params.keys().cloned());
        }
        groups.push(group(hyper.clone(), params.into_iter().collect(), entries));
    }
    Some(Optimizer { name: None, groups, ..Optimizer::default() })
}

fn group(hyper: IndexMap<String, Json>, params: Vec<String>, entries: &Entries) -> Group {
    let own = hyper.get("step").cloned();
    let of = |name: &String| match &entries.params.get(name)?.get("step")?.content {
        Content::Scalar(step) => Some(step.clone()),
        Content::Tensor { .. } => None,
    };
    let steps: IndexMap<String, Json> =
        params.iter().filter_map(|name| Some((name.clone(), of(name)?))).collect();
    let step = steps.values().next().cloned().or(own).or_else(|| entries.step.clone());
    let differ = steps.into_iter().filter(|(_, other)| Some(other) != step.as_ref());
    let steps: IndexMap<String, Json> = differ.collect();
    Group { hyper, step, steps, params, ..Group::default() }
}
