//! Claims all names, and finds out whether the checkpoint is tied.

use super::cut::Cuts;
use super::facts;
use super::names::{Claims, claim};
use super::number::Scope;
use std::collections::BTreeMap;
use ucl_formats::Inventory;
use ucl_ir::{Diagnostic, Program, Rule, View};

/// How many names a message lists.
const LISTED: usize = 8;

/// What was found out.
pub(super) struct Claimed {
    pub(super) claims: Claims,
    pub(super) tied: bool,
    /// What to say where the files leave it open.
    pub(super) note: Option<String>,
}

/// Claims all names, and finds out whether the checkpoint is tied.
pub(super) fn claim_all(
    program: &Program,
    view: &View,
    inventory: &Inventory,
    cuts: Cuts<'_>,
    set: &BTreeMap<String, u64>,
) -> Result<Claimed, Vec<Diagnostic>> {
    let heads: Vec<&str> =
        program.model.params.iter().filter(|p| p.tied.is_some()).map(|p| p.path.as_str()).collect();
    let of_head = |rule: &Rule| rule.terms.iter().any(|term| heads.contains(&term.as_str()));
    let said =
        facts::bound_number(program, view, inventory, cuts, set, "tied").map(|tied| tied != 0);
    let untied = claim(view, inventory, false);
    let alias = inventory.aliases.keys().any(|alias| {
        view.rules
            .iter()
            .filter(|rule| of_head(rule))
            .any(|rule| rule.spellings.iter().any(|s| s.template.capture(alias).is_some()))
    });
    let present = untied.claimed.values().flatten().any(|claim| of_head(&view.rules[claim.rule]));
    let tied =
        !heads.is_empty() && (said.unwrap_or(false) || alias || (said.is_none() && !present));
    let claims = if tied { claim(view, inventory, true) } else { untied };
    if claims.unclaimed.is_empty() {
        let open = said.is_none() && present && !tied && is_copied(cuts);
        let note = open.then(|| unsure(program));
        return Ok(Claimed { claims, tied, note });
    }
    let listed: Vec<String> =
        claims.unclaimed.iter().take(LISTED).map(|n| format!("{n:?}")).collect();
    let more = claims.unclaimed.len().saturating_sub(LISTED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Err(vec![
        Diagnostic::new(
            "ucl::match",
            format!(
                "view `{}` of `{}` claims {} of {} names; it does not claim {}{more}",
                view.name,
                program.model.name,
                claims.claimed.len(),
                claims.claimed.len() + claims.unclaimed.len(),
                listed.join(", ")
            ),
        )
        .at(view.span, "no equation and no `ignore` here spells them")
        .help("add an equation or an `ignore`, or convert with `--view stored`, which needs no spec for a model that is only cut over data parallelism"),
    ])
}

/// Whether a writer with this layout on this mesh keeps a copy of a tied parameter.
fn is_copied(cuts: Cuts<'_>) -> bool {
    let numbers = |name: &str| cuts.mesh.get(name).and_then(|ranks| i64::try_from(*ranks).ok());
    let copied = cuts.layout.and_then(|layout| layout.copy_tied.as_ref());
    copied.is_some_and(|cond| Scope { numbers: &numbers, document: None }.holds(cond))
}

fn unsure(program: &Program) -> String {
    let tied = program.model.params.iter().find_map(|p| Some((&p.path, p.tied.as_ref()?)));
    let (head, original) = tied.map_or(("", ""), |(head, original)| (head.as_str(), original));
    format!(
        "No document says whether `{head}` is `{original}`: the last stage has one of its own, as it would \
         if they were one. It is read as a parameter of its own; `--set tied=1` compares the two."
    )
}
