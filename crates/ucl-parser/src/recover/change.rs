//! Changes that would mend a statement.

use super::draft::Patch;
use super::expected::{between_statements, starters};
use super::mistake::{Mistake, Read};
use super::stop::wants_instead;
use crate::suggest::{is_reserved, nearest};
use crate::tokens::{Token, TokenKind};
use std::collections::BTreeSet;

/// The kinds of changes, the likeliest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    /// `=` and `:` change places.
    Swap,
    /// `=` for `:`, or `:` for `=`.
    Turn,
    /// A sign is put in.
    Sign,
    /// A keyword is put in.
    Keyword,
    /// A sign takes the place of another.
    Replace,
    /// A token goes.
    Remove,
}

impl Read<'_> {
    /// A word that is nearly a keyword; the one in front too, which may have passed for a name.
    pub(super) fn misspelt(&self) -> Option<Mistake> {
        let wants = &self.stop.wants.words;
        let wanted = self.token().and_then(|token| self.keyword_for(token, wants));
        wanted.or_else(|| {
            let before = self.before()?;
            self.keyword_for(before, &wants_instead(self.rule, self.text, before).words)
        })
    }

    fn keyword_for(&self, token: &Token, wants: &BTreeSet<String>) -> Option<Mistake> {
        let word = token.text(self.text);
        if token.kind != TokenKind::Word {
            return None;
        }
        let meant = nearest(word, wants.iter().map(String::as_str))?;
        let patch = Patch { start: token.start, end: token.end, text: meant.to_owned() };
        self.better(std::slice::from_ref(&patch))?;
        let message = format!("`{word}` is not a word of the language");
        let label = format!("did you mean `{meant}`?");
        let mistake = Mistake::new("ucl::misspelt", message, token, label);
        Some(mistake.mend([patch]).show(self.text))
    }

    /// A sign that is missing, too much, or another one than it should be: the change that lets
    /// most be read.
    pub(super) fn mended(&self) -> Option<Mistake> {
        if self.at_start() && between_statements(self.rule, &self.stop.wants) {
            return None;
        }
        let tried = self.changes().into_iter();
        let tried = tried
            .filter_map(|(kind, mistake)| Some(((self.better(&mistake.patches)?, kind), mistake)));
        let mut tried: Vec<_> = tried.collect();
        tried.sort_by_key(|(rank, _)| *rank);
        // Of two keywords that do as well nobody knows which was meant.
        if let [((_, Change::Keyword), _), ((_, Change::Keyword), _), ..] = tried[..] {
            return None;
        }
        tried.into_iter().next().map(|(_, mistake)| mistake.show(self.text))
    }

    /// `"a" = v h : embed`
    fn swap(&self) -> Option<(Change, Mistake)> {
        let (token, word) = (self.token()?, self.word(0));
        let other = match word {
            "=" => ":",
            ":" => "=",
            _ => return None,
        };
        let behind = self.stop.tokens[self.stop.at + 1..].iter();
        let second =
            behind.take_while(|t| t.kind != TokenKind::String).find(|t| t.is(self.text, other))?;
        let set = |token: &Token, text: &str| Patch {
            start: token.start,
            end: token.end,
            text: text.to_owned(),
        };
        let mut mistake = Mistake::new(
            "ucl::swapped",
            "`:` and `=` have changed places",
            token,
            format!("`{other}` belongs here"),
        );
        mistake.labels.push((second.start, second.end, format!("and `{word}` here")));
        Some((Change::Swap, mistake.mend([set(token, other), set(second, word)])))
    }

    /// Everything that may be tried.
    fn changes(&self) -> Vec<(Change, Mistake)> {
        let wants = &self.stop.wants;
        // A `?` or a `-` changes the meaning, nobody forgets it; and brackets are paired by now.
        let signs = wants.signs.iter().filter(|sign| !"?-1{}()[]".contains(sign.as_str()));
        let begins = starters(self.rule);
        let words =
            wants.words.iter().filter(|word| !(wants.name || begins.contains(&word.as_str())));
        let mut changes = Vec::from_iter(self.swap());
        changes.extend(signs.clone().filter_map(|sign| self.replace(sign)));
        changes.extend(signs.map(|sign| (Change::Sign, self.insert(sign))));
        changes.extend(words.map(|word| (Change::Keyword, self.insert(word))));
        changes.extend(self.equals());
        changes.extend(self.leave_out());
        changes
    }

    /// `"a" : v h embed`: the parameter has passed for a dim.
    fn equals(&self) -> Option<(Change, Mistake)> {
        let before = self.before().filter(|before| before.kind == TokenKind::Word)?;
        let shape = self.stop.tokens.get(self.stop.at.checked_sub(2)?)?;
        if !self.stop.wants.signs.contains("=")
            || shape.is(self.text, ":")
            || !self.lead().starts_with('"')
        {
            return None;
        }
        // A dim has a short name; then the parameter is missing as well.
        if before.end - before.start < 3 {
            let message =
                format!("`=` and a parameter are missing behind `{}`", before.text(self.text));
            let mistake = Mistake::new(
                "ucl::missing",
                message,
                before,
                "of which parameter is this the shape?",
            );
            return Some((Change::Sign, mistake.mend([self.take_out()])));
        }
        let message = "`=` is missing between shape and parameter";
        let mistake = Mistake::new("ucl::missing", message, shape, "`=` is missing behind this");
        Some((Change::Sign, mistake.mend([Patch::insert(before.start, "= ")])))
    }

    fn replace(&self, sign: &str) -> Option<(Change, Mistake)> {
        let token = self.token().filter(|token| token.kind == TokenKind::Sign)?;
        let word = token.text(self.text);
        if !matches!((word, sign), (":" | "=", ":" | "=") | ("," | "/", "|") | ("|", ",")) {
            return None;
        }
        let patch = Patch { start: token.start, end: token.end, text: sign.to_owned() };
        let message = format!("`{sign}` is expected, not `{word}`");
        let mistake =
            Mistake::new("ucl::unexpected", message, token, format!("`{sign}` belongs here"));
        let kind = if matches!(sign, ":" | "=") { Change::Turn } else { Change::Replace };
        Some((kind, mistake.mend([patch])))
    }

    fn insert(&self, what: &str) -> Mistake {
        let here = self.here();
        let patch = match what {
            "," => Patch::insert(here.end, ","),
            _ => Patch::insert(here.end, format!(" {what} ")),
        };
        let behind = here.text(self.text);
        let message = match (what, self.lead()) {
            (":", lead) if lead.starts_with('"') => {
                "`:` is missing between name and shape".to_owned()
            }
            ("=", lead) if lead.starts_with('"') => {
                "`=` is missing between shape and parameter".to_owned()
            }
            (":", _) => format!("`:` is missing between `{behind}` and its dims"),
            ("|", lead) if lead.starts_with('"') => {
                "`|` is missing between two parameters".to_owned()
            }
            _ => format!("`{what}` is missing"),
        };
        Mistake::new("ucl::missing", message, &here, format!("`{what}` is missing behind this"))
            .mend([patch])
    }

    fn leave_out(&self) -> Option<(Change, Mistake)> {
        let token = self.token()?;
        let word = token.text(self.text);
        // In front of a reserved word something is missing, rather; so it is where a name does.
        let lacks = is_reserved(word) || self.lacks_name().is_some();
        if "{}()[]".contains(word) || self.at_start() || lacks {
            return None;
        }
        let patch = Patch::erase(self.text, token.start, token.end);
        let mistake = Mistake::new(
            "ucl::unexpected",
            format!("`{word}` is too much here"),
            token,
            "does not belong here",
        );
        Some((Change::Remove, mistake.mend([patch])))
    }
}
