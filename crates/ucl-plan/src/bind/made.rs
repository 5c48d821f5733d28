//! Parameters with numbers.

use super::composite::Composites;
use super::size::Sizes;
use super::unfit::UNKNOWN_SIZE;
use crate::params::{Param, ParamDim};
use ucl_ir::Diagnostic;

/// Parameters with numbers, and what has none.
pub(crate) fn params_of<'p>(
    wanted: impl Iterator<Item = &'p ucl_ir::Param>,
    composites: &Composites<'_>,
    sizes: &Sizes,
) -> (Vec<Param>, Vec<Diagnostic>) {
    let mut params = Vec::new();
    let mut lacking: Vec<(&ucl_ir::Param, Vec<String>)> = Vec::new();
    for param in wanted {
        match param_of(param, composites, sizes) {
            Ok(made) => params.push(made),
            Err(atoms) => lacking.push((param, atoms)),
        }
    }
    (params, unknown_sizes(&lacking, sizes).into_iter().collect())
}

/// One message for all sizes that do not follow.
fn unknown_sizes(lacking: &[(&ucl_ir::Param, Vec<String>)], sizes: &Sizes) -> Option<Diagnostic> {
    let (first, _) = lacking.first()?;
    let mut unknown: Vec<&str> =
        lacking.iter().flat_map(|(_, atoms)| atoms).map(String::as_str).collect();
    unknown.retain(|atom| sizes.atom(atom).is_none());
    unknown.sort_unstable();
    unknown.dedup();
    let params: Vec<&str> = lacking.iter().map(|(param, _)| param.path.as_str()).collect();
    let dims = unknown.iter().map(|dim| format!("`{dim}`")).collect::<Vec<_>>().join(", ");
    Some(
        Diagnostic::new(
            UNKNOWN_SIZE,
            format!(
                "the sizes of {dims} do not follow from the files; {} need them",
                params.join(", ")
            ),
        )
        .at(first.span, "needed here")
        .help(format!(
            "give the model's config.json with --config DIR, or the sizes with {}",
            unknown.iter().map(|dim| format!("--set {dim}=N")).collect::<Vec<_>>().join(" ")
        )),
    )
}

/// A parameter with numbers. Neighbouring atoms whose sizes do not follow one by one are one dim; those
/// whose product does not follow either are the error.
fn param_of(
    param: &ucl_ir::Param,
    composites: &Composites<'_>,
    sizes: &Sizes,
) -> Result<Param, Vec<String>> {
    let mut made = Param {
        path: param.path.clone(),
        dims: Vec::new(),
        each: param.each.len(),
        groups: Vec::new(),
    };
    let mut open: Vec<String> = Vec::new();
    let mut waiting = 0;
    for (position, name) in param.each.iter().chain(&param.dims).enumerate() {
        let first = made.dims.len();
        for atom in composites.atoms(name) {
            open.push(atom);
            if let Some(extent) = sizes.value(&open) {
                made.dims.push(ParamDim { name: open.join(" "), extent });
                open.clear();
            }
        }
        if position >= param.each.len() {
            waiting += made.dims.len() - first;
            if open.is_empty() {
                made.groups.push(waiting);
                waiting = 0;
            }
        }
    }
    if open.is_empty() {
        return Ok(made);
    }
    Err(open)
}
