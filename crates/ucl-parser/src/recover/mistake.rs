//! What is wrong with a statement, and what would mend it.

use super::corrected;
use super::draft::Patch;
use super::known::known;
use super::statements::statement_starts;
use super::stop::{Stop, stop, unread};
use crate::grammar::Rule;
use crate::tokens::{Token, TokenKind, words};

/// A mistake in a piece of text; places count from its start.
#[derive(Debug)]
pub(super) struct Mistake {
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) labels: Vec<(usize, usize, String)>,
    pub(super) help: Option<String>,
    /// What mends it, or takes it out.
    pub(super) patches: Vec<Patch>,
}

impl Mistake {
    pub(super) fn new(
        code: &'static str,
        message: impl Into<String>,
        token: &Token,
        label: impl Into<String>,
    ) -> Mistake {
        let labels = vec![(token.start, token.end, label.into())];
        Mistake { code, message: message.into(), labels, help: None, patches: Vec::new() }
    }

    /// Where it is.
    pub(super) fn place(&self) -> usize {
        self.labels.first().map_or(0, |label| label.0)
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Mistake {
        self.help = Some(help.into());
        self
    }

    pub(super) fn mend(mut self, patches: impl IntoIterator<Item = Patch>) -> Mistake {
        self.patches.extend(patches);
        self
    }

    /// Shows the line as it would be after mending.
    pub(super) fn show(self, text: &str) -> Mistake {
        let (Some(first), fixed) = (self.patches.first(), mended(text, &self.patches)) else {
            return self;
        };
        let start = super::line_start(&fixed, first.start.min(fixed.len()));
        let line = fixed[start..].lines().next().unwrap_or_default();
        let help = corrected(line);
        self.help(help)
    }
}

/// The first mistake in a text that should match the rule; none if there is none. The first line is
/// indented by `indent`. What cannot be mended is to be taken out.
pub(super) fn mistake(rule: Rule, text: &str, indent: usize) -> Option<Mistake> {
    let whole = stop(rule, text)?;
    let place = whole.place(text);
    let starts = statement_starts(text, &whole.tokens, indent);
    // A statement that is not finished where the next one begins may swallow some of that one.
    let unfinished =
        |&&start: &&usize| start > 0 && start <= place && stop(rule, &text[..start]).is_some();
    let end =
        starts.iter().find(unfinished).or_else(|| starts.iter().find(|&&start| start > place));
    // Only the statement itself is looked at: what comes next may be broken too.
    let text = &text[..end.copied().unwrap_or(text.len())];
    let stop = if end.is_some() { stop(rule, text).unwrap_or(whole) } else { whole };
    let read = Read { rule, text, stop, starts };
    let mistake = known(&read)
        .or_else(|| read.misspelt())
        .or_else(|| read.mended())
        .or_else(|| read.lacks_name())
        .unwrap_or_else(|| read.unexpected());
    Some(if mistake.patches.is_empty() { mistake.mend([read.take_out()]) } else { mistake })
}

/// The text with patches in it.
pub(super) fn mended(text: &str, patches: &[Patch]) -> String {
    let mut patches: Vec<&Patch> = patches.iter().collect();
    patches.sort_by_key(|patch| patch.start);
    patches.iter().rev().fold(text.to_owned(), |text, patch| patch.on(&text))
}

/// A text as far as it could be read.
pub(super) struct Read<'t> {
    pub(super) rule: Rule,
    pub(super) text: &'t str,
    pub(super) stop: Stop,
    /// Where statements begin.
    starts: Vec<usize>,
}

impl Read<'_> {
    /// The token that does not fit.
    pub(super) fn token(&self) -> Option<&Token> {
        self.stop.tokens.get(self.stop.at)
    }

    /// The token in front of it.
    pub(super) fn before(&self) -> Option<&Token> {
        self.stop.at.checked_sub(1).map(|before| &self.stop.tokens[before])
    }

    /// The text of the token so many places behind the one that does not fit, or in front of it.
    pub(super) fn word(&self, away: isize) -> &str {
        let token = self.stop.at.checked_add_signed(away).and_then(|at| self.stop.tokens.get(at));
        token.map_or("", |token| token.text(self.text))
    }

    /// Where a label says that something is missing.
    pub(super) fn here(&self) -> Token {
        let nothing = Token { kind: TokenKind::Sign, start: 0, end: 0 };
        self.before().or(self.token()).copied().unwrap_or(nothing)
    }

    /// The statement that is read, as far as it is right.
    pub(super) fn statement(&self) -> &str {
        let place = self.stop.place(self.text);
        let before = self.starts.iter().copied().rfind(|&start| start < place);
        self.text[before.unwrap_or(0)..place].trim()
    }

    /// Its first word.
    pub(super) fn lead(&self) -> &str {
        let statement = self.statement();
        words(statement).first().map_or("", |token| token.text(statement))
    }

    /// Whether the token that does not fit begins a statement.
    pub(super) fn at_start(&self) -> bool {
        self.token().is_some_and(|token| self.starts.contains(&token.start))
    }

    /// Whether the patches let the text be read beyond the token and the one behind it; if so, how
    /// much is still not read.
    pub(super) fn better(&self, patches: &[Patch]) -> Option<usize> {
        let behind = self.stop.tokens.get(self.stop.at + 1);
        let limit = behind.map_or(0, |behind| self.text.len() - behind.start);
        let rest = unread(self.rule, &mended(self.text, patches)).map_or(0, |rest| rest + 1);
        (rest <= limit).then_some(rest)
    }

    /// As little as has to go: the rest of the statement, or all of it.
    pub(super) fn take_out(&self) -> Patch {
        let (place, end) = (self.stop.place(self.text), self.text.len());
        let rest = Patch::erase(self.text, place, end);
        let has_rest = self.token().is_some() && !self.at_start();
        if has_rest && unread(self.rule, &rest.on(self.text)).is_none() {
            return rest;
        }
        let last = |most: usize| self.starts.iter().copied().rfind(|&start| start <= most);
        let start =
            if self.token().is_some() { last(place) } else { last(place.saturating_sub(1)) };
        Patch::erase(self.text, start.unwrap_or(0), end)
    }
}
