//! Collects the mistakes of a file.

use super::suggest;
use crate::ast;
use ucl_ir::{Diagnostic, Span};

/// The mistakes so far, each said once.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) all: Vec<Diagnostic>,
    pub(crate) replaced: Vec<Replaced>,
}

/// An inherited line that an equation removed.
#[derive(Debug)]
pub(crate) struct Replaced {
    pub(crate) view: String,
    pub(crate) terms: Vec<String>,
    pub(crate) old: Span,
    pub(crate) new: Span,
}

impl Report {
    /// Adds a mistake. The same one at another place becomes one more label of the first.
    pub(crate) fn say(&mut self, diagnostic: Diagnostic) {
        let same = |known: &&mut Diagnostic| {
            known.code == diagnostic.code && known.message == diagnostic.message
        };
        match self.all.iter_mut().find(same) {
            None => self.all.push(diagnostic),
            Some(known) => {
                for label in diagnostic.labels {
                    if !known.labels.contains(&label) {
                        known.labels.push(label);
                    }
                }
            }
        }
    }

    /// `name` is not a `kind` of `owner`; `known` are those that are.
    pub(crate) fn unknown<'a>(
        &mut self,
        owner: &str,
        kind: &str,
        name: &ast::Name,
        known: impl IntoIterator<Item = &'a str>,
    ) {
        self.unknown_at(owner, kind, &name.value, name.span, known);
    }

    /// As [`Report::unknown`], for a name inside something larger.
    pub(crate) fn unknown_at<'a>(
        &mut self,
        owner: &str,
        kind: &str,
        name: &str,
        span: Span,
        known: impl IntoIterator<Item = &'a str>,
    ) {
        let known: Vec<&str> = known.into_iter().collect();
        let diagnostic = Diagnostic::new("ucl::name", format!("{owner} has no {kind} `{name}`"))
            .at(span, format!("no {kind} of this name"));
        self.say(diagnostic.help(suggest::meant(name, kind, &known)));
    }

    /// `name` is declared twice.
    pub(crate) fn twice(&mut self, kind: &str, name: &str, first: Span, second: Span) {
        self.say(
            Diagnostic::new("ucl::duplicate", format!("{kind} `{name}` is declared twice"))
                .at(second, "again here")
                .at(first, "first here")
                .help(match kind {
                    "line" | "cut of" | "step on" | "type" => "take one of the two out",
                    _ => "take one of the two out, or give it another name",
                }),
        );
    }
}
