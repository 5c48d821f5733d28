//! Sets of indices: what they are sets of, and what their conditions name.

use super::report::Report;
use super::{Chain, expr_names};
use crate::ast::{ModelItem, SetRule};
use ucl_ir::{Diagnostic, DimDef, Model, SetDef};

/// The sets that the model's own file declares.
pub(super) fn check(chain: &Chain<'_>, model: &Model, report: &mut Report) {
    let owner = format!("the model `{}`", model.name);
    let own = chain.own_first().next().and_then(|(file, _)| file.model.as_ref());
    for item in own.into_iter().flat_map(|model| &model.items) {
        let ModelItem::Set(set) = item else { continue };
        match model.dims.iter().find(|dim| dim.name == set.dim.value).map(|dim| &dim.def) {
            Some(DimDef::Atom(_)) => {}
            Some(DimDef::Composite(_)) => report.say(
                Diagnostic::new("ucl::set", format!("`{}` is no atom", set.dim.value))
                    .at(set.dim.span, "a name for other dims")
                    .help("a set is one of the indices of an atom, of `l` for layers"),
            ),
            None => {
                let known = model.dims.iter().map(|dim| dim.name.as_str());
                report.unknown(&owner, "dim", &set.dim, known);
            }
        }
        match &set.def {
            None => {}
            Some(SetRule::When(cond)) => {
                expr_names::check_cond(cond, &expr_names::of_model(model), &owner, report);
            }
            Some(SetRule::Not(other)) => match model.set(&other.value) {
                None => {
                    let known = model.sets.iter().map(|set| set.name.as_str());
                    report.unknown(&owner, "set", other, known);
                }
                Some(found) if found.dim != set.dim.value => report.say(
                    Diagnostic::new(
                        "ucl::set",
                        format!("`{}` is a set of `{}`", found.name, found.dim),
                    )
                    .at(other.span, format!("not of `{}`", set.dim.value))
                    .at(found.span, "declared here"),
                ),
                // One step deep, so that no set can be the rest of itself.
                Some(found) if matches!(found.def, SetDef::Not(_)) => report.say(
                    Diagnostic::new(
                        "ucl::set",
                        format!("`{}` is what is not in another set", found.name),
                    )
                    .at(other.span, "the rest of a rest")
                    .at(found.span, "declared here")
                    .help("behind `not` stands a set with a condition, or with nothing"),
                ),
                Some(_) => {}
            },
        }
    }
}
