//! Characters that mean nothing, and quotes that are not closed.

use super::draft::{Draft, Patch};
use crate::tokens::{Token, TokenKind, scan, words};
use ucl_ir::Diagnostic;

/// Reports what is no part of the language, one message for a line, and takes it out.
pub(crate) fn mend_characters(draft: &mut Draft, found: &mut Vec<Diagnostic>) {
    let text = draft.text();
    let mut patches = Vec::new();
    let mut last_line = usize::MAX;
    for token in words(text) {
        if token.kind != TokenKind::Unknown {
            continue;
        }
        let (unknown, place) = (token.text(text), draft.span(token.start, token.end));
        let line = text[..token.start].rfind('\n').map_or(0, |at| at + 1);
        let (mend, help) = meant(unknown);
        patches.push(match mend {
            Some(mend) => Patch { start: token.start, end: token.end, text: mend.to_owned() },
            None => Patch::erase(text, token.start, token.end),
        });
        if token.start == 0 && unknown == "\u{feff}" {
            continue;
        }
        match found.pop_if(|_| line == last_line) {
            // One place shows it, a few show that there are more.
            Some(known) if known.labels.len() >= 4 => found.push(known),
            Some(known) => found.push(known.at(place, "and this")),
            None => {
                let shown = unknown.escape_debug();
                let message = format!("`{shown}` is not part of the language");
                let known = Diagnostic { help, ..Diagnostic::new("ucl::character", message) };
                found.push(known.at(place, "means nothing here"));
            }
        }
        last_line = line;
    }
    draft.mend(patches);
}

/// What was probably meant, and what to say.
fn meant(unknown: &str) -> (Option<&'static str>, Option<String>) {
    let (mend, help) = match unknown.chars().next() {
        Some('“' | '”' | '„' | '‟' | '«' | '»' | '\'' | '`' | '‘' | '’') => {
            (Some("\""), "names of tensors stand between plain quotes: `\"`")
        }
        Some(';') => (None, "statements end by themselves: take it away"),
        Some('.') => (None, "a `.` joins two names, without blanks: `attn.q`"),
        Some('!') => (None, "write `a < b or a > b` for `a != b`"),
        Some('&') => (Some("and"), "write `and`"),
        Some('\\') => (None, "a statement may go on in the next line as it is"),
        Some(blank) if blank.is_whitespace() || blank == '\u{200b}' => {
            (None, "this is a blank of another kind: use a plain one")
        }
        Some(letter) if letter.is_alphabetic() => {
            (None, "names are made of the letters a to z, digits, `_` and `-`")
        }
        _ => return (None, None),
    };
    (mend, Some(help.to_owned()))
}

/// How many open quotes are shown. A text with more of them is no spec.
const MOST: usize = 64;

/// Reports quotes that are not closed in their line, and closes them. False if too many are open to
/// go on.
pub(crate) fn mend_quotes(draft: &mut Draft, found: &mut Vec<Diagnostic>) -> bool {
    // Closing one moves what follows in its line, so lines are looked at anew.
    for _ in 0..MOST {
        let Some((open, at)) = open_quote(draft.text()) else { return true };
        let text = draft.text();
        let line = text[..open].rfind('\n').map_or(0, |end| end + 1);
        let end = text[open..].find('\n').map_or(text.len(), |length| open + length);
        let fixed = [&text[line..at], "\"", &text[at..end]].concat();
        found.push(
            Diagnostic::new("ucl::unclosed", "a quote is not closed")
                .at(draft.span(open, at), "this name has no second `\"`")
                .help(super::corrected(&fixed)),
        );
        draft.mend(vec![Patch::insert(at, "\"")]);
    }
    false
}

/// The first quote without a partner, and where the partner belongs.
fn open_quote(text: &str) -> Option<(usize, usize)> {
    let tokens = scan(text);
    let number = tokens.iter().position(|token| token.kind == TokenKind::OpenString)?;
    let open = tokens[number];
    // Where a quote is missing in front, the ones behind it pair up wrongly: `"a or "b" : h`.
    // Names hold no blanks, so the first quoted text with one is where it began.
    let line = text[..open.start].rfind('\n').map_or(0, |at| at + 1);
    let same_line = tokens[..=number].iter().filter(|token| token.start >= line);
    let mut quoted = same_line.filter(|token| is_quoted(token)).copied();
    let first = quoted.find(|token| name_end(token, text) < token.end).unwrap_or(open);
    Some((first.start, name_end(&first, text)))
}

fn is_quoted(token: &Token) -> bool {
    matches!(token.kind, TokenKind::String | TokenKind::OpenString)
}

/// Where a name would end if its second quote is not to be trusted: at the first blank that is not
/// in braces.
fn name_end(token: &Token, text: &str) -> usize {
    let mut depth = 0;
    for (at, c) in token.text(text).char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = 0,
            ' ' | '\t' if depth == 0 => {
                let name = text[token.start..token.start + at].trim_end_matches(':');
                return token.start + name.len().max(1);
            }
            _ => {}
        }
    }
    token.end
}
