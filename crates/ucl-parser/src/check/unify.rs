//! Whether two templates have a name in common, and an example of one.
//!
//! Letters are compared; a number against letters is a constant, a number against a number an
//! equation between the two. What remains is a system of differences: an index is at least 0 and
//! less than the number of indices of its dim, which both templates share. So `{l + 2}.weight` is
//! never `{#l + 2}.weight`.

use super::differences::{System, ZERO};
use ucl_ir::{Segment, Template};

/// A part of a name, letter by letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Letter(char),
    Number { dim: String, plus: u64, is_count: bool },
    Any,
}

pub(super) fn tokens(template: &Template) -> Vec<Token> {
    let mut tokens = Vec::new();
    for segment in &template.segments {
        match segment {
            Segment::Text(text) => tokens.extend(text.chars().map(Token::Letter)),
            Segment::Index { dim, plus } => {
                tokens.push(Token::Number { dim: dim.clone(), plus: *plus, is_count: false });
            }
            Segment::Count { dim, plus } => {
                tokens.push(Token::Number { dim: dim.clone(), plus: *plus, is_count: true });
            }
            Segment::Any => tokens.push(Token::Any),
        }
    }
    tokens
}

/// A name that both templates spell; `None` if there is none.
pub(super) fn example(a: &[Token], b: &[Token]) -> Option<String> {
    // Most pairs differ in a letter before the first number or after the last one.
    if differ(a.iter().zip(b)) || differ(a.iter().rev().zip(b.iter().rev())) {
        return None;
    }
    let mut search =
        Search { tokens: [a, b], equal: Vec::new(), name: String::new(), answer: None };
    search.meet(At::new(0), At::new(1));
    search.answer
}

/// Whether two names differ in a letter before there is a number in either.
fn differ<'a>(pairs: impl Iterator<Item = (&'a Token, &'a Token)>) -> bool {
    for (a, b) in pairs {
        match (a, b) {
            (Token::Letter(x), Token::Letter(y)) if x == y => {}
            (Token::Letter(_), Token::Letter(_)) => return true,
            (Token::Letter(x), Token::Number { .. }) | (Token::Number { .. }, Token::Letter(x)) => {
                return !x.is_ascii_digit();
            }
            _ => return false,
        }
    }
    false
}

/// One side's place.
#[derive(Clone, Debug)]
struct At {
    side: usize,
    token: usize,
    inside: Option<Inside>,
}

/// A number of which some digits are read.
#[derive(Clone, Debug)]
struct Inside {
    /// The digits, if all are letters of the other side.
    digits: Option<String>,
    /// Whether it must not end yet.
    open: bool,
}

impl At {
    fn new(side: usize) -> At {
        At { side, token: 0, inside: None }
    }

    fn next(&self) -> At {
        At { side: self.side, token: self.token + 1, inside: None }
    }

    fn within(&self, digits: Option<String>, open: bool) -> At {
        At { inside: Some(Inside { digits, open }), ..*self }
    }
}

/// A value that has to equal another.
#[derive(Clone, Debug)]
enum Value {
    Constant(u64),
    /// A number token of a side.
    Token(usize, usize),
}

struct Search<'a> {
    tokens: [&'a [Token]; 2],
    equal: Vec<(Value, Value)>,
    /// The name so far; numbers as `\0side,token\0`, filled in at the end.
    name: String,
    answer: Option<String>,
}

impl Search<'_> {
    fn token(&self, at: &At) -> Option<&Token> {
        self.tokens[at.side].get(at.token)
    }

    /// Whether the rests of both sides can be the same; leaves the answer.
    fn meet(&mut self, a: At, b: At) -> bool {
        // The side inside a number is `a`; both never are.
        let (a, b) = if b.inside.is_some() { (b, a) } else { (a, b) };
        if let Some(inside) = a.inside.clone() {
            return self.inside(&a, &inside, &b);
        }
        match (self.token(&a).cloned(), self.token(&b).cloned()) {
            (None, None) => self.solve(),
            (Some(Token::Any), _) => self.any(&a, &b),
            (_, Some(Token::Any)) => self.any(&b, &a),
            (Some(Token::Letter(x)), Some(Token::Letter(y))) => {
                x == y && self.letter(x, |search| search.meet(a.next(), b.next()))
            }
            (Some(Token::Number { .. }), Some(Token::Number { .. })) => self.numbers(&a, &b),
            (Some(Token::Number { .. }), Some(Token::Letter(y))) => self.start(&a, &b, y),
            (Some(Token::Letter(x)), Some(Token::Number { .. })) => self.start(&b, &a, x),
            (None, Some(_)) | (Some(_), None) => false,
        }
    }

    /// A number begins where the other side has a letter.
    fn start(&mut self, a: &At, b: &At, letter: char) -> bool {
        letter.is_ascii_digit()
            && self.letter(letter, |search| {
                search.meet(a.within(Some(letter.to_string()), false), b.next())
            })
    }

    /// Two numbers begin at one place.
    fn numbers(&mut self, a: &At, b: &At) -> bool {
        self.equal.push((Value::Token(a.side, a.token), Value::Token(b.side, b.token)));
        let known = self.name.len();
        self.name.push_str(&format!("\0{},{}\0", a.side, a.token));
        if self.meet(a.next(), b.next()) {
            return true;
        }
        self.name.truncate(known);
        self.equal.pop();
        // Or one of them ends before the other: letters that are digits follow.
        self.digit(|search| {
            search.meet(a.next(), b.within(None, true))
                || search.meet(a.within(None, true), b.next())
        })
    }

    fn inside(&mut self, a: &At, inside: &Inside, b: &At) -> bool {
        if !inside.open && self.end(a, inside, b) {
            return true;
        }
        match self.token(b).cloned() {
            Some(Token::Letter(letter)) if letter.is_ascii_digit() => {
                let digits = inside.digits.as_ref().map(|digits| format!("{digits}{letter}"));
                self.letter(letter, |search| search.meet(a.within(digits, false), b.next()))
            }
            // The other side's number is the rest of this one, or more, or less.
            Some(Token::Number { .. }) => self.digit(|search| {
                search.meet(a.next(), b.next())
                    || search.meet(a.within(None, true), b.next())
                    || search.meet(a.next(), b.within(None, true))
            }),
            Some(Token::Any) => {
                self.meet(a.within(inside.digits.clone(), inside.open), b.next())
                    || self.digit(|search| {
                        search.meet(a.next(), b.clone())
                            || search.meet(a.within(None, false), b.next())
                    })
            }
            Some(Token::Letter(_)) | None => false,
        }
    }

    /// The number ends here.
    fn end(&mut self, a: &At, inside: &Inside, b: &At) -> bool {
        let Some(digits) = &inside.digits else { return self.meet(a.next(), b.clone()) };
        if digits.len() > 1 && digits.starts_with('0') {
            return false;
        }
        let Ok(value) = digits.parse() else { return false };
        self.equal.push((Value::Token(a.side, a.token), Value::Constant(value)));
        let met = self.meet(a.next(), b.clone());
        self.equal.pop();
        met
    }

    /// `*` takes nothing, or the next part of the other side.
    fn any(&mut self, a: &At, b: &At) -> bool {
        if self.meet(a.next(), b.clone()) {
            return true;
        }
        match self.token(b).cloned() {
            Some(Token::Letter(letter)) => {
                self.letter(letter, |search| search.meet(a.clone(), b.next()))
            }
            Some(Token::Number { .. }) => {
                let known = self.name.len();
                self.name.push_str(&format!("\0{},{}\0", b.side, b.token));
                if self.meet(a.clone(), b.next()) {
                    return true;
                }
                self.name.truncate(known);
                self.digit(|search| search.meet(a.next(), b.within(None, false)))
            }
            Some(Token::Any) | None => false,
        }
    }

    fn letter(&mut self, letter: char, then: impl FnOnce(&mut Self) -> bool) -> bool {
        self.name.push(letter);
        let met = then(self);
        if !met {
            self.name.pop();
        }
        met
    }

    /// A digit that could be any.
    fn digit(&mut self, then: impl FnOnce(&mut Self) -> bool) -> bool {
        self.letter('7', then)
    }

    /// Whether numbers exist that satisfy all equations; writes the name with the least ones.
    fn solve(&mut self) -> bool {
        let mut system = System::default();
        for (a, b) in &self.equal {
            let (a, b) = (self.linear(&mut system, a), self.linear(&mut system, b));
            system.equal(a, b);
        }
        let mut holes = Vec::new();
        for (number, part) in self.name.split('\0').enumerate() {
            if number % 2 == 1
                && let Some((side, token)) = part.split_once(',')
                && let (Ok(side), Ok(token)) = (side.parse(), token.parse())
            {
                holes.push(self.linear(&mut system, &Value::Token(side, token)));
            }
        }
        let Some(least) = system.solve() else { return false };
        let mut holes = holes.into_iter();
        let mut name = String::new();
        for (number, part) in self.name.split('\0').enumerate() {
            match number % 2 {
                0 => name.push_str(part),
                _ => {
                    let value = holes.next().map_or(0, |(variable, plus)| least[variable] + plus);
                    name.push_str(&value.to_string());
                }
            }
        }
        self.answer = Some(name);
        true
    }

    /// A value as a variable and what is added to it.
    fn linear(&self, system: &mut System, value: &Value) -> (usize, i64) {
        match value {
            Value::Constant(constant) => (ZERO, i64::try_from(*constant).unwrap_or(i64::MAX / 4)),
            Value::Token(side, token) => match &self.tokens[*side][*token] {
                Token::Number { dim, plus, is_count } => {
                    let plus = i64::try_from(*plus).unwrap_or(i64::MAX / 4);
                    let variable =
                        if *is_count { system.count(dim) } else { system.index(*side, dim) };
                    (variable, plus)
                }
                _ => (ZERO, 0),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens_of(text: &str) -> Vec<Token> {
        let mut tokens = Vec::new();
        for (number, part) in text.split(['{', '}']).enumerate() {
            if number % 2 == 0 {
                tokens.extend(
                    part.chars().map(|c| if c == '*' { Token::Any } else { Token::Letter(c) }),
                );
                continue;
            }
            let (dim, plus) = part.split_once('+').unwrap_or((part, "0"));
            let is_count = dim.starts_with('#');
            let dim = dim.trim_start_matches('#').to_owned();
            tokens.push(Token::Number { dim, plus: plus.parse().unwrap(), is_count });
        }
        tokens
    }

    fn meet(a: &str, b: &str) -> Option<String> {
        let found = example(&tokens_of(a), &tokens_of(b));
        assert_eq!(found.is_some(), example(&tokens_of(b), &tokens_of(a)).is_some());
        found
    }

    #[test]
    fn letters() {
        assert_eq!(meet("a.b", "a.b").as_deref(), Some("a.b"));
        assert_eq!(meet("a.b", "a.bc"), None);
        assert_eq!(meet("a.{l}.b", "a.{l}.c"), None);
    }

    #[test]
    fn numbers_have_ranges() {
        assert_eq!(meet("{l+2}.weight", "{#l+2}.weight"), None);
        assert_eq!(meet("{l+3}.weight", "{#l+2}.weight").as_deref(), Some("3.weight"));
        assert_eq!(meet("{l+2}.weight", "1.weight"), None);
        assert_eq!(meet("{l+2}.weight", "2.weight").as_deref(), Some("2.weight"));
        assert_eq!(meet("{l+2}.weight", "02.weight"), None);
        assert_eq!(meet("{#l+2}.weight", "2.weight"), None);
        assert_eq!(meet("{#l+2}.weight", "{#l+3}.weight"), None);
        assert_eq!(meet("{l}.{l}.x", "1.2.x"), None);
        assert_eq!(meet("{l}.{l}.x", "{l}.{e}.x").as_deref(), Some("0.0.x"));
        assert_eq!(meet("{l}.{#l}.x", "5.5.x"), None);
        assert_eq!(meet("{l}.{#l}.x", "5.6.x").as_deref(), Some("5.6.x"));
    }

    #[test]
    fn numbers_may_lie_across_letters() {
        assert!(meet("w{e}", "w1{e}").is_some());
        assert!(meet("w{e}x", "w{e}1x").is_some());
        assert_eq!(meet("w{e}.x", "wa.x"), None);
    }

    #[test]
    fn any_text() {
        assert!(meet("*._extra_state*", "a.{l}._extra_state").is_some());
        assert!(meet("*", "{l}").is_some());
        assert!(meet("a.*.b", "a.{l}.c.b").is_some());
        assert_eq!(meet("*._extra_state*", "a.{l}.weight"), None);
        assert_eq!(meet("*x", "a.{l}"), None);
    }
}
