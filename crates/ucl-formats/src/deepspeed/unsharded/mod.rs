//! The optimizer of a run without ZeRO: every data rank has all of it, in the model file.
//!
//! Its states are numbered over the groups. Newer releases of torch may keep names with them; else
//! the order of the module's parameters tells, see [`assign`].

mod read;

pub(super) use read::Whole;

use super::Rank;
use super::experts::{self, Expert, Experts};
use super::mesh::Degrees;
use super::model::ModelFile;
use crate::inventory::{
    Data, FileId, Group, Inventory, Mesh, Optimizer, Problem, Role, Run, Stored,
};
use crate::optimizer::{BY_ORDER, Numbered, assign};
use crate::ranks::{Opened, count};
use crate::torch::TensorExtent;
use indexmap::{IndexMap, IndexSet};
use read::{Held, WholeGroup};
use std::collections::HashSet;
use std::path::Path;

/// A parameter that may be numbered: its name over all ranks, and its shape.
pub(super) type Candidate = (String, Vec<u64>);

/// An optimizer with what it may be of.
pub(super) struct Source<'a> {
    pub(super) path: &'a Path,
    pub(super) file: FileId,
    pub(super) whole: &'a Whole,
    /// The module's parameters in its order; nothing if another file has their states.
    pub(super) module: Option<Vec<Candidate>>,
    /// Likewise those of the experts of this rank.
    pub(super) experts: Option<Vec<Candidate>>,
    pub(super) at: Mesh,
}

/// Puts the states of all sources into the inventory, and tells the groups.
pub(super) fn collect(
    sources: &[Source<'_>],
    inventory: &mut Inventory,
    problems: &mut Vec<Problem>,
) -> Option<Optimizer> {
    let mut found: IndexMap<String, Vec<Stored>> =
        IndexMap::from([("fp32".to_owned(), Vec::new())]);
    let mut groups: Vec<Group> = Vec::new();
    let mut by_order = false;
    for source in sources {
        for (experts, candidates) in [(false, &source.module), (true, &source.experts)] {
            let Some(candidates) = candidates else { continue };
            let chosen = source.whole.groups.iter().enumerate();
            let chosen: Vec<_> =
                chosen.filter(|(_, group)| group.of_experts() == experts).collect();
            let named =
                match names(&chosen, candidates) {
                    Ok(named) => named,
                    Err(message) => {
                        problems.push(Problem::new(source.path, message).help(
                            "Train one step with ZeRO stage 1 and save: that names the states.",
                        ));
                        continue;
                    }
                };
            for ((index, group), params) in chosen.iter().zip(named) {
                by_order |= group.names.is_none() && candidates.len() > 1;
                if groups.len() <= *index {
                    groups.resize_with(index + 1, Group::default);
                }
                tell(&mut groups[*index], group, &params);
                store(source, group, &params, &mut found, problems);
            }
        }
    }
    if by_order {
        inventory.notes.push(BY_ORDER.to_owned());
    }
    let trained: HashSet<&str> =
        groups.iter().flat_map(|group| &group.params).map(String::as_str).collect();
    inventory.freeze(|name| !trained.contains(name));
    inventory.tensors.extend(found.into_values().flatten());
    (!sources.is_empty()).then(|| Optimizer {
        name: Some("without ZeRO".to_owned()),
        groups,
        ..Optimizer::default()
    })
}

/// The parameters of each group.
fn names(
    groups: &[(usize, &WholeGroup)],
    candidates: &[Candidate],
) -> Result<Vec<Vec<Candidate>>, String> {
    let by_name: IndexMap<&str, &Candidate> =
        candidates.iter().map(|candidate| (candidate.0.as_str(), candidate)).collect();
    let recorded = |group: &WholeGroup| -> Option<Vec<Candidate>> {
        let names = group.names.as_ref()?;
        let found = names.iter().map(|name| by_name.get(name.as_str()).map(|c| (*c).clone()));
        found
            .collect::<Option<Vec<_>>>()
            .filter(|_| group.flat.is_some() || names.len() == group.params.len())
    };
    if let Some(all) = groups.iter().map(|(_, group)| recorded(group)).collect::<Option<Vec<_>>>() {
        return Ok(all);
    }
    if groups.iter().any(|(_, group)| group.flat.is_some()) {
        return match groups {
            // One buffer of everything; its length is compared when it is cut.
            [_] => Ok(vec![candidates.to_vec()]),
            _ => Err(
                "`optimizer` keeps each group end to end and does not say which parameters it has"
                    .to_owned(),
            ),
        };
    }
    let params: Vec<(&str, &[u64])> =
        candidates.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())).collect();
    let wanted: Vec<Vec<Option<&[u64]>>> =
        groups.iter().map(|(_, group)| group.params.iter().map(Held::shape).collect()).collect();
    let places = assign(&params, &wanted).map_err(|error| {
        let (params, groups) =
            (wanted.iter().map(Vec::len).sum::<usize>() as u64, groups.len() as u64);
        let what = format!(
            "`optimizer` numbers its states, for {} in {}, and does not name them",
            count(params, "parameter"),
            count(groups, "group")
        );
        let module = count(candidates.len() as u64, "parameter");
        match error {
            Numbered::Ambiguous => {
                format!("{what}: by their shapes they may be of several of the module's {module}")
            }
            Numbered::Unlike(_) | Numbered::Unordered => {
                format!("{what}: their shapes are not those of the module's {module}, in order")
            }
        }
    })?;
    let of = |places: Vec<usize>| {
        places.into_iter().filter_map(|p| candidates.get(p).cloned()).collect()
    };
    Ok(places.into_iter().map(of).collect())
}

/// What a group says, and the names of its parameters.
fn tell(told: &mut Group, group: &WholeGroup, params: &[Candidate]) {
    let mut hyper = group.hyper.clone();
    if let Some(step) = hyper.get("step") {
        told.step = Some(step.clone());
    }
    let held = |at: usize| group.flat.as_ref().or_else(|| group.params.get(at));
    for (at, (name, _)) in params.iter().enumerate() {
        told.params.push(name.clone());
        for (key, value) in held(at).iter().flat_map(|held| &held.scalars) {
            if key != "step" {
                hyper.insert(format!("state.{key}"), value.clone());
            } else if told.step.as_ref().is_none_or(|step| step == value) {
                told.step = Some(value.clone());
            } else {
                told.steps.insert(name.clone(), value.clone());
            }
        }
    }
    told.hyper = hyper;
}

fn store(
    source: &Source<'_>,
    group: &WholeGroup,
    params: &[Candidate],
    found: &mut IndexMap<String, Vec<Stored>>,
    problems: &mut Vec<Problem>,
) {
    let mut push = |state: &str, dtype, param: &Candidate, data| {
        found.entry(state.to_owned()).or_default().push(Stored {
            name: param.0.clone(),
            state: state.to_owned(),
            dtype,
            shape: param.1.clone(),
            at: source.at.clone(),
            role: Role::Trained,
            data,
        });
    };
    if let Some(flat) = &group.flat {
        for (state, extent) in &flat.tensors {
            match cut(extent, params, source.file) {
                Ok(runs) => {
                    for (param, run) in params.iter().zip(runs) {
                        push(state, extent.dtype, param, Data::Runs(vec![run]));
                    }
                }
                Err(message) => {
                    problems.push(Problem::new(
                        source.path,
                        format!("`{state}` of `optimizer` {message}"),
                    ));
                }
            }
        }
        return;
    }
    for (param, held) in params.iter().zip(&group.params) {
        for (state, extent) in &held.tensors {
            if extent.shape != param.1 {
                problems.push(Problem::new(
                    source.path,
                    format!(
                        "`{state}` of `{}` has the shape {:?}, the weight {:?}",
                        param.0, extent.shape, param.1
                    ),
                ));
                continue;
            }
            let data = Data::Strided {
                file: source.file,
                offset: extent.file_offset,
                strides: extent.strides.clone(),
            };
            push(state, extent.dtype, param, data);
        }
    }
}

/// The parameters' parts of a flat state.
fn cut(extent: &TensorExtent, params: &[Candidate], file: FileId) -> Result<Vec<Run>, String> {
    let numel = |shape: &[u64]| shape.iter().fold(1u64, |n, size| n.saturating_mul(*size));
    let total = params.iter().fold(0u64, |total, (_, shape)| total.saturating_add(numel(shape)));
    if extent.shape.len() != 1 || !extent.is_contiguous() || extent.numel != total {
        return Err(format!(
            "has the shape {:?}, the module's parameters have {total} elements",
            extent.shape
        ));
    }
    let mut offset = extent.file_offset;
    let runs = params.iter().map(|(_, shape)| {
        let run = Run { start: 0, len: numel(shape), file, offset };
        offset += run.len * extent.dtype.size_bytes();
        run
    });
    Ok(runs.collect())
}

/// The optimizers of a step: one in each model file, and for experts one of each expert rank.
pub(super) fn sources<'a>(
    models: &'a [(Rank, Opened<ModelFile>)],
    optimizers: &'a [(Rank, Opened<Option<Whole>>)],
    files: &[experts::Read],
    known: &Experts,
    degrees: Degrees,
    problems: &mut Vec<Problem>,
) -> Vec<Source<'a>> {
    let mut found = Vec::new();
    for ((mp, _), model) in models {
        let Some(whole) = &model.content.optimizer else { continue };
        found.push(Source {
            path: &model.path,
            file: model.file,
            whole,
            module: Some(candidates(model)),
            experts: None,
            at: degrees.at(*mp),
        });
        let of_rank = || optimizers.iter().filter(|((other, _), _)| other == mp);
        let there = of_rank().count() as u64;
        let ranks = whole.expert_ranks().unwrap_or(there);
        if ranks != there {
            let message = format!(
                "experts are spread over {}, and {there} of their optimizers \
                 (`expp_rank_*_mp_rank_{mp:02}_optim_states.pt`) are here",
                count(ranks, "rank")
            );
            problems.push(
                Problem::new(&model.path, message).help(
                    "Copy every rank's files into one folder; each node may have kept its own.",
                ),
            );
            continue;
        }
        for ((_, rank), opened) in of_rank() {
            let Some(whole) = &opened.content else { continue };
            let of_this = files.iter().filter(|(file, read)| {
                let mixture = read.content.weights.iter().find_map(|w| Expert::one(&w.name));
                let all = mixture.and_then(|expert| known.count(expert.mixture));
                let each = all.map_or(0, |all| all / ranks.max(1)).max(1);
                file.mp == *mp && file.expert / each == *rank
            });
            let weights = of_this.flat_map(|(_, read)| &read.content.weights);
            let experts = weights.map(|w| (w.name.clone(), w.extent.shape.clone())).collect();
            found.push(Source {
                path: &opened.path,
                file: opened.file,
                whole,
                module: None,
                experts: Some(experts),
                at: known.at(*mp, degrees),
            });
        }
    }
    found
}

/// The module's parameters of a model file: no buffers, and each storage once.
fn candidates(model: &Opened<ModelFile>) -> Vec<Candidate> {
    let content = &model.content;
    let mut storages = IndexSet::new();
    let known = content.weights.iter().filter(|weight| {
        let extent = &weight.extent;
        !content.buffers.contains(&weight.name)
            && (extent.numel == 0
                || storages.insert((extent.file_offset, &extent.shape, &extent.strides)))
    });
    known.map(|weight| (weight.name.clone(), weight.extent.shape.clone())).collect()
}
