//! The model.

use super::expr;
use crate::{Dim, DimDef, Model, Param, SetDef};
use std::fmt::{self, Write};

pub(super) fn write(model: &Model, f: &mut impl Write) -> fmt::Result {
    writeln!(f, "model {} {{", model.name)?;
    if !model.types.is_empty() {
        let types: Vec<String> = model.types.iter().map(|name| format!("\"{name}\"")).collect();
        writeln!(f, "  type {}", types.join(", "))?;
    }
    let dims: Vec<String> = model.dims.iter().map(dim).collect();
    if !dims.is_empty() {
        writeln!(f, "  dims {}\n", dims.join(", "))?;
    }
    for set in &model.sets {
        let rule = match &set.def {
            SetDef::Named => String::new(),
            SetDef::When(cond) => format!(" : {}", expr::cond(cond)),
            SetDef::Not(other) => format!(" : not {other}"),
        };
        writeln!(f, "  set {} of {}{rule}", set.name, set.dim)?;
    }
    if !model.sets.is_empty() {
        writeln!(f)?;
    }
    params(model, &model.params, 0, f)?;
    // A bias that is there whenever its parameter is, which may be lacking.
    for param in model.params.iter().filter(|param| param.optional) {
        let path = format!("{}.bias", param.path);
        if model.param(&path).is_some_and(|bias| !bias.optional) {
            writeln!(f, "  require {path}")?;
        }
    }
    if !model.bindings.is_empty() {
        writeln!(f)?;
    }
    expr::bindings(&model.bindings, f)?;
    writeln!(f, "}}")
}

fn dim(dim: &Dim) -> String {
    match &dim.def {
        DimDef::Atom(None) => dim.name.clone(),
        DimDef::Atom(Some(size)) => format!("{} = {size}", dim.name),
        DimDef::Composite(sum) => format!("{} = {}", dim.name, expr::sum(sum)),
    }
}

/// Parameters that share `depth` blocks; those of one block stand together.
fn params(model: &Model, all: &[Param], depth: usize, f: &mut impl Write) -> fmt::Result {
    let indent = "  ".repeat(depth + 1);
    let head = |param: &Param| {
        let dim = param.each.get(depth)?;
        let set = model.set_of(param).filter(|set| set.dim == *dim);
        Some(dim.clone() + &set.map_or_else(String::new, |set| format!(" in {}", set.name)))
    };
    for run in all.chunk_by(|a, b| head(a) == head(b)) {
        match run.first().and_then(head) {
            Some(head) => {
                writeln!(f, "{indent}each {head} {{")?;
                params(model, run, depth + 1, f)?;
                writeln!(f, "{indent}}}")?;
            }
            None => lines(run, &indent, f)?,
        }
    }
    Ok(())
}

/// One line for a parameter and the bias that follows it.
fn lines(all: &[Param], indent: &str, f: &mut impl Write) -> fmt::Result {
    let head = |param: &Param| format!("{}{}", param.path, if param.optional { "?" } else { "" });
    let width = all.iter().filter(|p| !p.path.ends_with(".bias")).map(|p| head(p).len()).max();
    let width = width.unwrap_or(0);
    let mut rest = all.iter().peekable();
    while let Some(param) = rest.next() {
        write!(f, "{indent}{:width$} : {}", head(param), param.dims.join(" "))?;
        if let Some(original) = &param.tied {
            write!(f, "  tied {original}")?;
        }
        let is_bias = |bias: &&Param| bias.path.strip_suffix(".bias") == Some(&param.path);
        let bias = rest.next_if(is_bias);
        if let Some(bias) = bias {
            let mark = if bias.optional { "?" } else { "" };
            write!(f, "  bias{mark} {}", bias.dims.join(" "))?;
        }
        writeln!(f)?;
    }
    Ok(())
}
