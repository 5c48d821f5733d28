//! From a spec to its lines.

use super::spacing::{cells, joined};
use crate::grammar::Rule;
use crate::tokens::{Token, TokenKind, trimmed_end};
use pest::iterators::Pair;

/// A line of the result.
#[derive(Debug)]
pub(super) struct Line {
    /// How many blocks are around it.
    pub(super) depth: usize,
    pub(super) role: Role,
    /// The statement that it is, where it is a whole one.
    pub(super) rule: Option<Rule>,
    /// Its code, cut where columns may be aligned.
    pub(super) cells: Vec<String>,
    /// The comment behind the code, or the whole line.
    pub(super) comment: Option<String>,
    /// Whether a blank line stands in front.
    pub(super) blank: bool,
    /// The number of the declaration that it is in.
    pub(super) declaration: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Statement,
    /// Ends with `{`.
    Head,
    /// A `}`.
    Close,
    /// A comment alone.
    Comment,
    /// The rest of a statement that goes over several lines.
    Rest,
}

pub(super) fn lines(text: &str, tokens: &[Token], file: Pair<'_, Rule>) -> Vec<Line> {
    let words: Vec<Token> = tokens.iter().copied().filter(is_code).collect();
    let mut printer =
        Printer { text, tokens, words: &words, at: 0, depth: 0, declaration: 0, lines: Vec::new() };
    for part in file.into_inner() {
        if part.as_rule() != Rule::EOI {
            printer.declaration += 1;
            printer.statement(part, false);
        }
    }
    printer.declaration += 1;
    printer.comments(tokens.len());
    printer.lines
}

struct Printer<'t> {
    text: &'t str,
    tokens: &'t [Token],
    /// The tokens without comments.
    words: &'t [Token],
    /// The number of the next token.
    at: usize,
    depth: usize,
    declaration: usize,
    lines: Vec<Line>,
}

impl<'t> Printer<'t> {
    /// A statement with its block, if it has one.
    fn statement(&mut self, pair: Pair<'t, Rule>, size_follows: bool) {
        let matched = pair.as_span();
        let start = self.number(matched.start());
        let end = self.number(trimmed_end(self.words, matched.end()));
        self.comments(start);
        if pair.as_rule() == Rule::test_size {
            return self.size(end, size_follows);
        }
        let Some((open, items)) = block(pair.clone()) else {
            self.code(Some(pair.as_rule()), end, Role::Statement);
            return;
        };
        let open = self.number(open);
        let close = end - 1;
        let inside = &self.text[self.tokens[open].end..self.tokens[close].start];
        if !inside.contains('\n') || (open + 1 == close) {
            let code = self.inline(start, open, items, close);
            self.at = end;
            self.push(code, start);
            return self.trailing();
        }
        self.code(None, open + 1, Role::Head);
        self.depth += 1;
        self.items(items);
        self.comments(close);
        self.depth -= 1;
        self.code(None, end, Role::Close);
    }

    fn items(&mut self, items: Vec<Pair<'t, Rule>>) {
        let sizes: Vec<bool> = items.iter().map(|item| item.as_rule() == Rule::test_size).collect();
        for (number, item) in items.into_iter().enumerate() {
            self.statement(item, sizes.get(number + 1).copied().unwrap_or(false));
        }
    }

    /// A statement whose block stays in its line.
    fn inline(
        &self,
        start: usize,
        open: usize,
        items: Vec<Pair<'t, Rule>>,
        close: usize,
    ) -> String {
        let head = self.join(start, open);
        let mut inside = String::new();
        let mut last = None;
        for item in items {
            let matched = item.as_span();
            let (from, to) =
                (self.number(matched.start()), self.number(trimmed_end(self.words, matched.end())));
            let rule = item.as_rule();
            inside.push_str(match (last, rule) {
                (None, _) => "",
                (Some(Rule::test_size), Rule::test_size) => ", ",
                _ => "  ",
            });
            inside.push_str(&match block(item) {
                Some((open, items)) => self.inline(from, self.number(open), items, to - 1),
                None if rule == Rule::test_size => self.join(from, from + 3),
                None => cells(self.text, &self.tokens[from..to], Some(rule)).natural(),
            });
            last = Some(rule);
        }
        debug_assert!(self.tokens[close].is(self.text, "}"));
        match inside.is_empty() {
            true => format!("{head} {{}}"),
            false => format!("{head} {{ {inside} }}"),
        }
    }

    /// Sizes of a test share a line if they did, with commas between them.
    fn size(&mut self, end: usize, more: bool) {
        let start = self.at;
        let code: Vec<Token> = self.tokens[start..end].iter().copied().filter(is_code).collect();
        let mut size = joined(self.text, &code[..3], Some(Rule::test_size));
        if more {
            size.push(',');
        }
        let goes_on = self.lines.last().is_some_and(|line| {
            line.rule == Some(Rule::test_size) && line.comment.is_none() && !self.breaks(start)
        });
        if goes_on && let Some(line) = self.lines.last_mut() {
            line.cells[0].push_str(&format!(" {size}"));
        } else {
            self.push(size, start);
            self.last_is(Some(Rule::test_size), Role::Statement);
        }
        let inside: Vec<&str> = self.tokens[start..end]
            .iter()
            .filter(|token| !is_code(token))
            .map(|token| token.text(self.text))
            .collect();
        self.at = end;
        for comment in inside {
            self.attach(comment);
        }
        self.trailing();
    }

    /// Code up to a token, in several lines where comments or kept breaks are inside.
    fn code(&mut self, rule: Option<Rule>, end: usize, role: Role) {
        let start = self.at;
        let mut from = start;
        let mut first = true;
        while from < end {
            let mut to = from;
            while to < end && is_code(&self.tokens[to]) && (to == from || !self.keeps_break(to)) {
                to += 1;
            }
            let whole = first && to == end;
            let code = &self.tokens[from..to];
            let parts = if whole && role == Role::Statement {
                cells(self.text, code, rule)
            } else {
                vec![joined(self.text, code, rule)].into()
            };
            if !code.is_empty() {
                self.push(String::new(), from);
                if let Some(line) = self.lines.last_mut() {
                    line.cells = parts.0;
                }
                let shown = if first { role } else { Role::Rest };
                self.last_is(if whole { rule } else { None }, shown);
                first = false;
            }
            self.at = to;
            // Comments inside: behind what is in their line, or in lines of their own.
            while self.at < end && !is_code(&self.tokens[self.at]) {
                let comment = self.tokens[self.at];
                if self.breaks(self.at)
                    || self.lines.last().is_none_or(|line| line.comment.is_some())
                {
                    self.push(String::new(), self.at);
                    self.last_is(None, Role::Rest);
                }
                self.attach(comment.text(self.text));
                self.at += 1;
            }
            from = self.at;
        }
        // Blank lines inside a statement go.
        self.at = end;
        self.trailing();
    }

    /// Comments up to a token, each in a line of its own.
    fn comments(&mut self, end: usize) {
        while self.at < end {
            let comment = self.tokens[self.at].text(self.text).to_owned();
            self.push(String::new(), self.at);
            self.last_is(None, Role::Comment);
            self.attach(&comment);
            self.at += 1;
        }
    }

    /// A comment in the line that was just written.
    fn trailing(&mut self) {
        let Some(next) = self.tokens.get(self.at) else { return };
        if next.kind == TokenKind::Comment && !self.breaks(self.at) {
            self.attach(next.text(self.text));
            self.at += 1;
        }
    }

    fn attach(&mut self, comment: &str) {
        if let Some(line) = self.lines.last_mut() {
            line.comment = Some(match line.comment.take() {
                Some(before) => format!("{before}  {comment}"),
                None => comment.to_owned(),
            });
        }
    }

    fn push(&mut self, code: String, token: usize) {
        let blank = self.blank_before(token);
        let opens = self.lines.last().is_none_or(|line| line.role == Role::Head);
        self.lines.push(Line {
            depth: self.depth,
            role: Role::Statement,
            rule: None,
            cells: vec![code],
            comment: None,
            blank: blank && !opens,
            declaration: self.declaration,
        });
    }

    fn last_is(&mut self, rule: Option<Rule>, role: Role) {
        if let Some(line) = self.lines.last_mut() {
            line.rule = rule;
            line.role = role;
            line.blank &= !matches!(role, Role::Close | Role::Rest);
        }
    }

    /// The number of the token that begins at a place, or of the one behind the place.
    fn number(&self, place: usize) -> usize {
        self.tokens.partition_point(|token| token.start < place)
    }

    fn join(&self, from: usize, to: usize) -> String {
        joined(self.text, &self.tokens[from..to], None)
    }

    /// What stands in front of a token, back to the one before.
    fn gap(&self, token: usize) -> &str {
        let start = token.checked_sub(1).map_or(0, |before| self.tokens[before].end);
        &self.text[start..self.tokens[token].start]
    }

    fn breaks(&self, token: usize) -> bool {
        self.gap(token).contains('\n')
    }

    fn blank_before(&self, token: usize) -> bool {
        self.gap(token).matches('\n').count() > 1
    }

    /// Whether the author's line break in front of a token stays.
    fn keeps_break(&self, token: usize) -> bool {
        let next = self.tokens[token].text(self.text);
        let before = self.tokens[token - 1].text(self.text);
        self.breaks(token) && (before == "," || matches!(next, "or" | "and" | "|" | "if" | "else"))
    }
}

fn is_code(token: &Token) -> bool {
    token.kind != TokenKind::Comment
}

/// Where the block of a statement opens, and what is inside.
fn block(pair: Pair<'_, Rule>) -> Option<(usize, Vec<Pair<'_, Rule>>)> {
    let mut inner = pair.into_inner();
    let opens = |part: &Pair<'_, Rule>| matches!(part.as_rule(), Rule::open | Rule::view_block);
    let open = inner.find(opens)?;
    let place = open.as_span().start();
    let items = match open.as_rule() {
        Rule::view_block => open.into_inner().skip(1).collect::<Vec<_>>(),
        _ => inner.collect(),
    };
    Some((place, items.into_iter().filter(|item| item.as_rule() != Rule::close).collect()))
}
