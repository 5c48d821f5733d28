//! Where nothing fits: the source's own names if that loses nothing, else why not.

use super::{Recognition, Refusal, Said, recognise, types};
use crate::bind::{Bound, UNKNOWN_SIZE, bind_identity};
use crate::target::{Naming, usable_view};
use ucl_formats::Inventory;
use ucl_ir::{Diagnostic, Program};

pub(super) fn unrecognised<'a>(
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
    let unlisted = match recognition.aside.is_empty() && tries_some(programs, inventory, said) {
        true => None,
        false => types::unlisted(programs, inventory, &recognition.aside),
    };
    let asked = said.view.is_some() || said.named || matches!(naming, Naming::View(_));
    let listed = types::is_listed(programs, inventory);
    // Why the model that the config means does not fit is worth more than what else would.
    let is_near = listed && !recognition.near.is_empty();
    if !recognition.aside.is_empty() && !is_near {
        let own = bind_identity(inventory).ok().filter(|_| !asked);
        return match own {
            Some(mut bound) => {
                bound.notes.extend(own_names(unlisted));
                Ok(bound)
            }
            None => Err(Refusal::Wrong(unlisted.into_iter().map(unlisted_diagnostic).collect())),
        };
    }
    if !listed
        && !recognition.aside_near.is_empty()
        && let Some((message, _)) = unlisted
    {
        let disagree = none_agrees(message, &recognition);
        if let Some(mut bound) = bind_identity(inventory).ok().filter(|_| !asked) {
            bound.notes.push(format!("{}, so the names are the source's own", disagree.message));
            bound.notes.extend(disagree.help);
            return Ok(bound);
        }
        return Err(Refusal::Wrong(vec![disagree]));
    }
    if let Some(reasons) = closest(recognition.near, programs) {
        return Err(Refusal::Wrong(reasons));
    }
    if !asked {
        return match bind_identity(inventory) {
            Ok(mut bound) => {
                bound.notes.extend(own_names(unlisted));
                // A family that the config names is told what keeps it from being that.
                let told = nearest(recognition.nearest).filter(|_| listed);
                bound.notes.extend(told.map(|near| near.message));
                Ok(bound)
            }
            Err(mut wrong) => {
                wrong.extend(unlisted.map(unlisted_diagnostic));
                wrong.extend(nearest(recognition.nearest));
                Err(Refusal::Wrong(wrong))
            }
        };
    }
    if let Naming::View(name) = naming
        && let Some(fit) = recognise(programs, inventory, said, &Naming::Universal).fits.first()
        && let Err(lacks) = usable_view(fit.program, name)
    {
        return Err(Refusal::Wrong(lacks));
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

/// Why the names are not a model's.
fn own_names(unlisted: Option<(String, Option<String>)>) -> Vec<String> {
    let Some((message, help)) = unlisted else {
        return vec!["no spec fits, so the names are the source's own".to_owned()];
    };
    let message = format!("{message}, so the names are the source's own");
    std::iter::once(message).chain(help).collect()
}

fn unlisted_diagnostic((message, help): (String, Option<String>)) -> Diagnostic {
    Diagnostic::new("ucl::match", message)
        .help(help.unwrap_or_else(|| "--spec FILE.ucl names a spec of your own".to_owned()))
}

/// No spec lists the type, and the sizes of all that claim the names disagree.
fn none_agrees(message: String, recognition: &Recognition<'_>) -> Diagnostic {
    let mut models: Vec<&str> = Vec::new();
    for (model, _, _) in recognition.aside_near.iter().chain(&recognition.near) {
        if !models.contains(&model.as_str()) {
            models.push(model);
        }
    }
    let listed: Vec<String> = models.iter().map(|model| format!("`{model}`")).collect();
    let verb = if models.len() == 1 { "claims" } else { "claim" };
    Diagnostic::new("ucl::match", message).help(format!(
        "{} {verb} all its names, but not all sizes agree; `--spec` with one of them shows which do not",
        listed.join(", ")
    ))
}

/// Whether the config's `model_type` leaves any model that lists types.
fn tries_some(programs: &[Program], inventory: &Inventory, said: &Said) -> bool {
    programs.iter().any(|program| {
        !program.model.types.is_empty() && types::is_tried(program, programs, inventory, said)
    })
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
