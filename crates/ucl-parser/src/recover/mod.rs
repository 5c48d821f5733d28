//! Going on after a mistake.
//!
//! A [`Draft`](draft::Draft) of the text is mended until the grammar takes all of it: first its
//! characters, quotes and brackets, then, round by round, every statement that the grammar
//! swallowed as none. What is mended is read on, so that a second mistake in a statement is found
//! as well.

mod brackets;
mod change;
mod characters;
pub(crate) mod draft;
mod expected;
mod header;
mod known;
mod mistake;
mod statements;
mod stop;

pub(crate) use brackets::mend_brackets;
pub(crate) use characters::{mend_characters, mend_quotes};
pub(crate) use header::mend_header;
pub(crate) use statements::mend_statements;

/// Where the line of a place begins.
fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |end| end + 1)
}

/// How far the line of a place is indented.
fn indent(text: &str, at: usize) -> usize {
    let line = &text[line_start(text, at)..];
    line.len() - line.trim_start_matches([' ', '\t']).len()
}

/// Help that shows a line as it should be.
fn corrected(line: &str) -> String {
    let code = crate::tokens::words(line);
    let (start, end) = match (code.first(), code.last()) {
        (Some(first), Some(last)) => (first.start, last.end),
        _ => (0, 0),
    };
    let mut shown = String::new();
    let mut quoted = false;
    for c in line[start..end].chars() {
        quoted ^= c == '"';
        // Blanks that only align say nothing here.
        if c != ' ' || quoted || !shown.ends_with(' ') {
            shown.push(c);
        }
    }
    format!("write `{}`", shown.trim_end())
}
