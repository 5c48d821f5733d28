//! Quoted names.

use super::{Build, Match};
use crate::ast::{Part, Spanned, Template};
use crate::grammar::{Rule, read};
use crate::suggest;
use ucl_ir::{Diagnostic, Span};

impl Build<'_> {
    /// A name with holes; `*` only where `any` says so.
    pub(super) fn template(&mut self, string: &Match<'_>, any: bool) -> Template {
        let span = self.span(string);
        let text = inside(string);
        let offset = string.as_span().start() + 1;
        let mut parts: Vec<Spanned<Part>> = Vec::new();
        // The rule takes any text; if it ever did not, the name would be taken as it stands.
        let matched = read(Rule::template, text).ok().and_then(|mut pairs| pairs.next());
        for pair in matched.into_iter().flat_map(Pair::into_inner) {
            let place = pair.as_span();
            let place = self.draft.span(offset + place.start(), offset + place.end());
            let Some(part) = self.part(&pair, place) else { continue };
            self.fits(&parts, &part, place, any);
            parts.push(Spanned { value: part, span: place });
        }
        if text.is_empty() {
            self.found.push(
                Diagnostic::new("ucl::template", "this name is empty").at(span, "names no tensor"),
            );
        }
        Template { parts, span }
    }

    /// A name without holes.
    pub(super) fn plain(&mut self, string: &Match<'_>) -> Spanned<String> {
        let (span, text) = (self.span(string), inside(string));
        if let Some(at) = text.find(['{', '}', '*']) {
            let start = string.as_span().start() + 1 + at;
            let place = self.draft.span(start, start + 1);
            self.found.push(
                Diagnostic::new("ucl::template", "this name is plain text")
                    .at(place, "has no meaning here")
                    .help(
                        "write the name as it is stored, with numbers in it: `\"layers.0.weight\"`",
                    ),
            );
        }
        Spanned { value: text.to_owned(), span }
    }

    /// What stands between the quotes, whatever it is.
    pub(super) fn text(&self, string: &Match<'_>) -> Spanned<String> {
        Spanned { value: inside(string).to_owned(), span: self.span(string) }
    }

    fn part(&mut self, pair: &Match<'_>, place: Span) -> Option<Part> {
        let mut dim = String::new();
        let mut plus = 0;
        for inner in pair.clone().into_inner() {
            match inner.as_rule() {
                Rule::hole_name => inner.as_str().clone_into(&mut dim),
                Rule::int => match inner.as_str().parse() {
                    Ok(number) if number < 1 << 32 => plus = number,
                    _ => self.found.push(
                        Diagnostic::new("ucl::number", format!("{} is too large", inner.as_str()))
                            .at(place, "no index is shifted as far"),
                    ),
                },
                _ => {}
            }
        }
        Some(match pair.as_rule() {
            Rule::part_text => Part::Text(pair.as_str().to_owned()),
            Rule::part_both => Part::WeightBias,
            Rule::part_index => Part::Index(dim, plus),
            Rule::part_count => Part::Count(dim, plus),
            Rule::part_any => Part::Any,
            Rule::bad_part => {
                self.found.push(broken(pair.as_str(), place));
                return None;
            }
            _ => return None,
        })
    }

    /// What a part may not follow, or where it may not stand.
    fn fits(&mut self, before: &[Spanned<Part>], part: &Part, place: Span, any: bool) {
        let number = |part: &Part| matches!(part, Part::Index(..) | Part::Count(..));
        if *part == Part::Any && !any {
            self.found.push(
                Diagnostic::new("ucl::template", "`*` stands outside an `ignore`")
                    .at(place, "could be any text, so a writer would not know what to put")
                    .help("spell the name out, with `{l}` where a number stands"),
            );
        }
        if let Some(last) = before.last()
            && (number(&last.value) && number(part)
                || *part == Part::Any && last.value == Part::Any)
        {
            self.found.push(
                Diagnostic::new("ucl::template", "two holes touch")
                    .at(place, "begins where the one before ends")
                    .at(last.span, "the one before")
                    .help(match part {
                        Part::Any => "one `*` is any text",
                        _ => "put text between them: in `{l}{e}` the number 123 has three readings",
                    }),
            );
        }
        let first = before.iter().find(|part| part.value == Part::WeightBias);
        if let Some(first) = first.filter(|_| *part == Part::WeightBias) {
            self.found.push(
                Diagnostic::new("ucl::template", "`{weight,bias}` stands here twice")
                    .at(place, "the second one")
                    .at(first.span, "the first one")
                    .help("write two equations, one for the weight and one for the bias"),
            );
        }
    }
}

use pest::iterators::Pair;

/// The text between the quotes.
fn inside<'t>(string: &Match<'t>) -> &'t str {
    let text = string.as_str();
    let text = text.strip_prefix('"').unwrap_or(text);
    text.strip_suffix('"').unwrap_or(text)
}

/// What is wrong with a hole.
fn broken(hole: &str, place: Span) -> Diagnostic {
    let error =
        |message: String, label: &str| Diagnostic::new("ucl::template", message).at(place, label);
    if hole == "}" {
        return error("a `}` closes nothing in this name".to_owned(), "no `{` stands before it")
            .help("write `{l}` for an index, or take it away");
    }
    let Some(inner) = hole.strip_prefix('{').and_then(|hole| hole.strip_suffix('}')) else {
        // The dim is the word behind the brace; what follows is most likely the name again.
        let word: String =
            hole[1..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        return error("a `{` is not closed in this name".to_owned(), "has no `}`")
            .help(format!("write `{{{word}}}`"));
    };
    let inner = inner.trim();
    if inner.is_empty() {
        return error("an empty hole".to_owned(), "of which dim?")
            .help("write the dim whose index stands here: `{l}`");
    }
    if inner.contains(',') {
        return error(format!("`{hole}` is no hole"), "only one pair of words is known")
            .help("write `{weight,bias}` for a tensor and its bias, or two equations");
    }
    if inner.contains('-') {
        return error(format!("`{hole}` is no hole"), "an index can only be shifted up")
            .help("write `{l + 2}` if the number in the name is larger than the index");
    }
    let (dim, plus) = inner.split_once('+').unwrap_or((inner, ""));
    let dim = dim.trim();
    let bare = dim.trim_start_matches('#').trim();
    if suggest::is_reserved(bare) {
        return error(format!("`{bare}` is a reserved word"), "not the name of a dim")
            .help("give the dim another name");
    }
    if inner.contains('+') && !bare.is_empty() && !plus.trim().bytes().all(|b| b.is_ascii_digit()) {
        return error(format!("`{hole}` is no hole"), "only a number can be added to an index")
            .help(format!("write `{{{dim} + 2}}`, or `{{{dim}}}` for the index as it is"));
    }
    if inner.contains('+') && plus.trim().is_empty() {
        return error(format!("`{hole}` has no number"), "a number is missing behind `+`")
            .help(format!("write `{{{dim} + 1}}`, or `{{{dim}}}` for the index as it is"));
    }
    error(format!("`{hole}` is no hole"), "is neither an index nor a count")
        .help("write `{l}`, `{l + 2}`, `{#l + 2}` for the number of layers, or `{weight,bias}`")
}
