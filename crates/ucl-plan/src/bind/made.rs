//! Parameters with numbers.

use super::size::{Composites, Sizes};
use crate::params::{Param, ParamDim};
use ucl_ir::Diagnostic;

/// Parameters with numbers, and what has none.
pub(crate) fn params_of<'p>(
    wanted: impl Iterator<Item = &'p ucl_ir::Param>,
    composites: &Composites<'_>,
    sizes: &Sizes,
) -> (Vec<Param>, Vec<Diagnostic>) {
    let mut params = Vec::new();
    let mut wrong = Vec::new();
    for param in wanted {
        match param_of(param, composites, sizes) {
            Ok(made) => params.push(made),
            Err(diagnostic) => wrong.push(diagnostic),
        }
    }
    (params, wrong)
}

/// A parameter with numbers. Neighbouring atoms whose sizes do not follow one by one are one dim.
pub(crate) fn param_of(
    param: &ucl_ir::Param,
    composites: &Composites<'_>,
    sizes: &Sizes,
) -> Result<Param, Diagnostic> {
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
    Err(Diagnostic::new(
        "ucl::bind",
        format!("the size of `{}` in `{}` does not follow", open.join(" "), param.path),
    )
    .at(param.span, "declared here")
    .help(format!("say it with --set {}=N, or give the model's config with --config DIR", open[0])))
}
