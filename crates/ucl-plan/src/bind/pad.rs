//! Padded extents.

use super::cut::Cuts;
use super::size::{Equation, Sizes};
use std::collections::BTreeMap;
use ucl_ir::Diagnostic;

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
