//! Which model and view a checkpoint is of, from documents, names and shapes.

mod differ;
mod foreign;
mod refuse;
mod types;

pub use differ::{Difference, differences};
pub use foreign::{Foreign, foreign};
pub use types::Sure;

use crate::bind::{Bound, Scope, bind_identity, bind_program, claim};
use crate::target::{Naming, usable_view};
use std::collections::{BTreeMap, BTreeSet};
use ucl_formats::Inventory;
use ucl_formats::inventory::Framework;
use ucl_ir::{Diagnostic, Layout, Model, Program, View};

/// What the user said about the source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// `--from-view`.
    pub view: Option<String>,
    /// The only model to try (`--spec`).
    pub model: Option<String>,
    /// Whether the user named the specs to try.
    pub named: bool,
    /// `--set k=8`.
    pub set: BTreeMap<String, u64>,
}

/// Why a checkpoint could not be bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Several views fit and would move bytes differently: the user has to choose.
    Ambiguous {
        /// The models and views.
        fits: Vec<(String, String)>,
        /// The tensors that they read differently.
        differences: Vec<Difference>,
    },
    /// What is wrong.
    Wrong(Vec<Diagnostic>),
}

/// A model and view that fit.
pub struct Fit<'a> {
    /// The model.
    pub program: &'a Program,
    /// The view.
    pub view: &'a View,
    /// The checkpoint, bound by them.
    pub bound: Bound<'a>,
}

/// What might have been, and why it is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The model.
    pub model: String,
    /// The view.
    pub view: String,
    /// What speaks against it.
    pub why: String,
    /// The first of the sizes that disagree.
    pub detail: Option<String>,
}

/// What was tried.
#[derive(Default)]
pub struct Recognition<'a> {
    /// What fits; related models' ancestors alone.
    pub fits: Vec<Fit<'a>>,
    /// What fits, or claims all names at least, and is not among them.
    pub lost: Vec<Lost>,
    /// Models and views that fit and were not asked, because of the `model_type` of the config.
    pub aside: Vec<(String, String)>,
    /// As `near`, of those that were not asked.
    pub aside_near: Vec<(String, String, Vec<Diagnostic>)>,
    /// What claims all names but whose sizes do not fit, with the reasons.
    pub near: Vec<(String, String, Vec<Diagnostic>)>,
    /// The view that claims the most names without claiming all: model, view, how many it does not.
    pub nearest: Option<(String, String, Vec<String>)>,
}

/// Tries all models and views.
pub fn recognise<'a>(
    programs: &'a [Program],
    inventory: &'a Inventory,
    said: &Said,
    naming: &Naming,
) -> Recognition<'a> {
    let (mut out, mut aside) = (Recognition::default(), Recognition::default());
    for program in programs {
        let tried = types::is_tried(program, programs, inventory, said);
        if said.model.as_ref().is_some_and(|model| *model != program.model.name) {
            continue;
        }
        if let Naming::View(name) = naming
            && usable_view(program, name).is_err()
        {
            continue;
        }
        for view in program.views.values().filter(|view| is_candidate(view, inventory, said)) {
            let into = if tried { &mut out } else { &mut aside };
            try_view(program, view, inventory, said, into);
        }
    }
    if let Naming::View(name) = naming {
        spelled_alone(&mut out, name);
        spelled_alone(&mut aside, name);
    }
    for recognition in [&mut out, &mut aside] {
        keep_ancestors(recognition);
        keep_complete(recognition);
    }
    differ::drop_equal(&mut out.fits, &mut out.lost);
    for (model, view, reasons) in &out.near {
        out.lost.push(Lost {
            model: model.clone(),
            view: view.clone(),
            why: "claims all names, but not all sizes agree".to_owned(),
            detail: reasons.first().map(|reason| reason.message.clone()),
        });
    }
    out.aside_near = aside.near;
    // An extension of what fits says nothing more.
    let extends = |fit: &Fit<'_>| {
        out.fits.iter().any(|known| is_ancestor(&known.program.model, &fit.program.model))
    };
    aside.fits.retain(|fit| fit.bound.missing.is_empty() && !extends(fit));
    for fit in &aside.fits {
        let (model, view) = (fit.program.model.name.clone(), fit.view.name.clone());
        let why = format!("fits, but its types are {}", quoted(&fit.program.model.types));
        out.aside.push((model.clone(), view.clone()));
        out.lost.push(Lost { model, view, why, detail: None });
    }
    out
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}

/// Of related models that fit, the ancestor is meant: what it lacks nobody needs.
fn keep_ancestors(recognition: &mut Recognition<'_>) {
    let Recognition { fits, lost, .. } = recognition;
    let known: Vec<&Program> = fits.iter().map(|fit| fit.program).collect();
    fits.retain(|fit| {
        let older = known.iter().find(|older| is_ancestor(&older.model, &fit.program.model));
        let ancestor = older.map(|older| &older.model.name);
        lost.extend(ancestor.map(|ancestor| Lost {
            model: fit.program.model.name.clone(),
            view: fit.view.name.clone(),
            why: format!("an extension of {ancestor}, which fits already"),
            detail: None,
        }));
        ancestor.is_none()
    });
}

/// Whether a model extends another, or both are what one file makes of any model, here of two of which
/// one extends the other.
fn is_ancestor(older: &Model, model: &Model) -> bool {
    // `reward-llama` is `reward` of the first of its ancestors.
    let made = |model: &Model| {
        let of = model.ancestors.first()?;
        Some((model.name.strip_suffix(of)?.to_owned(), of.clone()))
    };
    let has = |name: &String| model.ancestors.contains(name);
    let alike = || match (made(older), made(model)) {
        (Some((by, of)), Some((by_it, of_it))) => by == by_it && of != of_it && has(&of),
        _ => false,
    };
    has(&older.name) || alike()
}

/// Of models that fit, one that has all its parameters is meant, not one that lacks some.
fn keep_complete(recognition: &mut Recognition<'_>) {
    let Recognition { fits, lost, .. } = recognition;
    let complete = fits.iter().find(|fit| fit.bound.missing.is_empty());
    let Some(complete) = complete.map(|fit| fit.program.model.name.clone()) else { return };
    fits.retain(|fit| {
        let lacking = fit.bound.missing.len();
        if lacking > 0 {
            lost.push(Lost {
                model: fit.program.model.name.clone(),
                view: fit.view.name.clone(),
                why: format!("lacks {lacking} of its parameters, and {complete} none"),
                detail: fit.bound.missing.first().cloned(),
            });
        }
        lacking == 0
    });
}

/// Leaves the models whose view spells everything that the checkpoint has: optional parameters may be
/// in no equation of it.
fn spelled_alone(out: &mut Recognition<'_>, name: &str) {
    for fit in std::mem::take(&mut out.fits) {
        let Some(view) = fit.program.views.get(name) else { continue };
        let spelled =
            |path: &str| view.rules.iter().any(|rule| rule.terms.iter().any(|t| t == path));
        let own = &fit.bound.params[..fit.bound.own_params];
        let params = own.iter().map(|param| param.path.as_str());
        let lacking: Vec<&str> = params.filter(|path| !spelled(path)).collect();
        if lacking.is_empty() {
            out.fits.push(fit);
            continue;
        }
        let model = &fit.program.model.name;
        let message = format!(
            "view `{name}` of `{model}` does not spell {}, which the checkpoint has",
            lacking.join(", ")
        );
        let reason = Diagnostic::new("ucl::cover", message).at(view.span, "no equation here");
        out.near.push((model.clone(), fit.view.name.clone(), vec![reason]));
    }
}

fn try_view<'a>(
    program: &'a Program,
    view: &'a View,
    inventory: &'a Inventory,
    said: &Said,
    out: &mut Recognition<'a>,
) {
    let claims = claim(view, inventory, true);
    if !claims.unclaimed.is_empty() {
        let fewer = out.nearest.as_ref().is_none_or(|known| claims.unclaimed.len() < known.2.len());
        if fewer && !claims.claimed.is_empty() {
            out.nearest = Some((program.model.name.clone(), view.name.clone(), claims.unclaimed));
        }
        return;
    }
    let layouts: Vec<Option<&Layout>> = match &view.layouts[..] {
        [] => vec![None],
        names => names.iter().map(|name| program.layouts.get(name)).collect(),
    };
    let mut reasons = Vec::new();
    for layout in layouts {
        match bind_program(program, view, layout, inventory, &said.set) {
            Ok(mut bound) => {
                bound.sure = Some(types::sure(program, inventory, said));
                out.fits.push(Fit { program, view, bound });
                return;
            }
            Err(wrong) => {
                if reasons.is_empty() {
                    reasons = wrong;
                }
            }
        }
    }
    out.near.push((program.model.name.clone(), view.name.clone(), reasons));
}

/// Whether the framework and the documents allow a view, or the user asks for it.
fn is_candidate(view: &View, inventory: &Inventory, said: &Said) -> bool {
    if let Some(name) = &said.view {
        return view.name == *name;
    }
    if !view.lacking.is_empty() {
        return false;
    }
    let family = |name: &str| view.name == name || view.ancestors.iter().any(|a| a == name);
    let sharded = family("torch-dist") || family("torch-dist-numbered") || family("fsdp-dtensor");
    // Its names are also those of one rank's file.
    let numbered = family("torch-dist-numbered") || family("fsdp-dtensor");
    let framework = match inventory.framework {
        // Others train on its engine and its pipelines, under names of their own.
        Framework::MegatronDeepSpeed => {
            family("deepspeed") || !(family("megatron") || family("mcore"))
        }
        Framework::Megatron => {
            (family("megatron") || family("mcore")) && !sharded && !family("deepspeed")
        }
        Framework::MegatronDist => sharded && !family("fsdp-dtensor"),
        Framework::MegatronFsdp => family("fsdp-dtensor"),
        Framework::DeepSpeed | Framework::HuggingFace | Framework::TorchDistributed => {
            !family("megatron") && !family("mcore")
        }
        Framework::Files => !numbered,
        Framework::Universal => {
            let made = inventory.universal.as_ref().map_or("", |manifest| &manifest.view);
            let numbered = numbered && made != view.name;
            !numbered && (made == crate::universal::VIEW) == (view.name == crate::universal::VIEW)
        }
    };
    framework
        && view.when.as_ref().is_none_or(|when| {
            let document =
                inventory.documents.get("args").or_else(|| inventory.documents.get("config"));
            Scope { numbers: &|_| None, document }.holds(when)
        })
}

/// Binds a checkpoint to the one model and view that it is of.
///
/// # Errors
/// Nothing fits, or several do; see [`Refusal`].
pub fn bind<'a>(
    programs: &'a [Program],
    inventory: &'a Inventory,
    said: &Said,
    naming: &Naming,
) -> Result<Bound<'a>, Refusal> {
    let unknown = unknown_dims(programs, said);
    if !unknown.is_empty() {
        return Err(Refusal::Wrong(unknown));
    }
    let asked = said.view.is_some() || said.named;
    let over = |axis: &str| inventory.mesh.get(axis).is_some_and(|ranks| *ranks > 1);
    let cut = over("tp") || over("ep");
    // Megatron's stages count their layers from 0 each.
    let local = inventory.framework == Framework::Megatron && (over("pp") || over("vpp"));
    let needs_spec = cut || local || inventory.framework == Framework::MegatronDeepSpeed;
    if *naming == Naming::Stored && !asked && !needs_spec {
        return bind_identity(inventory).map_err(Refusal::Wrong);
    }
    let mut recognition = recognise(programs, inventory, said, naming);
    // A view that others extend is the plain reading; `stored` keeps fused tensors as they are, so it
    // needs no other.
    if *naming == Naming::Stored && recognition.fits.len() > 1 {
        let views: Vec<String> = recognition.fits.iter().map(|fit| fit.view.name.clone()).collect();
        recognition.fits.retain(|fit| !fit.view.ancestors.iter().any(|a| views.contains(a)));
        recognition.fits.truncate(1);
    }
    match recognition.fits.len() {
        1 => Ok(recognition.fits.remove(0).bound),
        0 => refuse::unrecognised(recognition, programs, inventory, said, naming),
        _ => Err(Refusal::Ambiguous {
            fits: recognition
                .fits
                .iter()
                .map(|fit| (fit.program.model.name.clone(), fit.view.name.clone()))
                .collect(),
            differences: differences(&recognition.fits),
        }),
    }
}

/// Dims of `--set` that no model has.
fn unknown_dims(programs: &[Program], said: &Said) -> Vec<Diagnostic> {
    let tried = |program: &&Program| said.model.as_ref().is_none_or(|m| *m == program.model.name);
    let tried: Vec<&Program> = programs.iter().filter(tried).collect();
    let has = |program: &Program, name: &str| {
        program.model.dims.iter().any(|dim| dim.name == name)
            || program.model.params.iter().any(|param| param.path == name)
            || program.model.bindings.iter().any(|binding| binding.name == name)
            || program.views.values().any(|view| {
                view.composites.contains_key(name)
                    || view.bindings.iter().any(|binding| binding.name == name)
            })
    };
    let unknown = said.set.keys().filter(|name| !tried.iter().any(|program| has(program, name)));
    let names: BTreeSet<&str> =
        tried.iter().flat_map(|program| &program.model.dims).map(|dim| dim.name.as_str()).collect();
    let names: Vec<&str> = names.into_iter().collect();
    unknown
        .map(|name| {
            Diagnostic::new("ucl::usage", format!("--set {name}: no model has such a dim"))
                .help(format!("there are: {}", names.join(", ")))
        })
        .collect()
}
