//! How far a text is right, and what could have come next.

use crate::grammar::{Rule, read};
use crate::suggest::is_reserved;
use crate::tokens::{Token, words};
use pest::error::InputLocation;
use std::collections::BTreeSet;

/// Where the grammar could not go on.
#[derive(Debug)]
pub(super) struct Stop {
    /// All tokens of the text.
    pub(super) tokens: Vec<Token>,
    /// The number of the token that does not fit; one past the last if the text ends too early.
    pub(super) at: usize,
    /// What would fit.
    pub(super) wants: Wants,
}

impl Stop {
    /// Where the token begins that does not fit.
    pub(super) fn place(&self, text: &str) -> usize {
        self.tokens.get(self.at).map_or(text.len(), |token| token.start)
    }
}

/// What would fit somewhere.
#[derive(Debug, Default)]
pub(super) struct Wants {
    /// Keywords.
    pub(super) words: BTreeSet<String>,
    /// Signs.
    pub(super) signs: BTreeSet<String>,
    /// Whether a name, or a path.
    pub(super) name: bool,
    /// Whether a number.
    pub(super) number: bool,
    /// Whether a quoted name.
    pub(super) quoted: bool,
}

/// No text holds it, so nothing in the grammar fits it. The blank ends the word in front.
const NOTHING: &str = " \u{1}";

/// Reads a text by a strict rule; none if all of it is right.
pub(super) fn stop(rule: Rule, text: &str) -> Option<Stop> {
    let (tokens, at) = misfit(rule, text)?;
    // Read again with something impossible in its place: then the furthest position is the token's
    // begin, and what was expected there is not mixed with what was expected inside it.
    let wants = match tokens.get(at) {
        Some(token) => wants_instead(rule, text, token),
        None => wants(rule, &[text, NOTHING].concat()),
    };
    Some(Stop { tokens, at, wants })
}

/// How many bytes from the token that does not fit to the end; none if all of it is right.
pub(super) fn unread(rule: Rule, text: &str) -> Option<usize> {
    let (tokens, at) = misfit(rule, text)?;
    Some(text.len() - tokens.get(at).map_or(text.len(), |token| token.start))
}

/// The tokens, and the number of the first that does not fit.
fn misfit(rule: Rule, text: &str) -> Option<(Vec<Token>, usize)> {
    let first = furthest(rule, text)?;
    let tokens = words(text);
    let at = tokens.partition_point(|token| token.end <= first);
    // A reserved word in the place of a name is read to its end to be refused.
    let refused = at.checked_sub(1).filter(|&before| {
        let word = tokens[before].text(text);
        has_reserved(word) && !wants_instead(rule, text, &tokens[before]).words.contains(word)
    });
    Some((tokens, refused.unwrap_or(at)))
}

/// Whether a path has a reserved word in it; `bias` may be one.
fn has_reserved(path: &str) -> bool {
    path.split('.').any(|word| is_reserved(word) && (word != "bias" || word == path))
}

/// What would fit in the place of a token.
pub(super) fn wants_instead(rule: Rule, text: &str, token: &Token) -> Wants {
    wants(rule, &impossible(text, token))
}

fn impossible(text: &str, token: &Token) -> String {
    [&text[..token.start], NOTHING, &text[token.end..]].concat()
}

fn furthest(rule: Rule, text: &str) -> Option<usize> {
    let error = read(rule, text).err()?;
    let fallback = match error.location {
        InputLocation::Pos(at) | InputLocation::Span((at, _)) => at,
    };
    Some(error.parse_attempts().map_or(fallback, |attempts| attempts.max_position))
}

fn wants(rule: Rule, probe: &str) -> Wants {
    let mut wants = Wants::default();
    let Err(error) = read(rule, probe) else { return wants };
    for token in
        error.parse_attempts().map(|attempts| attempts.expected_tokens()).unwrap_or_default()
    {
        // The type has no public name; what it shows is the text, or `0..9`.
        let token = token.to_string();
        match token.as_str() {
            // Blanks and comments may stand everywhere.
            " " | "\t" | "\r" | "\n" | "#" | "a..z" | "A..Z" | "BUILTIN_RULE" => {}
            "_" => wants.name = true,
            "0..9" => wants.number = true,
            "\"" => wants.quoted = true,
            word if word.starts_with(|c: char| c.is_ascii_alphabetic()) => {
                wants.words.insert(token);
            }
            _ => {
                wants.signs.insert(token);
            }
        }
    }
    wants
}
