//! `view NAME { … }`

use super::{expr, model, quoted, shape, sum};
use std::fmt::Write;
use ucl_ir::{Model, Rule, Spelling, ValueOp, View};

pub(super) fn print(view: &View, model: &Model, out: &mut String) {
    let _ = write!(out, "\nview {}", view.name);
    if let Some(when) = &view.when {
        let _ = write!(out, " when {}", expr::cond(when));
    }
    out.push_str(" {\n");
    let known = model.composites();
    let own = view.composites.iter().filter(|(name, parts)| known.get(*name) != Some(*parts));
    for (name, parts) in own {
        let _ = writeln!(out, "  dims {name} = {}", sum(parts));
    }
    for base in &view.bases {
        let _ = writeln!(out, "  base {}", quoted(base));
    }
    for rule in &view.rules {
        let _ = writeln!(out, "  {}", equation(rule));
    }
    for ignore in &view.ignores {
        let _ = writeln!(out, "  ignore {}", quoted(&ignore.template.to_string()));
    }
    for value in &view.values {
        let op = match value.op {
            ValueOp::Shift => "shift",
            ValueOp::Scale => "scale",
        };
        let _ = writeln!(out, "  {op} {} by {}", value.param, expr::print(&value.by));
    }
    model::bindings(&view.bindings, out);
    out.push_str("}\n");
}

fn equation(rule: &Rule) -> String {
    let spelling = |spelling: &Spelling| {
        let when = if spelling.when_tied { " when tied" } else { "" };
        quoted(&spelling.template.to_string()) + when
    };
    let names: Vec<String> = rule.spellings.iter().map(spelling).collect();
    let declared = rule
        .declared
        .as_ref()
        .map_or_else(String::new, |declared| format!(" declared {}", shape(declared)));
    format!(
        "{} : {}{declared} = {}",
        names.join(" or "),
        shape(&rule.shape),
        rule.terms.join(" | ")
    )
}
