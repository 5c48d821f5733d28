//! Brackets that do not match.
//!
//! Line ends mean nothing to the grammar. But people indent, and where a bracket is missing the
//! lines tell best where it belongs.

use super::draft::{Draft, Patch};
use crate::suggest::is_reserved;
use crate::tokens::{Token, TokenKind, words};
use ucl_ir::Diagnostic;

/// How deep brackets may be nested. Reading goes by recursion.
const DEEPEST: usize = 64;

/// How many brackets without a partner are shown. A text with more of them is no spec.
const MOST: usize = 64;

/// Reports brackets that have no partner and gives them one. False if they are nested too deep, or
/// too many are wrong, to go on.
pub(crate) fn mend_brackets(draft: &mut Draft, found: &mut Vec<Diagnostic>) -> bool {
    let (patches, readable) = {
        let text = draft.text();
        let tokens = words(text);
        let surplus = count(text, &tokens, "{") - count(text, &tokens, "}");
        let mut brackets = Brackets {
            draft,
            text,
            tokens: &tokens,
            open: Vec::new(),
            surplus,
            patches: Vec::new(),
            found,
        };
        let readable =
            (0..tokens.len()).all(|at| brackets.token(at) && brackets.patches.len() < MOST);
        if readable {
            brackets.close_all(tokens.len());
        }
        (brackets.patches, readable)
    };
    draft.mend(patches);
    readable
}

fn count(text: &str, tokens: &[Token], sign: &str) -> isize {
    tokens.iter().filter(|token| token.is(text, sign)).count().cast_signed()
}

struct Brackets<'b> {
    draft: &'b Draft,
    text: &'b str,
    tokens: &'b [Token],
    /// The tokens that opened what is not closed yet.
    open: Vec<usize>,
    /// How many more `{` than `}` there still are.
    surplus: isize,
    patches: Vec<Patch>,
    found: &'b mut Vec<Diagnostic>,
}

impl<'b> Brackets<'b> {
    /// Takes the next token; false if it nests too deep.
    fn token(&mut self, at: usize) -> bool {
        let word = self.tokens[at].text(self.text);
        self.end_groups(at, word);
        self.end_blocks(at, word);
        match word {
            "{" | "(" | "[" => {
                self.open.push(at);
                if self.open.len() > DEEPEST {
                    self.found.push(
                        Diagnostic::new("ucl::depth", "brackets are nested too deep")
                            .at(self.place(at), format!("the {}th one inside another", DEEPEST + 1))
                            .help(format!("nest at most {DEEPEST} brackets")),
                    );
                    return false;
                }
            }
            "}" => self.close_block(at),
            ")" | "]" => self.close_group(at, word),
            "model" | "view" | "layout" | "test" if self.starts_line(at) => self.close_all(at),
            _ => {}
        }
        true
    }

    /// Closes groups that this token cannot stand in.
    fn end_groups(&mut self, at: usize, word: &str) {
        // A reserved word in the middle of a line is a mistake of its own.
        let keyword = is_reserved(word) && self.starts_line(at);
        while let Some(&open) = self.open.last() {
            let inside = match self.text_of(open) {
                "(" => match self.tokens[at].kind {
                    TokenKind::Word => !keyword,
                    TokenKind::Number => true,
                    TokenKind::Sign => !matches!(word, "{" | "}" | ":" | "=" | "," | "["),
                    _ => false,
                },
                "[" => {
                    let names = self.tokens[open + 1].kind == TokenKind::Word;
                    match self.tokens[at].kind {
                        TokenKind::Word => names && !keyword,
                        TokenKind::Number => true,
                        _ => matches!(word, "," | "]" | ")") || names && word == "=",
                    }
                }
                _ => true,
            };
            if inside {
                return;
            }
            self.open.pop();
            let partner = if self.text_of(open) == "(" { ")" } else { "]" };
            // In another line the group most likely ended with its own.
            let line = self.line_of(open);
            let last = (open..at).take_while(|&token| self.line_of(token) == line).last();
            self.missing(open, last.unwrap_or(open), partner);
        }
    }

    /// Closes blocks whose lines are indented more than this token, if a `}` is missing somewhere.
    fn end_blocks(&mut self, at: usize, word: &str) {
        while let Some(&open) = self.open.last()
            && self.surplus > 0
            && word != "}"
            && self.text_of(open) == "{"
            && self.starts_line(at)
            && self.indent(at) <= self.indent(open)
            // Nothing follows from the indentation of a text without any.
            && at > open + 1
            && !(self.starts_line(open + 1) && self.indent(open + 1) <= self.indent(open))
        {
            self.open.pop();
            self.surplus -= 1;
            self.missing(open, at - 1, "}");
        }
    }

    fn close_group(&mut self, at: usize, word: &str) {
        let partner = |open| if open == "(" { ")" } else { "]" };
        let open = self.open.last().copied().filter(|&open| self.text_of(open) != "{");
        let Some(open) = open else { return self.closes_nothing(at, word) };
        self.open.pop();
        let bracket = self.text_of(open);
        let partner = partner(bracket);
        if partner == word {
            return;
        }
        self.found.push(
            Diagnostic::new("ucl::unclosed", format!("`{bracket}` is closed by `{word}`"))
                .at(self.place(at), format!("`{partner}` is expected"))
                .at(self.place(open), "opened here")
                .help(format!("write `{partner}`")),
        );
        self.patch(at, partner);
    }

    fn close_block(&mut self, at: usize) {
        // Blocks inside that are not closed, if the indentation says that this is not theirs.
        while let [.., outer, inner] = self.open[..]
            && self.surplus > 0
            && self.starts_line(at)
            && self.indent(at) < self.indent(inner)
            && self.indent(at) <= self.indent(outer)
        {
            self.open.pop();
            self.surplus -= 1;
            self.missing(inner, at - 1, "}");
        }
        if self.surplus < 0
            && let Some(head) = self.inline_head(at)
        {
            self.surplus += 1;
            return self.missing_open(head, at);
        }
        let misplaced = self.surplus < 0
            && self.starts_line(at)
            && self.open.last().is_none_or(|&open| self.indent(at) > self.indent(open));
        if misplaced || self.open.pop().is_none() {
            self.surplus += 1;
            match self.head_without_brace(at) {
                Some(head) => self.missing_open(head, at),
                None => self.closes_nothing(at, "}"),
            }
        }
    }

    /// Closes everything in front of a token.
    fn close_all(&mut self, at: usize) {
        while let Some(open) = self.open.pop() {
            let partner = match self.text_of(open) {
                "{" => "}",
                "(" => ")",
                _ => "]",
            };
            self.surplus -= isize::from(partner == "}");
            self.missing(open, at - 1, partner);
        }
    }

    /// `view hf` without a `{`, though a `}` follows at the same depth: its last token.
    fn head_without_brace(&self, at: usize) -> Option<usize> {
        let indent = self.indent(at);
        let head =
            (0..at).rev().find(|&token| self.starts_line(token) && self.indent(token) <= indent)?;
        let line = self.line_of(head);
        let last = (head..at).take_while(|&token| self.line_of(token) == line).last()?;
        let opens = matches!(
            self.text_of(head),
            "model" | "view" | "layout" | "test" | "each" | "under" | "from"
        );
        (opens && !(head..=last).any(|token| self.text_of(token) == "{")).then_some(last)
    }

    /// `each l a : h }` in one line: the last token of its head.
    fn inline_head(&self, at: usize) -> Option<usize> {
        let line = self.line_of(at);
        let first = (0..at).rev().take_while(|&token| self.line_of(token) == line).last()?;
        let last = match self.text_of(first) {
            "test" => first,
            "each" | "from" | "under" | "model" | "view" | "layout" => first + 1,
            _ => return None,
        };
        let opens = (first..at).any(|token| self.text_of(token) == "{");
        (last < at && !opens).then_some(last)
    }

    fn missing_open(&mut self, last: usize, at: usize) {
        self.found.push(
            Diagnostic::new("ucl::unclosed", "a `{` is missing")
                .at(self.place(last), "`{` is missing behind this")
                .at(self.place(at), "this `}` closes the block"),
        );
        self.patches.push(Patch::insert(self.tokens[last].end, " {"));
    }

    fn missing(&mut self, open: usize, last: usize, partner: &str) {
        let opened = self.text_of(open);
        self.found.push(
            Diagnostic::new("ucl::unclosed", format!("a `{opened}` is not closed"))
                .at(self.place(last), format!("a `{partner}` is missing behind this"))
                .at(self.place(open), "opened here"),
        );
        // Two of them at one place: the inner one was found first and stands first.
        self.patches.push(Patch::insert(self.tokens[last].end, format!(" {partner}")));
    }

    fn closes_nothing(&mut self, at: usize, word: &str) {
        let open = match word {
            "}" => "{",
            ")" => "(",
            _ => "[",
        };
        self.found.push(
            Diagnostic::new("ucl::unclosed", format!("a `{word}` closes nothing"))
                .at(self.place(at), format!("no `{open}` is open here"))
                .help(format!("take it away, or put in the `{open}` that is missing")),
        );
        self.patch(at, " ");
    }

    fn patch(&mut self, at: usize, text: &str) {
        let Token { start, end, .. } = self.tokens[at];
        self.patches.push(Patch { start, end, text: text.to_owned() });
    }

    fn place(&self, at: usize) -> ucl_ir::Span {
        self.draft.span(self.tokens[at].start, self.tokens[at].end)
    }

    fn text_of(&self, at: usize) -> &'b str {
        self.tokens[at].text(self.text)
    }

    /// Where the line of a token begins.
    fn line_of(&self, at: usize) -> usize {
        super::line_start(self.text, self.tokens[at].start)
    }

    fn starts_line(&self, at: usize) -> bool {
        self.text[self.line_of(at)..self.tokens[at].start].trim().is_empty()
    }

    /// How far the line of a token is indented.
    fn indent(&self, at: usize) -> usize {
        super::indent(self.text, self.tokens[at].start)
    }
}
