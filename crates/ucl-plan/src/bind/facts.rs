//! What says how large dims are: shapes, numbers of names, documents, fixed sizes, the user.

use super::composite::Composites;
use super::cut::Cuts;
use super::identity::place;
use super::lower::local_size;
use super::names::Claims;
use super::number::Scope;
use super::size::{Equation, Monomial};
use super::uneven::together;
use std::collections::{BTreeMap, BTreeSet};
use ucl_formats::Inventory;
use ucl_formats::inventory::Stored;
use ucl_ir::{Binding, Diagnostic, DimDef, Document, Program, Rule, View};

/// The indices that each part of a cut holds: where its own numbers start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// How many indices each dim has in names.
    pub(crate) totals: BTreeMap<String, u64>,
    /// For dims that are numbered anew on each part: the first global index of each part.
    pub(crate) starts: BTreeMap<String, Vec<u64>>,
}

/// Counts the indices that names spell.
pub(crate) fn count(view: &View, claims: &Claims, cuts: Cuts<'_>, inventory: &Inventory) -> Counts {
    let mut per_part: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut local: BTreeSet<String> = BTreeSet::new();
    for stored in &inventory.tensors {
        for claim in claims.claimed.get(&stored.name).into_iter().flatten() {
            let term = &view.rules[claim.rule].terms[0];
            for (dim, value) in &claim.indices {
                let cut = cuts.of(term, dim).filter(|shard| !shard.global);
                let part = cut.map_or(0, |shard| cuts.part(shard, &stored.at));
                if cut.is_some() {
                    local.insert(dim.clone());
                }
                let counts = per_part.entry(dim.clone()).or_default();
                let part = usize::try_from(part).unwrap_or(usize::MAX).min(1 << 20);
                if counts.len() <= part {
                    counts.resize(part + 1, 0);
                }
                counts[part] = counts[part].max(value.saturating_add(1));
            }
        }
    }
    let mut counts = Counts::default();
    for (dim, parts) in per_part {
        if local.contains(&dim) {
            let mut next = 0_u64;
            let starts = parts.iter().map(|count| {
                let start = next;
                next = start.saturating_add(*count);
                start
            });
            counts.starts.insert(dim.clone(), starts.collect());
            counts.totals.insert(dim, next);
        } else {
            counts.totals.insert(dim, parts.into_iter().max().unwrap_or(0));
        }
    }
    counts
}

/// So many indices of a dim may be missing before its numbers count as damaged.
const MISSING: u64 = 1 << 16;

/// Dims of which names spell far higher numbers than there are tensors.
pub(crate) fn jump(
    view: &View,
    claims: &Claims,
    inventory: &Inventory,
    counts: &Counts,
) -> Vec<Diagnostic> {
    let most = inventory.tensors.len() as u64 + MISSING;
    let wrong = counts.totals.iter().filter(|(_, total)| **total > most);
    wrong
        .map(|(dim, total)| {
            let indices = claims.claimed.iter().flat_map(|(name, claims)| {
                let all = claims.iter().flat_map(|claim| &claim.indices);
                let of_dim = all.filter(|(of, _)| of == dim);
                of_dim.map(move |(_, index)| (*index, name))
            });
            let highest = indices.max().map_or("", |(_, name)| name.as_str());
            let text = format!(
                "names count {total} of `{dim}`, and there are {} tensors: look at {highest:?}",
                inventory.tensors.len()
            );
            let help = "a damaged name, or a tensor of another model?";
            Diagnostic::new("ucl::match", text).at(view.span, "read by this view").help(help)
        })
        .collect()
}

/// How a padded dim is called among the unknowns: its true size is another number.
pub(crate) fn padded_name(cuts: Cuts<'_>, atom: &str) -> String {
    if cuts.pad(atom).is_some() { format!("{atom}+") } else { atom.to_owned() }
}

/// The equations of everything that is known about sizes.
pub(crate) fn equations(
    program: &Program,
    view: &View,
    claims: &Claims,
    cuts: Cuts<'_>,
    inventory: &Inventory,
    counts: &Counts,
    set: &BTreeMap<String, u64>,
) -> Vec<Equation> {
    let composites = Composites::new(&program.model, Some(&view.composites));
    let mut out = Vec::new();
    for dim in &program.model.dims {
        if let DimDef::Atom(Some(size)) = dim.def {
            let sum = vec![(1, vec![dim.name.clone()])];
            out.push(Equation {
                sum,
                value: size,
                source: "the model".into(),
                span: Some(dim.span),
            });
        }
    }
    let mut seen = BTreeSet::new();
    for stored in &inventory.tensors {
        for claim in claims.claimed.get(&stored.name).into_iter().flatten() {
            if seen.insert(claim.rule) {
                shape_equations(
                    &composites,
                    &view.rules[claim.rule],
                    cuts,
                    stored,
                    inventory,
                    &mut out,
                );
            }
        }
    }
    for (dim, total) in &counts.totals {
        out.push(Equation {
            sum: vec![(1, vec![dim.clone()])],
            value: *total,
            source: format!("the numbers in names ({{{dim}}})"),
            span: None,
        });
    }
    for (name, value) in inventory.universal.iter().flat_map(|manifest| &manifest.dims) {
        if program.model.dims.iter().any(|dim| dim.name == *name) {
            let sum = dim_sum(&composites, name);
            out.push(Equation { sum, value: *value, source: "ucl.json".to_owned(), span: None });
        }
    }
    let numbers = scope_numbers(set, cuts);
    for binding in program.model.bindings.iter().chain(&view.bindings) {
        let Some(document) = document(inventory, binding.document) else { continue };
        let scope = Scope { numbers: &numbers, document: Some(document) };
        if !says_something(program, view, binding, document) {
            continue;
        }
        let value = evaluate(program, view, binding, &scope, document);
        let is_dim = composites.get(&binding.name).is_some()
            || program.model.dims.iter().any(|dim| dim.name == binding.name);
        if is_dim && let Some(value) = value.and_then(|value| u64::try_from(value).ok()) {
            out.push(Equation {
                sum: dim_sum(&composites, &binding.name),
                value,
                source: format!("`{} = …` from {}", binding.name, document_name(binding.document)),
                span: Some(binding.span),
            });
        }
    }
    for (name, value) in set {
        out.push(Equation {
            sum: dim_sum(&composites, name),
            value: *value,
            source: format!("--set {name}={value}"),
            span: None,
        });
    }
    out
}

fn dim_sum(composites: &Composites<'_>, name: &str) -> Vec<(u64, Monomial)> {
    composites.polynomial(&[ucl_ir::Factor::Name(name.to_owned())], &str::to_owned)
}

/// The value of a binding; a key that is the name of another binding of the document means that.
pub(crate) fn evaluate(
    program: &Program,
    view: &View,
    binding: &Binding,
    scope: &Scope<'_>,
    document: &serde_json::Map<String, serde_json::Value>,
) -> Option<i64> {
    let bindings: Vec<&Binding> = program.model.bindings.iter().chain(&view.bindings).collect();
    let numbers = |name: &str| {
        (scope.numbers)(name).or_else(|| {
            let other = bindings.iter().find(|other| {
                other.name == name
                    && other.document == binding.document
                    && other.name != binding.name
            })?;
            // One level deep is enough for `k = n`, and cannot go in circles.
            Scope { numbers: scope.numbers, document: Some(document) }.eval(&other.expr)
        })
    };
    Scope { numbers: &numbers, document: Some(document) }.eval(&binding.expr)
}

/// Whether a document has any key of a line, or of the lines that it names: what a line falls back on is
/// no fact about a document that does not speak of it.
fn says_something(
    program: &Program,
    view: &View,
    binding: &Binding,
    document: &serde_json::Map<String, serde_json::Value>,
) -> bool {
    let lines = || program.model.bindings.iter().chain(&view.bindings);
    let has = |key: &str| document.get(key).is_some_and(|value| !value.is_null());
    binding.expr.names().into_iter().any(|name| {
        let other = lines().find(|other| {
            other.name == name && other.document == binding.document && other.name != binding.name
        });
        has(name) || other.is_some_and(|other| other.expr.names().into_iter().any(has))
    })
}

/// Keys whose values are no numbers: a line that falls back where a key is missing must not do so for
/// one that is damaged.
pub(crate) fn unreadable(program: &Program, view: &View, inventory: &Inventory) -> Vec<Diagnostic> {
    let mut wrong: Vec<Diagnostic> = Vec::new();
    for binding in program.model.bindings.iter().chain(&view.bindings) {
        let Some(document) = document(inventory, binding.document) else { continue };
        for key in binding.expr.names() {
            let Some(value) = document.get(key).filter(|value| !is_number(value)) else { continue };
            let text = match binding.document {
                Document::Config => format!("config.json: `{key}` is {value}, not a size"),
                other => {
                    format!("{}: `{key}` is {value}, not a size", document_name(other))
                }
            };
            if wrong.iter().all(|known| known.message != text) {
                let one = Diagnostic::new("ucl::bind", text).at(binding.span, "read here");
                wrong.push(one.help("mend the value, or take it out and say the size with --set"));
            }
        }
    }
    wrong
}

/// No dim is larger: 2^48.
const LARGEST: f64 = 281_474_976_710_656.0;

/// Whether a value is missing, a flag, or a whole number that a dim may have. Frameworks write -1 for
/// what is not said.
fn is_number(value: &serde_json::Value) -> bool {
    use serde_json::Value;
    match value {
        Value::Null | Value::Bool(_) => true,
        Value::Number(number) => number
            .as_f64()
            .is_some_and(|number| number.fract() == 0.0 && (-1.0..=LARGEST).contains(&number)),
        Value::String(_) | Value::Array(_) | Value::Object(_) => false,
    }
}

/// A number that a document gives for a name that is no dim (`tied`, `m`, `c1`).
pub(crate) fn bound_number(
    program: &Program,
    view: &View,
    inventory: &Inventory,
    cuts: Cuts<'_>,
    set: &BTreeMap<String, u64>,
    name: &str,
) -> Option<i64> {
    if let Some(value) = set.get(name) {
        return i64::try_from(*value).ok();
    }
    let numbers = scope_numbers(set, cuts);
    program
        .model
        .bindings
        .iter()
        .chain(&view.bindings)
        .filter(|b| b.name == name)
        .find_map(|binding| {
            let document = document(inventory, binding.document)?;
            let scope = Scope { numbers: &numbers, document: Some(document) };
            evaluate(program, view, binding, &scope, document)
        })
        .or_else(|| inventory.universal.as_ref()?.numbers.get(name).copied())
}

/// The numbers for a target: the mesh and what was said, what the source's documents say, else what a
/// spec's lines say of an empty one.
pub(crate) fn target_numbers<'a>(
    program: &'a Program,
    view: &'a View,
    inventory: &'a Inventory,
    set: &'a BTreeMap<String, u64>,
    cuts: Cuts<'a>,
) -> impl Fn(&str) -> Option<i64> + 'a {
    move |name| {
        scope_numbers(set, cuts)(name)
            .or_else(|| bound_number(program, view, inventory, cuts, set, name))
            .or_else(|| said_numbers(program, view, set, cuts)(name))
    }
}

/// Numbers that need no document: the mesh and what the user set.
pub(crate) fn scope_numbers<'a>(
    set: &'a BTreeMap<String, u64>,
    cuts: Cuts<'a>,
) -> impl Fn(&str) -> Option<i64> + 'a {
    move |name| {
        let axis =
            cuts.layout.is_some_and(|layout| layout.axes.iter().any(|axis| axis.name == name));
        let number = match set.get(name) {
            Some(value) => Some(*value),
            None if axis || cuts.mesh.contains_key(name) => Some(cuts.size(name)),
            None => None,
        };
        number.and_then(|number| i64::try_from(number).ok())
    }
}

/// Numbers where there is no document: the mesh, what was said, else what a spec's lines say of an
/// empty one (`m = make_vocab_size_divisible_by ?? 128`).
pub(crate) fn said_numbers<'a>(
    program: &'a Program,
    view: &'a View,
    set: &'a BTreeMap<String, u64>,
    cuts: Cuts<'a>,
) -> impl Fn(&str) -> Option<i64> + 'a {
    let said = scope_numbers(set, cuts);
    move |name| {
        said(name).or_else(|| {
            let bindings = program.model.bindings.iter().chain(&view.bindings);
            let binding = bindings.into_iter().find(|binding| binding.name == name)?;
            Scope { numbers: &said, document: Some(&serde_json::Map::new()) }.eval(&binding.expr)
        })
    }
}

pub(crate) fn document(
    inventory: &Inventory,
    document: Document,
) -> Option<&serde_json::Map<String, serde_json::Value>> {
    inventory.documents.get(document_name(document))
}

fn document_name(document: Document) -> &'static str {
    match document {
        Document::Config => "config",
        Document::Args => "args",
        Document::Params => "params",
    }
}

fn shape_equations(
    composites: &Composites<'_>,
    rule: &Rule,
    cuts: Cuts<'_>,
    stored: &Stored,
    inventory: &Inventory,
    out: &mut Vec<Equation>,
) {
    let shape = rule.declared.as_ref().unwrap_or(&rule.shape);
    if shape.len() != stored.shape.len() {
        return; // Said where the tensor is lowered.
    }
    for (axis, (factor, size)) in shape.iter().zip(&stored.shape).enumerate() {
        let rename = |atom: &str| padded_name(cuts, atom);
        let Some(local) = local_size(composites, cuts, &rule.terms, factor, &rename) else {
            let whole = together(composites, cuts, rule, (axis, factor), stored, inventory);
            out.extend(whole.map(|value| Equation {
                sum: composites.polynomial(std::slice::from_ref(factor), &rename),
                value,
                source: format!("dim {axis} of all parts of {:?}", stored.name),
                span: Some(rule.span),
            }));
            continue;
        };
        let scale = local.iter().map(|(_, by, _)| *by).fold(1, lcm);
        let sum = local.into_iter().map(|(a, by, product)| (a * (scale / by), product)).collect();
        let Some(value) = size.checked_mul(scale) else { continue };
        out.push(Equation {
            sum,
            value,
            source: match scale {
                1 => format!("dim {axis} of {}", place(stored)),
                ranks => format!("{ranks} times dim {axis} of {}", place(stored)),
            },
            span: Some(rule.span),
        });
    }
}

fn lcm(a: u64, b: u64) -> u64 {
    let (mut x, mut y) = (a, b);
    while y > 0 {
        (x, y) = (y, x % y);
    }
    a / x * b
}
