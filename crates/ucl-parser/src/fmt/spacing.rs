//! Blanks between the words of a statement.

use crate::grammar::Rule;
use crate::tokens::{Token, TokenKind};

/// The code of a line, cut where columns may be aligned.
pub(super) struct Cells(pub(super) Vec<String>, Option<Rule>);

impl From<Vec<String>> for Cells {
    fn from(cells: Vec<String>) -> Cells {
        Cells(cells, None)
    }
}

impl Cells {
    /// The line as it is where nothing is aligned.
    pub(super) fn natural(&self) -> String {
        natural(&self.0, self.1)
    }
}

/// The line as it is where nothing is aligned. Two blanks set off what a parameter has besides dims.
pub(super) fn natural(cells: &[String], rule: Option<Rule>) -> String {
    let mut line = String::new();
    for (number, cell) in cells.iter().enumerate().filter(|(_, cell)| !cell.is_empty()) {
        if number > 0 {
            line.push_str(if rule == Some(Rule::param) && number == 2 { "  " } else { " " });
        }
        line.push_str(cell);
    }
    line
}

/// Cuts a statement into cells:
/// names, `: shape`, `declared shape`, `= parameters` of an equation; path, `: dims`, the rest of a
/// parameter; `n`, `= …` in a `from`; the two halves of a rename; the five parts of an `expect`.
pub(super) fn cells(text: &str, tokens: &[Token], rule: Option<Rule>) -> Cells {
    let word = |token: &Token| token.text(text);
    let find = |what: &[&str], from: usize| {
        let rest = tokens.iter().skip(from);
        rest.clone()
            .position(|token| what.contains(&word(token)))
            .map_or(tokens.len(), |at| from + at)
    };
    let quoted = |token: &Token| token.kind == TokenKind::String;
    let cuts: Vec<usize> = match rule {
        Some(Rule::equation) => {
            let colon = find(&[":"], 0);
            let equals = find(&["="], colon);
            vec![colon, find(&["declared"], colon).min(equals), equals]
        }
        Some(Rule::param) => {
            let colon = find(&[":"], 0);
            vec![colon, find(&["tied", "bias"], colon)]
        }
        Some(Rule::from_line) => vec![find(&["="], 0)],
        Some(Rule::rename) => vec![find(&["to"], 0)],
        Some(Rule::expect) => {
            let name = tokens.iter().position(quoted).unwrap_or(0);
            vec![find(&["on"], 0), name, name + 1, find(&["="], name)]
        }
        _ => Vec::new(),
    };
    let mut cells = Vec::new();
    let mut from = 0;
    for cut in cuts.into_iter().chain([tokens.len()]) {
        cells.push(joined(text, &tokens[from..cut], rule));
        from = cut;
    }
    Cells(cells, rule)
}

/// The tokens with blanks where they belong.
pub(super) fn joined(text: &str, tokens: &[Token], rule: Option<Rule>) -> String {
    let mut line = String::new();
    for (number, token) in tokens.iter().enumerate() {
        if number > 0 && blank(text, tokens, number, rule) {
            line.push(' ');
        }
        match token.kind {
            TokenKind::String => line.push_str(&quoted(token.text(text))),
            _ => line.push_str(token.text(text)),
        }
    }
    line
}

/// Whether a blank stands in front of a token.
fn blank(text: &str, tokens: &[Token], number: usize, rule: Option<Rule>) -> bool {
    let (before, next) = (tokens[number - 1].text(text), tokens[number].text(text));
    let tight = |at: usize| match tokens[at].text(text) {
        // Coordinates, `tp=1`; but not what an element equals.
        "=" => match rule {
            Some(Rule::meshes | Rule::keep) => true,
            Some(Rule::expect) => at > 0 && tokens[at - 1].text(text) != "]",
            _ => false,
        },
        "|" => is_narrow(text, tokens, at),
        _ => false,
    };
    if matches!(next, "," | ")" | "]" | "?") || matches!(before, "(" | "[") {
        return false;
    }
    if tight(number) || tight(number - 1) {
        return false;
    }
    !(before == "-" && is_sign(text, tokens, number - 1))
}

/// Whether a `-` is a sign and not a subtraction.
fn is_sign(text: &str, tokens: &[Token], at: usize) -> bool {
    let Some(before) = at.checked_sub(1).map(|before| &tokens[before]) else { return true };
    let word = before.text(text);
    match before.kind {
        TokenKind::Number => false,
        TokenKind::Word => {
            matches!(word, "by" | "to" | "if" | "else" | "not" | "and" | "or" | "when" | "require")
        }
        _ => word != ")",
    }
}

/// Whether the alternatives around a `|` are single dims in parentheses, `(f|f)`.
fn is_narrow(text: &str, tokens: &[Token], at: usize) -> bool {
    let simple = |token: &Token| matches!(token.kind, TokenKind::Word | TokenKind::Number);
    let start = tokens[..at].iter().rposition(|token| !(simple(token) || token.is(text, "|")));
    let end = tokens[at..].iter().position(|token| !(simple(token) || token.is(text, "|")));
    let (Some(start), Some(end)) = (start, end) else { return false };
    let inside = &tokens[start + 1..at + end];
    let alternates = inside
        .iter()
        .enumerate()
        .all(|(number, token)| if number % 2 == 0 { simple(token) } else { token.is(text, "|") });
    alternates && tokens[start].is(text, "(") && tokens[at + end].is(text, ")")
}

/// A quoted name with the blanks in its holes set: `{l + 2}`, `{#l + 2}`, `{weight,bias}`.
fn quoted(name: &str) -> String {
    let mut result = String::new();
    let mut rest = name;
    while let Some((before, hole)) = rest.split_once('{') {
        let Some((inner, after)) = hole.split_once('}') else { break };
        let inner: String = inner.split(' ').collect();
        result.push_str(&format!("{before}{{{}}}", inner.replace('+', " + ")));
        rest = after;
    }
    result + rest
}
