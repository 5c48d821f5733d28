//! Composite dims: what they name, and that they lead to atoms.

use crate::ast;
use indexmap::IndexMap;
use std::collections::HashSet;
use ucl_ir::{Diagnostic, Dim, DimDef, Span, Sum};

/// The dim `name` is part of itself.
pub(super) fn cycle(name: &str, span: Span) -> Diagnostic {
    Diagnostic::new("ucl::cycle", format!("the dim `{name}` is part of itself"))
        .at(span, "declared here")
        .help("what stands on the right of `=` has to lead to atoms")
}

/// Whether a composite leads back to itself.
pub(super) fn has_cycle(composites: &IndexMap<String, Sum>, name: &str) -> bool {
    fn reaches<'a>(
        composites: &'a IndexMap<String, Sum>,
        sum: &'a Sum,
        name: &str,
        seen: &mut HashSet<&'a str>,
    ) -> bool {
        sum.alternatives.iter().flatten().any(|factor| match factor {
            ucl_ir::Factor::One => false,
            ucl_ir::Factor::Group(sum) => reaches(composites, sum, name, seen),
            ucl_ir::Factor::Name(other) => {
                other == name
                    || (seen.insert(other)
                        && composites
                            .get(other)
                            .is_some_and(|sum| reaches(composites, sum, name, seen)))
            }
        })
    }
    let seen = &mut HashSet::new();
    composites.get(name).is_some_and(|sum| reaches(composites, sum, name, seen))
}

/// The names in a sum, with their places.
pub(super) fn names_in(sum: &ast::Sum) -> Vec<(&str, Span)> {
    names_of(sum.alternatives.iter().flatten())
}

/// The names in factors, with their places.
pub(super) fn names_of<'a>(
    factors: impl IntoIterator<Item = &'a ast::Factor>,
) -> Vec<(&'a str, Span)> {
    let names = factors.into_iter().flat_map(|factor| match &factor.kind {
        ast::FactorKind::One => Vec::new(),
        ast::FactorKind::Name(name) => vec![(name.as_str(), factor.span)],
        ast::FactorKind::Group(sum) => names_in(sum),
    });
    names.collect()
}

pub(super) fn composites(dims: &IndexMap<String, Dim>) -> IndexMap<String, Sum> {
    let composites = dims.values().filter_map(|dim| match &dim.def {
        DimDef::Composite(sum) => Some((dim.name.clone(), sum.clone())),
        DimDef::Atom(_) => None,
    });
    composites.collect()
}
