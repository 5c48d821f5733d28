//! Disjoint: no name can be spelled by two lines of a view.

use super::unify::{Token, example, tokens};
use super::{Known, title};
use ucl_ir::{Diagnostic, Program, Rule, Segment, Span, Template, View};

/// A name of a view and what it belongs to.
struct Name<'a> {
    template: &'a Template,
    tokens: Vec<Token>,
    rule: Option<&'a Rule>,
    when_tied: bool,
    /// A number for each rule and each ignore.
    line: usize,
    span: Span,
}

pub(super) fn check(program: &Program, view: &View, known: &Known, found: &mut Vec<Diagnostic>) {
    let names = names(view);
    // A file may lack the base of all its names.
    let bases = std::iter::once("").chain(view.bases.iter().map(String::as_str));
    for base in bases {
        let names: Vec<Name<'_>> = names.iter().map(|name| without(name, base)).collect();
        for (number, first) in names.iter().enumerate() {
            for second in &names[number + 1..] {
                if first.line == second.line
                    || (first.rule.is_none() && second.rule.is_none())
                    || is_tied_copy(program, first, second)
                    || is_tied_copy(program, second, first)
                    || known.is_broken(first.span)
                    || known.is_broken(second.span)
                {
                    continue;
                }
                if let Some(name) = example(&first.tokens, &second.tokens) {
                    let new = mistake(view, first, second, name, base);
                    // Many spellings of two lines are one mistake.
                    if !found
                        .iter()
                        .any(|old: &Diagnostic| old.code == new.code && old.labels == new.labels)
                    {
                        found.push(new);
                    }
                }
            }
        }
    }
}

fn names(view: &View) -> Vec<Name<'_>> {
    let spellings = view.rules.iter().enumerate().flat_map(|(line, rule)| {
        rule.spellings.iter().map(move |spelling| Name {
            template: &spelling.template,
            tokens: tokens(&spelling.template),
            rule: Some(rule),
            when_tied: spelling.when_tied,
            line,
            span: rule.span,
        })
    });
    let ignores = view.ignores.iter().enumerate().map(|(number, ignore)| Name {
        template: &ignore.template,
        tokens: tokens(&ignore.template),
        rule: None,
        when_tied: false,
        line: view.rules.len() + number,
        span: ignore.span,
    });
    spellings.chain(ignores).collect()
}

fn without<'a>(name: &Name<'a>, base: &str) -> Name<'a> {
    let mut template = name.template.clone();
    if let Some(Segment::Text(text)) = template.segments.first_mut()
        && let Some(rest) = text.strip_prefix(base)
    {
        *text = rest.to_owned();
    }
    Name { tokens: tokens(&template), ..*name }
}

/// The one exception: a copy of a tied parameter may bear its original's name.
fn is_tied_copy(program: &Program, copy: &Name<'_>, original: &Name<'_>) -> bool {
    let (Some(of), Some(from)) = (copy.rule, original.rule) else { return false };
    copy.when_tied
        && matches!((of.terms.as_slice(), from.terms.as_slice()), ([a], [b])
            if program.model.param(a).is_some_and(|param| param.tied.as_deref() == Some(b)))
}

fn mistake(
    view: &View,
    first: &Name<'_>,
    second: &Name<'_>,
    name: String,
    base: &str,
) -> Diagnostic {
    let without = match base {
        "" => String::new(),
        base => format!(", in a file without the base \"{base}\""),
    };
    let both = |a: String, b: String| {
        format!("{a} and {b} can both be \"{name}\" in the view `{}`{without}", view.name)
    };
    match (first.rule, second.rule) {
        (Some(a), Some(b)) => {
            let text = match a
                .spellings
                .iter()
                .any(|s| b.spellings.iter().any(|t| s.template == t.template))
            {
                true => format!(
                    "two equations of the view `{}` have the name \"{}\"{without}",
                    view.name, first.template
                ),
                false => both(title(a), title(b)),
            };
            Diagnostic::new("ucl::disjoint", text)
                .at(second.span, format!("is it {} …", second_of(b)))
                .at(first.span, format!("… or {}?", second_of(a)))
                .help("a stored tensor has one equation: give one of the two a name of its own")
        }
        (Some(rule), None) | (None, Some(rule)) => {
            let ignore = if first.rule.is_none() { first } else { second };
            Diagnostic::new(
                "ucl::disjoint",
                both(
                    format!("the equation {}", title(rule)),
                    format!("`ignore \"{}\"`", ignore.template),
                ),
            )
            .at(ignore.span, "drops it")
            .at(rule.span, format!("needs it for {}", second_of(rule)))
            .help("make the `ignore` narrower, or take it out")
        }
        (None, None) => Diagnostic::new("ucl::disjoint", both(String::new(), String::new())),
    }
}

fn second_of(rule: &Rule) -> String {
    crate::resolve::list(&rule.terms)
}
