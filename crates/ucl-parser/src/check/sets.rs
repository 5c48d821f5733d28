//! Sets: what only some indices have is stored by index, and together with what the same ones have.

use super::{Known, title};
use ucl_ir::{Diagnostic, Program, Rule, Set, View};

pub(super) fn check(program: &Program, view: &View, known: &Known, found: &mut Vec<Diagnostic>) {
    for rule in view.rules.iter().filter(|rule| !known.is_broken(rule.span)) {
        let params = rule.terms.iter().filter_map(|term| program.model.param(term));
        let params: Vec<_> = params.collect();
        let Some(first) = params.first() else { continue };
        if let Some(other) = params.iter().find(|param| param.set != first.set) {
            let has = |set: &Option<String>| match set {
                Some(set) => format!("the indices in `{set}`"),
                None => "all indices".to_owned(),
            };
            let text = format!(
                "{} holds `{}` for {}, but `{}` for {}",
                title(rule),
                first.path,
                has(&first.set),
                other.path,
                has(&other.set)
            );
            found.push(
                Diagnostic::new("ucl::set", text)
                    .at(rule.span, "one tensor, and some have only a part of it")
                    .help("write an equation for each, or put both into the same `each … in …`"),
            );
        } else if let Some(set) = program.model.set_of(first)
            && !is_named(rule, set)
        {
            let text = format!(
                "{} has `{}` in its shape, but only the indices in `{}` have `{}`",
                title(rule),
                set.dim,
                set.name,
                first.path
            );
            found.push(
                Diagnostic::new("ucl::set", text)
                    .at(rule.span, format!("these are no whole axis `{}`", set.dim))
                    .at(set.span, "the set")
                    .help(format!("let `{{{}}}` stand in the name", set.dim)),
            );
        }
    }
}

/// Whether every name of a line has the index that decides.
fn is_named(rule: &Rule, set: &Set) -> bool {
    rule.spellings.iter().all(|spelling| spelling.template.indices().any(|dim| dim == set.dim))
}
