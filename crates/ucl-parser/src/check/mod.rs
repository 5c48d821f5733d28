//! The proofs that need no files: balance, disjoint, cover.

mod balance;
mod cover;
mod differences;
mod disjoint;
mod sets;
mod unify;

pub use cover::absent;

use ucl_ir::{Diagnostic, Program, Span, View};

/// What is known to be wrong already, so that one mistake is not told twice.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Places of mistakes.
    pub(crate) spans: Vec<Span>,
    /// Views of which a line could not be read or resolved.
    pub(crate) views: Vec<String>,
}

/// Proves what can be proven without files. A view that was only inherited and does not cover the
/// model is no mistake: it does not exist for the model.
pub fn check(program: &Program) -> Vec<Diagnostic> {
    check_beside(program, &Known::default())
}

/// As [`check`], silent about what follows from known mistakes.
pub(crate) fn check_beside(program: &Program, known: &Known) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for view in program.views.values().filter(|view| exists(view)) {
        balance::check(program, view, known, &mut found);
        sets::check(program, view, known, &mut found);
        disjoint::check(program, view, known, &mut found);
        cover::check(program, view, known, &mut found);
    }
    found
}

/// Whether a view is there for its model, or was written for it and has to be.
fn exists(view: &View) -> bool {
    view.lacking.is_empty() || is_own(view)
}

/// Whether a view is written in the model's own file, which is the first source.
fn is_own(view: &View) -> bool {
    view.span.source == 0
}

impl Known {
    /// Whether a mistake inside this place is known.
    fn is_broken(&self, span: Span) -> bool {
        let inside = |known: &Span| {
            known.source == span.source && span.start <= known.start && known.end <= span.end
        };
        self.spans.iter().any(inside)
    }
}

/// The name that a line is known by.
fn title(rule: &ucl_ir::Rule) -> String {
    rule.spellings.first().map(|s| format!("\"{}\"", s.template)).unwrap_or_default()
}
