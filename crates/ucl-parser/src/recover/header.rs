//! The first line, `ucl 1`.

use super::draft::{Draft, Patch};
use crate::suggest;
use crate::tokens::{Token, TokenKind, words};
use ucl_ir::Diagnostic;

/// The version of the language that this compiler reads.
const VERSION: &str = "1";

/// Reports a first line that is not `ucl 1`. False if the text is in another language, or empty:
/// then nothing further can be said about it.
pub(crate) fn mend_header(draft: &mut Draft, found: &mut Vec<Diagnostic>) -> bool {
    let text = draft.text();
    let tokens = words(text);
    let Some(first) = tokens.first() else {
        found.push(
            Diagnostic::new("ucl::version", "this file is empty")
                .at(draft.span(0, 0), "`ucl 1` is missing")
                .help("start with `ucl 1`, then `model NAME { … }`"),
        );
        return false;
    };
    let number = tokens.get(1).filter(|token| token.kind == TokenKind::Number);
    let patch = match (first.text(text), number) {
        ("ucl", Some(number)) => return version(draft, &tokens, number, found),
        ("ucl", None) => {
            found.push(
                Diagnostic::new("ucl::version", "the version of the language is missing")
                    .at(draft.span(first.start, first.end), "which version?")
                    .help("write `ucl 1`"),
            );
            Patch::insert(first.end, format!(" {VERSION}"))
        }
        (word, Some(_)) if suggest::nearest(word, ["ucl"]).is_some() => {
            found.push(
                Diagnostic::new(
                    "ucl::version",
                    format!("`{word}` is not the name of the language"),
                )
                .at(draft.span(first.start, first.end), "did you mean `ucl`?")
                .help("write `ucl 1`"),
            );
            Patch { start: first.start, end: first.end, text: "ucl".to_owned() }
        }
        _ => {
            found.push(
                Diagnostic::new("ucl::version", "the version of the language is missing")
                    .at(draft.span(first.start, first.end), "`ucl 1` has to stand before this")
                    .help("write `ucl 1` into the first line"),
            );
            // `1` alone
            let number = first.kind == TokenKind::Number;
            Patch::insert(first.start, if number { "ucl " } else { "ucl 1 " })
        }
    };
    draft.mend(vec![patch]);
    true
}

fn version(
    draft: &mut Draft,
    tokens: &[Token],
    number: &Token,
    found: &mut Vec<Diagnostic>,
) -> bool {
    let text = draft.text();
    let wrong = |message: String, end| {
        Diagnostic::new("ucl::version", message)
            .at(draft.span(number.start, end), format!("this compiler knows version {VERSION}"))
    };
    if number.text(text) != VERSION {
        let message = format!("version {} of the language is not known", number.text(text));
        found.push(wrong(message, number.end).help(format!(
            "write `ucl {VERSION}` if the file is in version {VERSION}, or use a newer compiler"
        )));
        return false;
    }
    // `ucl 1.0`
    let point = tokens.get(2).filter(|point| point.start == number.end && point.is(text, "."));
    let Some(point) = point else { return true };
    let end =
        tokens.get(3).filter(|next| next.start == point.end).map_or(point.end, |next| next.end);
    found.push(wrong("versions are whole numbers".to_owned(), end).help("write `ucl 1`"));
    let patch = Patch::erase(text, point.start, end);
    draft.mend(vec![patch]);
    true
}
