//! The words of a text with their places, comments apart.
//!
//! The grammar decides what a text means. Tokens are for everything that goes along it: brackets
//! that do not match, the word that a label points at, where a span really ends, and comments,
//! which the tree does not keep.

/// A word, a sign, a quoted name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// A name or a path.
    Word,
    /// Digits, and what hangs on to them.
    Number,
    /// `"…"`
    String,
    /// `"` without a second one in its line.
    OpenString,
    /// A sign of the language; `??` is one.
    Sign,
    /// `# …` up to the end of the line.
    Comment,
    /// Characters that mean nothing.
    Unknown,
}

impl Token {
    pub(crate) fn text<'t>(&self, text: &'t str) -> &'t str {
        &text[self.start..self.end]
    }

    pub(crate) fn is(&self, text: &str, what: &str) -> bool {
        self.text(text) == what
    }
}

/// All tokens, comments too.
pub(crate) fn scan(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        if matches!(first, ' ' | '\t' | '\r' | '\n') {
            at += 1;
            continue;
        }
        let (kind, length) = token(&text[at..], first);
        tokens.push(Token { kind, start: at, end: at + length });
        at += length;
    }
    tokens
}

/// All tokens that mean something.
pub(crate) fn words(text: &str) -> Vec<Token> {
    let mut tokens = scan(text);
    tokens.retain(|token| token.kind != TokenKind::Comment);
    tokens
}

/// The end of the last token that starts before `end`.
pub(crate) fn trimmed_end(tokens: &[Token], end: usize) -> usize {
    let after = tokens.partition_point(|token| token.start < end);
    after.checked_sub(1).map_or(end, |last| tokens[last].end.min(end))
}

fn token(rest: &str, first: char) -> (TokenKind, usize) {
    let line = || rest.find('\n').unwrap_or(rest.len());
    match first {
        '#' => (TokenKind::Comment, rest[..line()].trim_end().len()),
        '"' => match rest[1..].find(['"', '\n']) {
            Some(length) if rest[length + 1..].starts_with('"') => (TokenKind::String, length + 2),
            _ => (TokenKind::OpenString, rest[..line()].trim_end().len()),
        },
        '?' if rest.starts_with("??") => (TokenKind::Sign, 2),
        '{' | '}' | '(' | ')' | '[' | ']' | ':' | '=' | ',' | '|' | '?' | '+' | '-' | '*' | '/'
        | '%' | '<' | '>' => (TokenKind::Sign, 1),
        _ if first.is_ascii_digit() => (TokenKind::Number, word_length(rest)),
        _ if is_letter(first) => (TokenKind::Word, path_length(rest)),
        _ => {
            let known =
                |c: char| c.is_ascii_alphanumeric() || " \t\r\n#\"{}()[]:=,|?+-*/%<>_".contains(c);
            (TokenKind::Unknown, rest.find(known).unwrap_or(rest.len()))
        }
    }
}

fn is_letter(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

/// How long the word at the start is: a `-` counts if a letter or a digit follows.
fn word_length(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let mut length = 0;
    while let Some(&byte) = bytes.get(length) {
        let dash = byte == b'-' && bytes.get(length + 1).is_some_and(u8::is_ascii_alphanumeric);
        if !(byte.is_ascii_alphanumeric() || byte == b'_' || dash) {
            break;
        }
        length += 1;
    }
    length
}

fn path_length(rest: &str) -> usize {
    let mut length = word_length(rest);
    while rest[length..].starts_with('.') && rest[length + 1..].starts_with(is_letter) {
        length += 1 + word_length(&rest[length + 1..]);
    }
    length
}
