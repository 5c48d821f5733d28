//! Padded extents, and what a layout requires of the mesh.

use super::cut::Cuts;
use super::facts::scope_numbers;
use super::number::Scope;
use super::size::{Composites, Equation, Sizes};
use std::collections::BTreeMap;
use ucl_ir::{Diagnostic, Layout, Program};

/// Padded extents follow from shapes; true extents from what says so.
pub(super) fn paddings(
    cuts: Cuts<'_>,
    sizes: Sizes,
    equations: &[Equation],
    wrong: &mut Vec<Diagnostic>,
) -> (Sizes, BTreeMap<String, u64>, Vec<String>) {
    let mut padded = BTreeMap::new();
    let mut notes = Vec::new();
    let mut facts = equations.to_vec();
    for pad in cuts.layout.map_or(&[][..], |layout| &layout.pads) {
        let Some(stored) = sizes.atom(&format!("{}+", pad.dim)) else { continue };
        padded.insert(pad.dim.clone(), stored);
        match sizes.atom(&pad.dim) {
            Some(true_size) if true_size > stored => wrong.push(
                Diagnostic::new(
                    "ucl::bind",
                    format!("`{}` is {true_size}, but only {stored} are stored", pad.dim),
                )
                .at(pad.span, "padded here")
                .help(format!("check --set {}= and the config", pad.dim)),
            ),
            Some(_) => {}
            None => {
                notes.push(format!(
                    "the true size of `{}` is not recorded: all {stored} stored rows are kept; \
                     --set {}=N cuts the padding off",
                    pad.dim, pad.dim
                ));
                facts.push(Equation {
                    sum: vec![(1, vec![pad.dim.clone()])],
                    value: stored,
                    source: "the stored rows".into(),
                    span: Some(pad.span),
                });
            }
        }
    }
    let sizes = if notes.is_empty() { sizes } else { Sizes::solve(&facts).0 };
    (sizes, padded, notes)
}

/// What a layout requires of the mesh.
pub(super) fn obligations(
    layout: Option<&Layout>,
    sizes: &Sizes,
    program: &Program,
    set: &BTreeMap<String, u64>,
    cuts: Cuts<'_>,
) -> Vec<Diagnostic> {
    let composites = Composites::new(&program.model, None);
    let mesh = scope_numbers(set, cuts);
    let numbers = |name: &str| {
        mesh(name)
            .or_else(|| sizes.value(&composites.atoms(name)).and_then(|n| i64::try_from(n).ok()))
    };
    let scope = Scope { numbers: &numbers, document: None };
    layout
        .into_iter()
        .flat_map(|layout| &layout.requires)
        .filter(|(cond, _)| !scope.holds(cond))
        .map(|(_, span)| {
            let mesh: Vec<String> =
                cuts.mesh.iter().map(|(axis, n)| format!("{axis}={n}")).collect();
            let dims: Vec<String> = program
                .model
                .dims
                .iter()
                .filter_map(|dim| Some(format!("{}={}", dim.name, numbers(&dim.name)?)))
                .collect();
            Diagnostic::new(
                "ucl::fit",
                format!("the mesh {} does not fit {}", mesh.join(" "), dims.join(" ")),
            )
            .at(*span, "this has to hold")
        })
        .collect()
}
