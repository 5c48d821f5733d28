//! Renames: parts of inherited names, and indices that move from names into shapes.

use super::line::Line;
use super::lower;
use super::report::Report;
use super::view::State;
use crate::ast;
use ucl_ir::{Atoms, Diagnostic, Factor, Model, Segment, Span, Template};

/// Applies a rename to everything inherited.
pub(super) fn apply(
    rename: &ast::Rename,
    state: &mut State,
    model: &Model,
    own: bool,
    report: &mut Report,
) {
    let to = lower::template(rename.to.parts.iter().map(|part| &part.value), "");
    let Some(from) = &rename.from else { return base(rename.span, &to, state, own, report) };
    let from = lower::template(from.parts.iter().map(|part| &part.value), "");
    let moved: Vec<String> = match moved(rename, &from, &to) {
        Ok(moved) => moved,
        Err(diagnostic) => {
            if own {
                report.say(diagnostic);
            }
            return;
        }
    };
    let mut met = false;
    for line in &mut state.lines {
        match renamed(line, &from, &to) {
            Renamed::No => {}
            Renamed::Once => {
                met = true;
                move_in(line, &moved, model);
            }
            Renamed::Twice(name) => report.say(
                Diagnostic::new("ucl::rename", format!("`{}` stands twice in \"{}\"", from, name))
                    .at(rename.span, "which of the two?")
                    .at(line.span, "this name")
                    .help("write a longer part of the name"),
            ),
        }
    }
    for ignore in &mut state.ignores {
        if let [at] = places(&ignore.template, &from).as_slice() {
            ignore.template = replace(&ignore.template, *at, &from, &to);
            met = true;
        }
    }
    if own && !met {
        report.say(
            Diagnostic::new(
                "ucl::rename",
                format!("no inherited name contains \"{}\"", from),
            )
            .at(rename.span, "renames nothing")
            .help("it has to start at the start of a name or after a dot; see the names with `ucl compile`"),
        );
    }
}

/// The indices that go from the name into the shape, checked against those written.
fn moved(rename: &ast::Rename, from: &Template, to: &Template) -> Result<Vec<String>, Diagnostic> {
    let gone: Vec<&str> = from.indices().filter(|dim| !to.indices().any(|d| d == *dim)).collect();
    let written: Vec<&str> = rename.moved.iter().map(|name| name.value.as_str()).collect();
    if let Some(new) = to.indices().find(|dim| !from.indices().any(|d| d == *dim)) {
        return Err(Diagnostic::new(
            "ucl::rename",
            format!("the index `{{{new}}}` is in the new name and not in the old one"),
        )
        .at(rename.to.span, "where would it come from?")
        .help(format!("write `{{{new}}}` in both, or an equation of its own")));
    }
    if let Some(dim) = gone.iter().find(|dim| !written.contains(dim)) {
        return Err(Diagnostic::new(
            "ucl::rename",
            format!("the index `{{{dim}}}` is in the old name and not in the new one"),
        )
        .at(rename.span, format!("`{dim}` would be lost"))
        .help(format!("end the line with `: {}` to move it into the shape", gone.join(" "))));
    }
    if let Some(extra) = rename.moved.iter().find(|name| !gone.contains(&name.value.as_str())) {
        return Err(Diagnostic::new(
            "ucl::rename",
            format!("`{}` cannot move into the shape: the name does not lose it", extra.value),
        )
        .at(extra.span, "not an index of the old name alone")
        .help(format!("take `{}` out, or its index out of the new name", extra.value)));
    }
    Ok(gone.into_iter().map(str::to_owned).collect())
}

/// `rename base to "…"`: the base is written out, and names cannot come without it any more.
fn base(span: Span, to: &Template, state: &mut State, own: bool, report: &mut Report) {
    if state.bases.is_empty() && own {
        report.say(
            Diagnostic::new(
                "ucl::rename",
                "the inherited view has no `base` that could be renamed",
            )
            .at(span, "renames nothing")
            .help("write `rename \"…\" to \"…\"` with the prefix itself"),
        );
    }
    for base in std::mem::take(&mut state.bases) {
        let from = Template { segments: vec![Segment::Text(base)] };
        for line in &mut state.lines {
            let first =
                line.spellings.iter().find(|s| places(&s.template, &from).first() == Some(&0));
            if let Some(first) = first {
                let mut only = first.clone();
                only.template = replace(&only.template, 0, &from, to);
                line.spellings = vec![only];
            }
        }
        for ignore in &mut state.ignores {
            if places(&ignore.template, &from).first() == Some(&0) {
                ignore.template = replace(&ignore.template, 0, &from, to);
            }
        }
    }
}

enum Renamed {
    No,
    Once,
    Twice(Template),
}

/// A renamed line keeps its first renamed spelling alone.
fn renamed(line: &mut Line, from: &Template, to: &Template) -> Renamed {
    for spelling in &line.spellings {
        match places(&spelling.template, from).as_slice() {
            [] => {}
            [at] => {
                let mut only = spelling.clone();
                only.template = replace(&only.template, *at, from, to);
                line.spellings = vec![only];
                return Renamed::Once;
            }
            _ => return Renamed::Twice(spelling.template.clone()),
        }
    }
    Renamed::No
}

/// Puts dims in front of the shape; all that were ever moved stand in the order of the parameter.
fn move_in(line: &mut Line, moved: &[String], model: &Model) {
    if moved.is_empty() {
        return;
    }
    let before = line.moved.len();
    line.moved.extend(moved.iter().cloned());
    let composites = model.composites();
    let order = line.terms.first().and_then(|path| model.param(path)).map(|param| {
        let dims = param.each.iter().chain(&param.dims);
        Atoms::new(&composites).flatten(dims)
    });
    let order = order.unwrap_or_default();
    line.moved.sort_by_key(|dim| order.iter().position(|atom| atom == dim));
    let front = || line.moved.iter().map(|dim| Factor::Name(dim.clone()));
    for shape in [Some(&mut line.shape), line.declared.as_mut()].into_iter().flatten() {
        *shape = front().chain(shape.drain(..).skip(before)).collect();
    }
}

/// A letter or a hole of a template: what a rename compares.
#[derive(Clone, PartialEq, Eq)]
enum Token {
    Letter(char),
    Hole(Segment),
}

fn tokens(template: &Template) -> Vec<Token> {
    let tokens = template.segments.iter().flat_map(|segment| match segment {
        Segment::Text(text) => text.chars().map(Token::Letter).collect(),
        hole => vec![Token::Hole(hole.clone())],
    });
    tokens.collect()
}

/// Where `part` stands in a name, at its start or after a dot, in tokens.
fn places(name: &Template, part: &Template) -> Vec<usize> {
    let (name, part) = (tokens(name), tokens(part));
    if part.is_empty() {
        return Vec::new();
    }
    let starts = (0..name.len()).filter(|at| *at == 0 || name[at - 1] == Token::Letter('.'));
    starts.filter(|at| name[*at..].starts_with(&part)).collect()
}

fn replace(name: &Template, at: usize, from: &Template, to: &Template) -> Template {
    let mut all = tokens(name);
    all.splice(at..at + tokens(from).len(), tokens(to));
    let mut template = Template { segments: Vec::new() };
    for token in all {
        lower::push(
            &mut template,
            match token {
                Token::Letter(letter) => Segment::Text(letter.to_string()),
                Token::Hole(segment) => segment,
            },
        );
    }
    template
}
