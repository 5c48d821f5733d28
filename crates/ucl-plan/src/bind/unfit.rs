//! What a person is told where a shape has no numbers.

use super::lower::Unfit;
use ucl_ir::{Diagnostic, Rule};

/// The code of a mistake that only a number is missing for.
pub(crate) const UNKNOWN_SIZE: &str = "ucl::size";

/// What a person is told where a shape has no numbers.
pub(crate) fn unfit_diagnostic(unfit: &Unfit, rule: &Rule, place: &str) -> Diagnostic {
    match unfit {
        Unfit::Unknown { dims } => Diagnostic::new(
            UNKNOWN_SIZE,
            format!(
                "{place} is cut or reordered inside of dims that neither names nor shapes tell apart: {}",
                dims.iter().map(|dim| format!("`{dim}`")).collect::<Vec<_>>().join(", ")
            ),
        )
        .at(rule.span, "this equation needs them")
        .help(format!(
            "give the model's config with --config DIR, or one of them with --set {}=N; `--view stored` needs none",
            dims.first().map_or("k", String::as_str)
        )),
        Unfit::Runs { dim, extent, run, over } => Diagnostic::new(
            "ucl::fit",
            format!(
                "{place}: `{dim}` is {extent}, and over {} it is cut in runs of {run}, which do not add up to it",
                over.join(", ")
            ),
        )
        .at(rule.span, "this tensor is cut")
        .help("one rank alone fits"),
        Unfit::Divide { dim, extent, ranks, over } => Diagnostic::new(
            "ucl::fit",
            format!("{place}: `{dim}` is {extent} and does not divide by {ranks} ({})", over.join(", ")),
        )
        .at(rule.span, "this tensor is cut")
        .help(match divisors(*extent, 64) {
            fits if fits.is_empty() => "no number of ranks fits".to_owned(),
            fits => format!("these numbers of ranks fit: {}", fits.join(", ")),
        }),
    }
}

fn divisors(extent: u64, up_to: u64) -> Vec<String> {
    (1..=extent.min(up_to)).filter(|n| extent.is_multiple_of(*n)).map(|n| n.to_string()).collect()
}
