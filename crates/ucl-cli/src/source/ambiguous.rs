//! Views that read the same bytes differently.

use crate::session::Session;
use crate::show;
use ucl_ir::Diagnostic;
use ucl_load::Failure;
use ucl_plan::Difference;

/// Several views fit: where they differ, and the lines to type.
pub(super) fn ambiguous(
    fits: &[(String, String)],
    differences: &[Difference],
    session: &Session<'_, '_>,
) -> Failure {
    let one_model = fits.iter().all(|fit| fit.0 == fits[0].0);
    let what = |(model, view): &(String, String)| match one_model {
        true => view.clone(),
        false => format!("{view} of {model}"),
    };
    let views: Vec<String> = fits.iter().map(what).collect();
    let of = if one_model { format!(" of `{}`", fits[0].0) } else { String::new() };
    let message = format!(
        "the files fit {} views{of}, which order the same bytes differently: {}",
        fits.len(),
        views.join(", ")
    );
    let mut help: Vec<String> = readings(differences, &views);
    help.push("no file here records which it is; who wrote it may know. Say it:".to_owned());
    help.extend(fits.iter().map(|(model, view)| {
        let mut more = vec!["--from-view", view];
        if !one_model {
            more.extend(["--spec", model]);
        }
        format!("  {}", session.typed_with(&more))
    }));
    Failure::one(Diagnostic::new("ucl::ambiguous", message).help(help.join("\n")))
}

/// How many differences are told.
const TOLD: usize = 4;

/// A line for each tensor that views read differently.
pub(crate) fn readings(differences: &[Difference], views: &[String]) -> Vec<String> {
    let line = |difference: &Difference| {
        let readings = difference.readings.iter().zip(views);
        let readings = readings.map(|(shape, view)| format!("`{shape}` in {view}"));
        let name = show::name(&difference.name);
        format!("\"{name}\" is {}", readings.collect::<Vec<_>>().join(" and "))
    };
    let mut lines: Vec<String> = differences.iter().take(TOLD).map(line).collect();
    if differences.len() > TOLD {
        lines.push(format!("and {} more", differences.len() - TOLD));
    }
    lines
}
