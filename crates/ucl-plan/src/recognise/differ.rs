//! Where views that fit the same files differ.

use super::{Fit, Lost};
use std::collections::BTreeSet;
use ucl_ir::{Factor, Rule, Sum, View};

/// A stored tensor that views read differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its name, as the first view spells it.
    pub name: String,
    /// How each view reads it, in the order of the views: `(k (q|1|1) d) h`.
    pub readings: Vec<String>,
}

/// The tensors of the checkpoint that these fits read differently.
pub fn differences(fits: &[Fit<'_>]) -> Vec<Difference> {
    let Some(first) = fits.first() else { return Vec::new() };
    let views: Vec<&View> = fits.iter().map(|fit| fit.view).collect();
    let apart = apart(&views);
    let mut out: Vec<Difference> = Vec::new();
    for (number, rule) in first.view.rules.iter().enumerate() {
        let Some(spelling) = first.bound.spellings.get(&number) else { continue };
        let readings: Vec<String> = views.iter().map(|view| reading(view, rule, &apart)).collect();
        if readings.iter().any(|other| *other != readings[0]) {
            let name = rule.spellings[*spelling].template.to_string();
            out.push(Difference { name, readings });
        }
    }
    out
}

/// Takes out fits that move every byte as an earlier one of the same model does.
pub(super) fn drop_equal(fits: &mut Vec<Fit<'_>>, lost: &mut Vec<Lost>) {
    let mut at = 1;
    while at < fits.len() {
        let (earlier, rest) = fits.split_at(at);
        let fit = &rest[0];
        let equal = earlier.iter().find(|other| {
            let values = |fit: &Fit<'_>| -> Vec<_> {
                let values = fit.view.values.iter();
                values.map(|value| (value.op, value.param.clone(), value.by.clone())).collect()
            };
            other.program.model.name == fit.program.model.name
                && other.bound.layout == fit.bound.layout
                && values(other) == values(fit)
                && is_equal(other, fit)
        });
        match equal.map(|other| other.view.name.clone()) {
            None => at += 1,
            Some(other) => {
                lost.push(Lost {
                    model: fit.program.model.name.clone(),
                    view: fit.view.name.clone(),
                    why: format!("moves every byte as view {other} does"),
                    detail: None,
                });
                fits.remove(at);
            }
        }
    }
}

fn is_equal(a: &Fit<'_>, b: &Fit<'_>) -> bool {
    let views = [a.view, b.view];
    let apart = apart(&views);
    let claimed = |fit: &Fit<'_>| -> BTreeSet<Vec<String>> {
        fit.bound.spellings.keys().map(|rule| fit.view.rules[*rule].terms.clone()).collect()
    };
    let rules = a.bound.spellings.keys().map(|rule| &a.view.rules[*rule]);
    let same = |rule: &Rule| reading(a.view, rule, &apart) == reading(b.view, rule, &apart);
    claimed(a) == claimed(b) && rules.into_iter().all(same)
}

/// Composites that are not the same in all views.
fn apart<'v>(views: &[&'v View]) -> BTreeSet<&'v str> {
    let names = views.iter().flat_map(|view| view.composites.keys());
    let differs = |name: &&String| {
        views.iter().any(|view| view.composites.get(*name) != views[0].composites.get(*name))
    };
    names.filter(differs).map(String::as_str).collect()
}

/// The shape of the line that holds a rule's parameters, with names spelled out that mean something
/// else elsewhere.
fn reading(view: &View, rule: &Rule, apart: &BTreeSet<&str>) -> String {
    let line = view.rules.iter().find(|other| other.terms == rule.terms);
    match line {
        Some(line) => ucl_ir::shape_text(&spelled_out(&line.shape, view, apart)),
        // It puts the parameters together in other tensors.
        None => {
            let holds = |line: &&Rule| line.terms.iter().any(|term| rule.terms.contains(term));
            let lines = view.rules.iter().filter(holds).map(|line| {
                let shape = ucl_ir::shape_text(&spelled_out(&line.shape, view, apart));
                format!("{shape} = {}", line.terms.join(" | "))
            });
            lines.collect::<Vec<_>>().join("; ")
        }
    }
}

fn spelled_out(shape: &[Factor], view: &View, apart: &BTreeSet<&str>) -> Vec<Factor> {
    let factors = shape.iter().map(|factor| match factor {
        Factor::Name(name) if apart.contains(name.as_str()) => match view.composites.get(name) {
            Some(sum) => Factor::Group(Sum {
                alternatives: sum
                    .alternatives
                    .iter()
                    .map(|product| spelled_out(product, view, apart))
                    .collect(),
            }),
            None => factor.clone(),
        },
        Factor::Group(sum) => Factor::Group(Sum {
            alternatives: sum
                .alternatives
                .iter()
                .map(|product| spelled_out(product, view, apart))
                .collect(),
        }),
        _ => factor.clone(),
    });
    factors.collect()
}
