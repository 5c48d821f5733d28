//! What the files of all data ranks have to have in common.

use super::super::Rank;
use super::super::mesh::Step;
use super::super::model::{ModelFile, Shapes};
use super::first;
use crate::inventory::Problem;
use crate::ranks::{MIXED, Opened, count, name_of};
use std::collections::HashMap;

/// The shapes are those of the first data rank.
pub(super) fn shapes(step: &Step<'_>, problems: &mut Vec<Problem>) {
    let firsts: HashMap<u64, &Opened<ModelFile>> = first(step).collect();
    for ((mp, _), model) in step.models.iter().filter(|((_, dp), _): &&(Rank, _)| *dp > 0) {
        let Some(one) = firsts.get(mp) else { continue };
        let (ours, theirs) = (&one.content, &model.content);
        let trained = |model: &ModelFile| {
            let mut shapes = model.shapes.clone().unwrap_or_default();
            shapes.iter_mut().flatten().for_each(|param| of_all_ranks(model, param));
            shapes
        };
        let frozen = |model: &ModelFile| vec![model.frozen_shapes.clone()];
        let found = differ("param_shapes", &trained(ours), &trained(theirs))
            .or_else(|| differ("frozen_param_shapes", &frozen(ours), &frozen(theirs)));
        if let Some(found) = found {
            let message = format!("{found} in {}", name_of(&one.path));
            problems.push(Problem::new(&model.path, message).help(MIXED));
        }
    }
}

/// A stack of experts is compared as it is over all ranks, as each may have another number of them.
fn of_all_ranks(model: &ModelFile, (name, shape): &mut (String, Vec<u64>)) {
    let whole = model.stacked(name).and_then(|stack| stack.whole(name, shape, stack.here?).ok());
    if let Some((whole, _)) = whole {
        *shape = whole;
    }
}

/// The first difference of two lists of shapes, as far as the second is told.
fn differ(key: &str, ours: &[Shapes], theirs: &[Shapes]) -> Option<String> {
    if ours.len() != theirs.len() {
        let told = |shapes: &[Shapes]| count(shapes.len() as u64, "sub-group");
        return Some(format!("`{key}` has {}, {}", told(theirs), told(ours)));
    }
    ours.iter().zip(theirs).find_map(|(ours, theirs)| {
        let longest = ours.len().max(theirs.len());
        let at = (0..longest).find(|at| ours.get(*at) != theirs.get(*at))?;
        let told = |shape: Option<&(String, Vec<u64>)>| match shape {
            Some((name, shape)) => format!("`{name}` {shape:?}"),
            None => "nothing".to_owned(),
        };
        Some(format!("`{key}` has {}, {}", told(theirs.get(at)), told(ours.get(at))))
    })
}
