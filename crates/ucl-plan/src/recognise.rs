//! Which model and view a checkpoint is of, from names, shapes and documents alone.

use crate::bind::{Bound, Scope, UNKNOWN_SIZE, bind_identity, bind_program, claim};
use crate::target::{Naming, usable_view};
use std::collections::{BTreeMap, BTreeSet};
use ucl_formats::Inventory;
use ucl_formats::inventory::Framework;
use ucl_ir::{Diagnostic, Layout, Program, View};

/// What the user said about the source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// `--from-view`.
    pub view: Option<String>,
    /// The only model to try (`--spec`).
    pub model: Option<String>,
    /// `--set k=8`.
    pub set: BTreeMap<String, u64>,
}

/// Why a checkpoint could not be bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Several views fit and would move bytes differently: the user has to choose.
    Ambiguous {
        /// The model.
        model: String,
        /// The views.
        views: Vec<String>,
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

/// What was tried.
pub struct Recognition<'a> {
    /// What fits; related models' ancestors alone.
    pub fits: Vec<Fit<'a>>,
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
    let mut out = Recognition { fits: Vec::new(), near: Vec::new(), nearest: None };
    for program in programs {
        if said.model.as_ref().is_some_and(|model| *model != program.model.name) {
            continue;
        }
        if let Naming::View(name) = naming
            && usable_view(program, name).is_err()
        {
            continue;
        }
        for view in program.views.values().filter(|view| is_candidate(view, inventory, said)) {
            try_view(program, view, inventory, said, &mut out);
        }
    }
    let names: Vec<String> = out.fits.iter().map(|fit| fit.program.model.name.clone()).collect();
    out.fits.retain(|fit| !fit.program.model.ancestors.iter().any(|a| names.contains(a)));
    out
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
            Ok(bound) => {
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
    let framework = match inventory.framework {
        Framework::MegatronDeepSpeed => family("deepspeed"),
        Framework::DeepSpeed | Framework::HuggingFace => !family("megatron") && !family("mcore"),
        Framework::Files => true,
        Framework::Universal => {
            let own =
                inventory.universal.as_ref().is_some_and(|m| m.view == crate::universal::VIEW);
            own == (view.name == crate::universal::VIEW)
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
    let asked = said.view.is_some() || said.model.is_some();
    let cut = ["tp", "ep"].iter().any(|axis| inventory.mesh.get(*axis).is_some_and(|n| *n > 1));
    let needs_spec = cut || inventory.framework == Framework::MegatronDeepSpeed;
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
        0 => unrecognised(recognition, programs, inventory, said, naming),
        _ => Err(Refusal::Ambiguous {
            model: recognition.fits[0].program.model.name.clone(),
            views: recognition.fits.iter().map(|fit| fit.view.name.clone()).collect(),
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

fn unrecognised<'a>(
    recognition: Recognition<'a>,
    programs: &[Program],
    inventory: &'a Inventory,
    said: &Said,
    naming: &Naming,
) -> Result<Bound<'a>, Refusal> {
    if is_in_view_already(&recognition, inventory, naming) {
        let mut bound = bind_identity(inventory).map_err(Refusal::Wrong)?;
        bound.notes.push(
            "the names are the view's already; sizes that do not follow were not needed, and \
             whether parameters are missing was not checked"
                .to_owned(),
        );
        return Ok(bound);
    }
    if let Some(reasons) = closest(recognition.near, programs) {
        return Err(Refusal::Wrong(reasons));
    }
    let asked = said.view.is_some() || said.model.is_some() || matches!(naming, Naming::View(_));
    if !asked {
        return match bind_identity(inventory) {
            Ok(mut bound) => {
                bound.notes.push("no spec fits, so the names are the source's own".to_owned());
                Ok(bound)
            }
            Err(mut wrong) => {
                wrong.extend(nearest(recognition.nearest));
                Err(Refusal::Wrong(wrong))
            }
        };
    }
    let what = match naming {
        Naming::View(name) => format!("no model with a view `{name}` fits this checkpoint"),
        _ => "the named model and view do not fit this checkpoint".to_owned(),
    };
    let mut wrong = vec![Diagnostic::new("ucl::match", what).help(
        "`ucl specs` lists the built-in models and their views; --spec FILE.ucl names another",
    )];
    if recognition.nearest.is_none() {
        wrong.extend(unasked(programs, inventory, said));
    }
    wrong.extend(nearest(recognition.nearest));
    Err(Refusal::Wrong(wrong))
}

/// The reasons of what claims all names and fits best: sizes that contradict each other weigh more
/// than others, and a model that extends an equally good one is the closer of the two.
fn closest(
    near: Vec<(String, String, Vec<Diagnostic>)>,
    programs: &[Program],
) -> Option<Vec<Diagnostic>> {
    let weight = |reasons: &[Diagnostic]| {
        (reasons.iter().filter(|reason| reason.code == "ucl::bind").count(), reasons.len())
    };
    let extends = |model: &str, other: &String| {
        let program = programs.iter().find(|program| program.model.name == model);
        program.is_some_and(|program| program.model.ancestors.contains(other))
    };
    let best = near.into_iter().reduce(|best, next| {
        let (known, found) = (weight(&best.2), weight(&next.2));
        if found < known || (found == known && extends(&next.0, &best.0)) { next } else { best }
    });
    best.map(|(_, _, reasons)| reasons)
}

/// The views of the one model that was named, where the framework speaks against all of them.
fn unasked(programs: &[Program], inventory: &Inventory, said: &Said) -> Option<Diagnostic> {
    let model = said.model.as_ref().filter(|_| said.view.is_none())?;
    let program = programs.iter().find(|program| program.model.name == *model)?;
    let views = program.views.keys().filter(|view| *view != crate::universal::VIEW);
    let views: Vec<&str> = views.map(String::as_str).collect();
    let kind = &inventory.kind;
    let message = format!("no view of `{model}` is one of {kind}; it has: {}", views.join(", "));
    Some(Diagnostic::new("ucl::match", message).help("--from-view VIEW takes one of them as it is"))
}

/// Whether the source is spelled in the target's view, uncut, and only sizes of dims are unknown: then
/// every tensor stays as it is.
fn is_in_view_already(
    recognition: &Recognition<'_>,
    inventory: &Inventory,
    naming: &Naming,
) -> bool {
    let Naming::View(target) = naming else { return false };
    inventory.mesh.iter().all(|(axis, ranks)| *ranks == 1 || matches!(axis.as_str(), "dp" | "pp"))
        && recognition.near.iter().any(|(_, view, reasons)| {
            view == target && reasons.iter().all(|reason| reason.code == UNKNOWN_SIZE)
        })
}

fn nearest(nearest: Option<(String, String, Vec<String>)>) -> Option<Diagnostic> {
    let (model, view, unclaimed) = nearest?;
    let listed: Vec<String> = unclaimed.iter().take(5).map(|name| format!("{name:?}")).collect();
    Some(Diagnostic::new(
        "ucl::match",
        format!(
            "nearest is view `{view}` of `{model}`; it does not claim {} name{}: {}",
            unclaimed.len(),
            if unclaimed.len() == 1 { "" } else { "s" },
            listed.join(", ")
        ),
    ))
}
