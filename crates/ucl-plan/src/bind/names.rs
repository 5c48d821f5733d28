//! Which rule of a view claims which stored name.

use std::collections::{BTreeMap, HashMap, HashSet};
use ucl_formats::Inventory;
use ucl_ir::View;

/// A name, claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// Index into the view's rules.
    pub(crate) rule: usize,
    /// Index into the rule's spellings.
    pub(crate) spelling: usize,
    /// The indices in the name, as they are spelled.
    pub(crate) indices: Vec<(String, u64)>,
    /// The counts in the name.
    pub(crate) counts: Vec<(String, u64)>,
}

/// What a view makes of all names of an inventory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims {
    /// For each distinct name its claims: one, or two where a tied copy bears its original's name.
    pub(crate) claimed: HashMap<String, Vec<Claim>>,
    /// Names that the view drops.
    pub(crate) ignored: Vec<String>,
    /// Names that nothing claims, in order.
    pub(crate) unclaimed: Vec<String>,
    /// Whether the names come without the view's base.
    pub(crate) without_base: Option<String>,
}

/// Matches all names; `tied` says whether spellings for the tied state count.
pub(crate) fn claim(view: &View, inventory: &Inventory, tied: bool) -> Claims {
    let mut distinct = BTreeMap::new();
    // What belongs to adapters is no parameter of the model.
    let apart: HashSet<&str> = inventory.adapters.tensors.iter().map(String::as_str).collect();
    let own = |name: &str| !apart.contains(name);
    let tensors = inventory.tensors.iter().enumerate();
    for (index, stored) in tensors.filter(|(_, stored)| own(&stored.name)) {
        distinct.entry(stored.name.as_str()).or_insert(index);
    }
    let mut names: Vec<(&str, usize)> = distinct.into_iter().collect();
    names.sort_by_key(|(_, first)| *first);
    let names: Vec<&str> = names.into_iter().map(|(name, _)| name).collect();
    let without_base = view
        .bases
        .iter()
        .find(|base| !names.iter().any(|name| name.starts_with(base.as_str())))
        .cloned();
    let mut claims = Claims { without_base: without_base.clone(), ..Claims::default() };
    for name in names {
        let mut found = claims_of(view, name, tied);
        if found.is_empty()
            && let Some(base) = &without_base
        {
            found = claims_of(view, &format!("{base}{name}"), tied);
        }
        if !found.is_empty() {
            claims.claimed.insert(name.to_owned(), found);
        } else if is_ignored(view, name, without_base.as_deref()) {
            claims.ignored.push(name.to_owned());
        } else {
            claims.unclaimed.push(name.to_owned());
        }
    }
    claims
}

/// The rules of a view that spell a name.
pub(crate) fn claims_of(view: &View, name: &str, tied: bool) -> Vec<Claim> {
    let mut found = Vec::new();
    for (rule, equation) in view.rules.iter().enumerate() {
        for (spelling, spelled) in equation.spellings.iter().enumerate() {
            if spelled.when_tied && !tied {
                continue;
            }
            if let Some(captures) = spelled.template.capture(name) {
                let (counts, indices): (Vec<_>, Vec<_>) =
                    captures.into_iter().partition(|capture| capture.is_count);
                found.push(Claim {
                    rule,
                    spelling,
                    indices: indices.into_iter().map(|c| (c.dim, c.value)).collect(),
                    counts: counts.into_iter().map(|c| (c.dim, c.value)).collect(),
                });
                break;
            }
        }
    }
    found
}

fn is_ignored(view: &View, name: &str, base: Option<&str>) -> bool {
    let fits =
        |name: &str| view.ignores.iter().any(|ignore| ignore.template.capture(name).is_some());
    fits(name) || base.is_some_and(|base| fits(&format!("{base}{name}")))
}
