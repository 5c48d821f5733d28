//! Round trips: what a view stores on a mesh comes out as the universal form, and as every other view.

use super::code::{first, same, told, value};
use super::memory::{Memory, Tensors, Way};
use super::run::run;
use crate::bind::{Bound, Composites, Sizes, bind_program, exists, is_weight};
use crate::params::{Param, every};
use crate::plan::Plan;
use crate::shard::Shards;
use crate::target::{Naming, States, Target};
use crate::universal::{VIEW, with_universal_view};
use crate::work::Work;
use std::collections::{BTreeMap, BTreeSet};
use ucl_formats::inventory::Framework;
use ucl_formats::{Format, Inventory};
use ucl_ir::{Diagnostic, Mesh, Program, View};

/// Optional parameters by path.
type Optionals = BTreeSet<String>;

/// How many differences a message lists.
const LISTED: usize = 3;

/// Reads what `way` stores, with and without the optional parameters, and writes it as everything else.
/// Gives the number of views it went to.
///
/// # Errors
/// What does not come out as it is.
pub(super) fn round_trip(way: Way<'_>) -> Result<usize, Vec<Diagnostic>> {
    let full = optionals(way.program, way.view, way.set);
    let mut kinds: BTreeMap<Optionals, Vec<&View>> = BTreeMap::new();
    kinds.entry(Optionals::new()).or_default();
    kinds.entry(full.clone()).or_default();
    for view in usable(way.program).filter(|view| view.name != way.view.name) {
        let shared = optionals(way.program, view, way.set).intersection(&full).cloned().collect();
        kinds.entry(shared).or_default().push(view);
    }
    let mut reached = 0;
    for (optionals, views) in kinds {
        let set = with(way.set, &optionals);
        let way = Way { set: &set, ..way };
        let memory = Memory::new(way)?;
        let (plan, made) = converted(way, &memory, &Naming::Universal)?;
        compare(way, &plan.bound.params, &made, &universal(way.program, &memory.shards))?;
        for view in views {
            to_view(way, &memory, view)?;
            reached += 1;
        }
    }
    Ok(reached)
}

/// Writes the universal form as every view, so that a way over it is the straight way.
///
/// # Errors
/// What differs from what the view itself stores.
pub(super) fn from_universal(way: Way<'_>) -> Result<usize, Vec<Diagnostic>> {
    let mut reached = 0;
    for view in usable(way.program) {
        let set = with(way.set, &optionals(way.program, view, way.set));
        let way = Way { view, set: &set, ..way };
        let stored = Memory::new(way)?;
        let (plan, made) = converted(way, &stored, &Naming::Universal)?;
        let folder = folder(&plan, made);
        let programs = with_universal_view(vec![way.program.clone()], &folder.inventory);
        let Some(program) = programs.first() else { continue };
        let read = Way { program, view: &program.views[VIEW], ..way };
        let (plan, made) = converted(read, &folder, &Naming::View(view.name.clone()))?;
        let expected = whole(way, view)?;
        compare(way, &plan.bound.params, &made, &expected)
            .map_err(|wrong| said(wrong, &format!("the universal form as `{}`", view.name)))?;
        reached += 1;
    }
    Ok(reached)
}

fn to_view(way: Way<'_>, memory: &Memory, view: &View) -> Result<(), Vec<Diagnostic>> {
    let (plan, made) = converted(way, memory, &Naming::View(view.name.clone()))?;
    let expected = whole(way, view)?;
    compare(way, &plan.bound.params, &made, &expected)
        .map_err(|wrong| said(wrong, &format!("as `{}`", view.name)))
}

/// Every view that spells the whole model, but for the one made for universal folders.
pub(super) fn usable(program: &Program) -> impl Iterator<Item = &View> {
    program.views.values().filter(|view| view.lacking.is_empty() && view.name != VIEW)
}

/// The optional parameters that a view spells and the sizes of a test suffice for.
pub(super) fn optionals(program: &Program, view: &View, set: &BTreeMap<String, u64>) -> Optionals {
    let composites = Composites::new(&program.model, None);
    let (sizes, _) = Sizes::said(program, set);
    let sized = |param: &ucl_ir::Param| {
        let mut dims = param.each.iter().chain(&param.dims);
        dims.all(|dim| sizes.value(&composites.atoms(dim)).is_some())
    };
    let spelled =
        |path: &String| view.rules.iter().any(|rule| rule.terms.iter().any(|term| term == path));
    let optional = program.model.params.iter().filter(|param| param.optional && sized(param));
    optional.map(|param| param.path.clone()).filter(spelled).collect()
}

/// The numbers of a test, and that these optional parameters are there.
pub(super) fn with(set: &BTreeMap<String, u64>, there: &Optionals) -> BTreeMap<String, u64> {
    let there = there.iter().map(|path| (path.clone(), 1));
    set.iter().map(|(name, size)| (name.clone(), *size)).chain(there).collect()
}

/// Binds what is in memory, plans and runs.
fn converted<'m>(
    way: Way<'m>,
    memory: &'m Memory,
    naming: &Naming,
) -> Result<(Plan<'m>, Tensors), Vec<Diagnostic>> {
    let mut set = way.set.clone();
    set.retain(|name, _| way.program.model.params.iter().all(|param| param.path != *name));
    set.insert("tied".to_owned(), u64::from(way.tied));
    let bound: Bound<'m> =
        bind_program(way.program, way.view, way.layout, &memory.inventory, &set)?;
    if bound.tied != way.tied {
        let state = if bound.tied { "tied" } else { "untied" };
        return Err(vec![Diagnostic::new("ucl::trial", format!("it is read as {state}"))]);
    }
    let target = Target {
        stages: Vec::new(),
        mesh: Mesh::new(),
        format: Format::Universal,
        naming: naming.clone(),
        dtype: None,
        states: States::All,
        max_file_bytes: u64::MAX,
    };
    let plan = Plan::new(bound, target)?;
    let made = run(&plan, &memory.files)
        .map_err(|wrong| vec![Diagnostic::new("ucl::trial", wrong).at(way.view.span, "as read")])?;
    Ok((plan, made))
}

/// What a view stores where nothing is cut or padded.
fn whole(way: Way<'_>, view: &View) -> Result<Tensors, Vec<Diagnostic>> {
    let mesh = Mesh::new();
    let memory = Memory::new(Way { view, layout: None, mesh: &mesh, ..way })?;
    Ok(written(memory.tensors()))
}

/// Of a master and its copy the master is written.
fn written(mut tensors: Tensors) -> Tensors {
    tensors.retain(|(_, state), _| state != "param");
    tensors
}

/// The universal form of a model: every element's own number.
fn universal(program: &Program, shards: &Shards) -> Tensors {
    let mut tensors = Tensors::new();
    for param in &shards.params {
        let Some(declared) = program.model.param(&param.path) else { continue };
        let extents: Vec<u64> = param.dims[..param.each].iter().map(|dim| dim.extent).collect();
        let rest: u64 = param.dims[param.each..].iter().map(|dim| dim.extent).product();
        for (block, indices) in (0u64..).zip(every(&extents)) {
            let index = |dim: &str| {
                let at = param.dims.iter().position(|known| known.name == dim)?;
                indices.get(at).copied()
            };
            if !exists(program, &shards.sets, declared, index) {
                continue;
            }
            for state in super::code::STATES.into_iter().filter(|state| *state != "param") {
                let start = first(program, &param.path, state) + block * rest;
                let cells = (start..start + rest).map(value);
                tensors.insert((param.name(&indices), state.to_owned()), cells.collect());
            }
        }
    }
    tensors
}

/// A universal folder in memory, as the plan that made it describes it.
fn folder(plan: &Plan<'_>, made: Tensors) -> Memory {
    let digests = vec![String::new(); plan.tensors().len()];
    let inventory = Inventory {
        framework: Framework::Universal,
        universal: Some(plan.manifest(&digests, None, Vec::new())),
        ..Inventory::default()
    };
    let mut memory = Memory { inventory, files: Vec::new(), shards: Shards::default() };
    let mut made = made;
    for tensor in plan.tensors() {
        let key = (tensor.name.clone(), tensor.state.clone());
        let cells = made.remove(&key).unwrap_or_default();
        memory.add(&key.0, &key.1, &tensor.shape, Mesh::new(), cells);
    }
    memory
}

/// Compares every number.
fn compare(
    way: Way<'_>,
    params: &[Param],
    made: &Tensors,
    expected: &Tensors,
) -> Result<(), Vec<Diagnostic>> {
    let mut wrong: Vec<String> = Vec::new();
    for ((name, state), cells) in expected {
        let Some(found) = made.get(&(name.clone(), state.clone())) else {
            wrong.push(format!("\"{name}\" ({state}) is not made"));
            continue;
        };
        if found.len() != cells.len() {
            wrong.push(format!(
                "\"{name}\" ({state}) has {} elements, not {}",
                found.len(),
                cells.len()
            ));
            continue;
        }
        let differs = found.iter().zip(cells).position(|(found, cell)| !same(*found, *cell));
        if let Some(at) = differs {
            let tell = |cell: f64| told(way.program, params, cell);
            let what = if is_weight(state) { String::new() } else { format!(" ({state})") };
            wrong.push(format!(
                "\"{name}\"{what}: element {at} is {}, not {}",
                tell(found[at]),
                tell(cells[at])
            ));
        }
    }
    let surplus = made.keys().filter(|key| !expected.contains_key(*key));
    wrong.extend(surplus.map(|(name, state)| format!("\"{name}\" ({state}) is made too")));
    if wrong.is_empty() {
        return Ok(());
    }
    let more = wrong.len().saturating_sub(LISTED);
    wrong.truncate(LISTED);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    let text = format!("{}{more}", wrong.join("; "));
    Err(vec![Diagnostic::new("ucl::trial", text).at(way.view.span, "this view")])
}

/// Says where it happened.
fn said(wrong: Vec<Diagnostic>, place: &str) -> Vec<Diagnostic> {
    let name = |mut one: Diagnostic| {
        one.message = format!("{place}: {}", one.message);
        one
    };
    wrong.into_iter().map(name).collect()
}
