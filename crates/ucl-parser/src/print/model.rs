//! `model NAME { … }`

use super::{expr, sum};
use std::fmt::Write;
use ucl_ir::{Binding, DimDef, Document, Model, Param};

pub(super) fn print(model: &Model, out: &mut String) {
    let _ = writeln!(out, "model {} {{", model.name);
    let dims = model.dims.iter().map(|dim| match &dim.def {
        DimDef::Atom(None) => dim.name.clone(),
        DimDef::Atom(Some(size)) => format!("{} = {size}", dim.name),
        DimDef::Composite(parts) => format!("{} = {}", dim.name, sum(parts)),
    });
    let dims: Vec<String> = dims.collect();
    if !dims.is_empty() {
        let _ = writeln!(out, "  dims {}", dims.join(", "));
    }
    params(model, out);
    bindings(&model.bindings, out);
    out.push_str("}\n");
}

/// Parameters in forward order, those under the same `each` together.
fn params(model: &Model, out: &mut String) {
    let mut open: &[String] = &[];
    for param in model.params.iter().filter(|param| !is_bias(param, model)) {
        if param.each != open {
            open.iter().for_each(|_| out.push_str("  }\n"));
            param.each.iter().for_each(|dim| {
                let _ = writeln!(out, "  each {dim} {{");
            });
            open = &param.each;
        }
        let optional = if param.optional { "?" } else { "" };
        let _ = write!(out, "    {}{optional} : {}", param.path, param.dims.join(" "));
        if let Some(tied) = &param.tied {
            let _ = write!(out, " tied {tied}");
        }
        if let Some(bias) = model.param(&format!("{}.bias", param.path)) {
            let optional = if bias.optional { "?" } else { "" };
            let _ = write!(out, " bias{optional} {}", bias.dims.join(" "));
        }
        out.push('\n');
    }
    open.iter().for_each(|_| out.push_str("  }\n"));
}

/// A bias stands with its parameter.
fn is_bias(param: &Param, model: &Model) -> bool {
    param.path.strip_suffix(".bias").is_some_and(|owner| model.param(owner).is_some())
}

/// `from DOCUMENT { … }`, for the model and for views.
pub(super) fn bindings(bindings: &[Binding], out: &mut String) {
    for lines in bindings.chunk_by(|a, b| a.document == b.document) {
        let document = match lines[0].document {
            Document::Config => "config",
            Document::Args => "args",
            Document::Params => "params",
        };
        let _ = writeln!(out, "  from {document} {{");
        for line in lines {
            let _ = writeln!(out, "    {} = {}", line.name, expr::print(&line.expr));
        }
        out.push_str("  }\n");
    }
}
