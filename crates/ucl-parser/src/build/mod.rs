//! From what the grammar matched to the tree.

mod layout;
mod model;
mod number;
mod template;
mod test;
mod view;

use crate::ast::{File, Name, Spanned};
use crate::grammar::{Rule, parts};
use crate::recover::draft::Draft;
use crate::tokens::{Token, trimmed_end};
use pest::iterators::Pair;
use ucl_ir::{Diagnostic, Span};

type Match<'t> = Pair<'t, Rule>;

/// The tree of a file that matched; what the grammar lets pass and should not is added to `found`.
pub(crate) fn file(
    draft: &Draft,
    tokens: &[Token],
    pair: Match<'_>,
    found: &mut Vec<Diagnostic>,
) -> File {
    let mut build = Build { draft, tokens, found };
    let mut file = empty(draft.span(0, 0));
    for part in pair.into_inner() {
        match part.as_rule() {
            Rule::header => file.version = build.header(part),
            Rule::model => build.model_in(part, &mut file),
            Rule::view => file.views.extend(build.view(part)),
            Rule::layout => file.layouts.extend(build.layout(part)),
            Rule::test => file.tests.push(build.test(part)),
            _ => {}
        }
    }
    file
}

/// The tree of a text that could not be read at all.
pub(crate) fn empty(start: Span) -> File {
    File {
        version: Spanned { value: 1, span: start },
        model: None,
        views: Vec::new(),
        layouts: Vec::new(),
        tests: Vec::new(),
    }
}

/// What is said of a file without a model.
pub(crate) fn no_model(file: &File, start: Span) -> Diagnostic {
    let place = file.views.first().map(|view| view.name.span);
    let place = place.or(file.layouts.first().map(|layout| layout.name.span)).unwrap_or(start);
    Diagnostic::new("ucl::no-model", "this file has no model")
        .at(place, "belongs to the model of this file")
        .help("start with `model NAME { … }`, or with `model NAME extends OTHER {}` for a variant of another one")
}

/// Everything that the tree is made with.
struct Build<'b> {
    draft: &'b Draft,
    tokens: &'b [Token],
    found: &'b mut Vec<Diagnostic>,
}

impl Build<'_> {
    /// The place of a match, without the blanks and comments behind it.
    fn span(&self, pair: &Match<'_>) -> Span {
        let matched = pair.as_span();
        let end = trimmed_end(self.tokens, matched.end()).max(matched.start());
        self.draft.span(matched.start(), end)
    }

    fn name(&self, pair: &Match<'_>) -> Name {
        Spanned { value: pair.as_str().to_owned(), span: self.span(pair) }
    }

    /// The names among the parts of a match.
    fn names(&self, pair: Match<'_>) -> Vec<Name> {
        let named = |rule| matches!(rule, Rule::name | Rule::path | Rule::dim_name);
        parts(pair).filter(|part| named(part.as_rule())).map(|part| self.name(&part)).collect()
    }

    fn int(&mut self, pair: &Match<'_>) -> Spanned<u64> {
        let span = self.span(pair);
        // Sizes are multiplied later on: a number that leaves no room for that is a slip.
        let value = pair.as_str().parse().ok().filter(|&value: &u64| value <= i64::MAX as u64);
        if value.is_none() {
            self.found.push(
                Diagnostic::new("ucl::number", format!("{} is too large", pair.as_str()))
                    .at(span, "no size of a tensor is as large"),
            );
        }
        Spanned { value: value.unwrap_or(1), span }
    }

    fn header(&mut self, pair: Match<'_>) -> Spanned<u64> {
        let place = self.span(&pair);
        match parts(pair).next() {
            Some(number) => self.int(&number),
            None => Spanned { value: 1, span: place },
        }
    }

    /// A name that is in no tree is a hole that recovery left; the statement is then left out.
    fn first_name(&self, pair: &Match<'_>) -> Option<Name> {
        let mut parts = parts(pair.clone());
        parts.find(|part| part.as_rule() == Rule::name).map(|part| self.name(&part))
    }

    /// The name behind `extends`.
    fn extends(&self, pair: &Match<'_>) -> Option<Name> {
        let mut inner = pair.clone().into_inner();
        inner.find(|part| part.as_rule() == Rule::kw_extends)?;
        inner.next().map(|part| self.name(&part))
    }

    /// Reserved words are no names, `bias` least of all: a bias is declared with its parameter.
    fn declared(&mut self, path: &Name) {
        if path.value.split('.').any(|word| word == "bias") {
            let owner = path.value.strip_suffix(".bias").unwrap_or("x");
            self.found.push(
                Diagnostic::new("ucl::reserved", format!("`{}` cannot be declared", path.value))
                    .at(path.span, "`bias` is a reserved word")
                    .help(format!("a bias is declared with its parameter: `{owner} : … bias …`")),
            );
        }
    }
}

/// The parts of one kind.
fn of<'t>(pair: Match<'t>, rule: Rule) -> impl Iterator<Item = Match<'t>> {
    pair.into_inner().filter(move |part| part.as_rule() == rule)
}

/// Whether there is a part of this kind.
fn has(pair: &Match<'_>, rule: Rule) -> bool {
    pair.clone().into_inner().any(|part| part.as_rule() == rule)
}
