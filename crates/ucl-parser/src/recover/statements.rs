//! Statements that are none.

use super::draft::{Draft, Patch};
use super::mistake::{Mistake, mistake};
use super::{indent, line_start};
use crate::grammar::{Rule, read};
use crate::tokens::Token;
use std::collections::BTreeSet;
use ucl_ir::Diagnostic;

/// How many mistakes are shown in statements; what is left out after that is left out silently.
const MOST: usize = 64;

/// Reports every statement that the grammar swallowed, and mends it or takes it out.
pub(crate) fn mend_statements(draft: &mut Draft, found: &mut Vec<Diagnostic>) {
    let mut seen = BTreeSet::new();
    // Each round mends or removes at least one token, so this ends.
    loop {
        let swallowed = swallowed(draft.text());
        if swallowed.is_empty() {
            return;
        }
        let mut patches = Vec::new();
        for (rule, start, end) in swallowed {
            let text = &draft.text()[start..end];
            let indent = indent(draft.text(), start);
            let Some(mistake) = mistake(rule, text, indent).filter(|_| seen.len() < MOST) else {
                patches.push(Patch::erase(draft.text(), start, end));
                continue;
            };
            let mut mends = mistake.patches.clone();
            if seen.insert(draft.span(start + mistake.place(), start).start) {
                found.push(diagnostic(draft, start, mistake));
            } else {
                // Mending did not help, and what is wrong here was said.
                mends = vec![Patch::erase(text, 0, text.len())];
            }
            patches.extend(mends.into_iter().map(|patch| Patch {
                start: start + patch.start,
                end: start + patch.end,
                text: patch.text,
            }));
        }
        draft.mend(patches);
    }
}

/// What the grammar swallowed, with the rule that it should have matched.
fn swallowed(text: &str) -> Vec<(Rule, usize, usize)> {
    let Ok(pairs) = read(Rule::file, text) else { return Vec::new() };
    let bad = pairs.flatten().filter_map(|pair| {
        let place = pair.as_span();
        Some((strict(pair.as_rule())?, place.start(), place.end()))
    });
    bad.collect()
}

fn strict(rule: Rule) -> Option<Rule> {
    Some(match rule {
        Rule::bad_declaration => Rule::strict_file,
        Rule::bad_model_item => Rule::strict_model,
        Rule::bad_each_item => Rule::strict_each,
        Rule::bad_from_line => Rule::strict_from,
        Rule::bad_view_item => Rule::strict_view,
        Rule::bad_layout_item => Rule::strict_layout,
        Rule::bad_test_item => Rule::strict_test,
        _ => return None,
    })
}

fn diagnostic(draft: &Draft, start: usize, mistake: Mistake) -> Diagnostic {
    let mut diagnostic = Diagnostic::new(mistake.code, mistake.message);
    for (from, to, label) in mistake.labels {
        diagnostic = diagnostic.at(draft.span(start + from, start + to), label);
    }
    Diagnostic { help: mistake.help, ..diagnostic }
}

/// Where statements begin, going by the lines: what is not indented more than the first and is not
/// in a block.
pub(super) fn statement_starts(text: &str, tokens: &[Token], most: usize) -> Vec<usize> {
    let mut starts = vec![0];
    let mut depth = 0_usize;
    for token in tokens {
        let line = line_start(text, token.start);
        let first = line > 0 && text[line..token.start].trim().is_empty();
        if first && depth == 0 && indent(text, token.start) <= most {
            starts.push(token.start);
        }
        match token.text(text) {
            "{" => depth += 1,
            "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    starts
}
