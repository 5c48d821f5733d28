//! Names in expressions: dims, axes, and numbers that a `from` binds.

use super::report::Report;
use crate::ast::{Cond, Expr, ExprKind};
use ucl_ir::Model;

/// What the expressions of every layout and view may name.
pub(super) fn of_model(model: &Model) -> Vec<String> {
    let dims = model.dims.iter().map(|dim| dim.name.clone());
    let mut names: Vec<String> = dims.collect();
    for binding in &model.bindings {
        if !names.contains(&binding.name) {
            names.push(binding.name.clone());
        }
    }
    names
}

/// Reports names that nothing gives a number.
pub(super) fn check(expr: &Expr, known: &[String], owner: &str, report: &mut Report) {
    match &expr.kind {
        ExprKind::Int(_) => {}
        ExprKind::Key(key) => {
            if !known.contains(key) {
                let names = known.iter().map(String::as_str);
                report.unknown_at(owner, "number", key, expr.span, names);
            }
        }
        ExprKind::Or(a, b) | ExprKind::Binary(_, a, b) => {
            check(a, known, owner, report);
            check(b, known, owner, report);
        }
        ExprKind::If(then, cond, other) => {
            for inner in [then, cond, other] {
                check(inner, known, owner, report);
            }
        }
        ExprKind::Not(inner) | ExprKind::Neg(inner) => check(inner, known, owner, report),
    }
}

/// As [`check`], for a condition.
pub(super) fn check_cond(cond: &Cond, known: &[String], owner: &str, report: &mut Report) {
    match cond {
        Cond::Compare(_, a, b) => {
            check(a, known, owner, report);
            check(b, known, owner, report);
        }
        Cond::And(a, b) | Cond::Or(a, b) => {
            check_cond(a, known, owner, report);
            check_cond(b, known, owner, report);
        }
    }
}
