//! Cover: every parameter in exactly one rule, so that a view can be inverted.

use super::{Known, is_own, title};
use crate::resolve::list;
use ucl_ir::{Diagnostic, Program, View};

pub(super) fn check(program: &Program, view: &View, known: &Known, found: &mut Vec<Diagnostic>) {
    for param in &program.model.params {
        let mut rules = view.rules.iter().filter(|rule| rule.terms.contains(&param.path));
        if let (Some(first), Some(second)) = (rules.next(), rules.next()) {
            found.push(
                Diagnostic::new(
                    "ucl::cover",
                    format!(
                        "in the view `{}`, `{}` is stored twice: in {} and in {}",
                        view.name,
                        param.path,
                        title(first),
                        title(second)
                    ),
                )
                .at(second.span, "again here")
                .at(first.span, "first here")
                .help(
                    "take one line out; two names of the same tensor are written `\"a\" or \"b\"`",
                ),
            );
        }
    }
    for rule in &view.rules {
        let twice = rule.terms.iter().enumerate().find(|(n, term)| rule.terms[..*n].contains(term));
        if let Some((_, term)) = twice {
            found.push(
                Diagnostic::new("ucl::cover", format!("{} holds `{term}` twice", title(rule)))
                    .at(rule.span, "each parameter stands once"),
            );
        }
    }
    let family = std::iter::once(&view.name).chain(&view.ancestors);
    let broken = family.into_iter().any(|name| known.views.contains(name));
    // A line that cannot store what it spells is told of itself.
    let told = found.iter().any(|mistake| mistake.code == "ucl::set");
    // Without any line it is a name for those that extend it.
    let extended = || program.views.values().any(|other| other.ancestors.contains(&view.name));
    let is_family = view.rules.is_empty() && extended();
    if !view.lacking.is_empty() && is_own(view) && !broken && !told && !is_family {
        found.push(
            Diagnostic::new(
                "ucl::cover",
                format!(
                    "the view `{}` has no equation for {} of `{}`",
                    view.name,
                    list(&view.lacking),
                    program.model.name
                ),
            )
            .at(view.span, "does not cover the model")
            .help(format!(
                "add {}; a checkpoint may lack only parameters marked with `?`",
                if view.lacking.len() == 1 { "an equation for it" } else { "equations for them" }
            )),
        );
    }
}

/// Why an inherited view does not exist for a model; nothing if it does.
pub fn absent(program: &Program, view: &View) -> Option<Diagnostic> {
    if view.lacking.is_empty() {
        return None;
    }
    let there: Vec<String> = program
        .views
        .values()
        .filter(|other| other.lacking.is_empty())
        .map(|other| other.name.clone())
        .collect();
    Some(
        Diagnostic::new(
            "ucl::cover",
            format!(
                "the view `{}` does not exist for the model `{}`: it has no equation for {}",
                view.name,
                program.model.name,
                list(&view.lacking)
            ),
        )
        .at(view.span, "inherited from here")
        .help(match there.is_empty() {
            true => "this model has no view at all".to_owned(),
            false => format!("views of `{}`: {}", program.model.name, list(&there)),
        }),
    )
}
