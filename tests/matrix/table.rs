//! The support matrix as Markdown.

use crate::check::Seen;
use crate::rows::{By, Row};
use std::collections::{BTreeMap, BTreeSet};

/// Checkpoints of one kind.
#[derive(Default)]
struct Kind {
    families: BTreeSet<String>,
    states: BTreeSet<String>,
    hf: BTreeSet<String>,
    by_framework: usize,
    by_hand: usize,
}

/// One line for each kind of checkpoint.
pub(crate) fn table(seen: &[(&Row, Seen)]) -> String {
    let mut kinds: BTreeMap<&str, Kind> = BTreeMap::new();
    for (row, seen) in seen {
        let kind = kinds.entry(&seen.kind).or_default();
        let family = seen.family.clone().unwrap_or_else(|| "own names".to_owned());
        if row.hf {
            kind.hf.insert(family.clone());
        }
        kind.families.insert(family);
        kind.states.extend(seen.states.iter().cloned());
        match row.by {
            By::Framework => kind.by_framework += 1,
            By::Hand => kind.by_hand += 1,
        }
    }
    let mut text = String::from(
        "| stored as | families | states compared | to `universal` | to `hf` | by the framework | by hand |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for (name, kind) in kinds {
        let families = joined(kind.families.iter().map(String::as_str));
        let hf = joined(kind.hf.iter().map(String::as_str));
        text += &format!(
            "| {name} | {families} | {} | yes | {} | {} | {} |\n",
            joined(in_order(&kind.states).into_iter()),
            if hf.is_empty() {
                "not shown".to_owned()
            } else if hf == families {
                "yes".to_owned()
            } else {
                hf
            },
            kind.by_framework,
            kind.by_hand,
        );
    }
    text
}

/// Weights first.
fn in_order(states: &BTreeSet<String>) -> Vec<&str> {
    let (first, rest): (Vec<_>, Vec<_>) =
        states.iter().map(String::as_str).partition(|state| matches!(*state, "fp32" | "weights"));
    first.into_iter().rev().chain(rest).collect()
}

fn joined<'a>(parts: impl Iterator<Item = &'a str>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}
