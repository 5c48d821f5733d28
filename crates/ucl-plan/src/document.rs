//! What documents say of a model's sizes, and what they would say: the `from` lines of a spec, both ways.

use crate::bind::{Cuts, Scope};
use crate::bind::{evaluate, scope_numbers};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use ucl_ir::{Binding, Document, Expr, Mesh, Program, View};

/// The numbers that a document gives by name: sizes of dims, `tied`.
pub fn numbers_of(
    program: &Program,
    view: &View,
    document: Document,
    text: &Map<String, Value>,
) -> BTreeMap<String, u64> {
    let (set, mesh) = (BTreeMap::new(), Mesh::new());
    let numbers = scope_numbers(&set, Cuts { layout: None, mesh: &mesh, stages: &[] });
    let scope = Scope { numbers: &numbers, document: Some(text) };
    lines(program, view, document)
        .filter_map(|line| {
            let value = evaluate(program, view, line, &scope, text)?;
            Some((line.name.clone(), u64::try_from(value).ok()?))
        })
        .collect()
}

/// A document that gives these numbers: each line's first key gets the value of its name.
pub fn document_of(
    program: &Program,
    view: &View,
    document: Document,
    number: &dyn Fn(&str) -> Option<u64>,
) -> Map<String, Value> {
    let mut text = Map::new();
    for line in lines(program, view, document) {
        if let (Some((key, not)), Some(value)) = (first_key(&line.expr), number(&line.name)) {
            let value = if not { Value::from(value == 0) } else { Value::from(value) };
            text.entry(key).or_insert(value);
        }
    }
    text
}

fn lines<'a>(
    program: &'a Program,
    view: &'a View,
    document: Document,
) -> impl Iterator<Item = &'a Binding> {
    program
        .model
        .bindings
        .iter()
        .chain(&view.bindings)
        .filter(move |line| line.document == document)
}

/// The key that an expression looks up first, and whether it is negated; `None` where it calculates.
fn first_key(expr: &Expr) -> Option<(&str, bool)> {
    match expr {
        Expr::Key(key) => Some((key, false)),
        Expr::Or(first, _) => first_key(first),
        Expr::Not(inner) => first_key(inner).map(|(key, not)| (key, !not)),
        Expr::Int(_) | Expr::If { .. } | Expr::Binary(..) | Expr::Neg(_) => None,
    }
}
