//! Words for a person. Names come from files and may hold anything.

use std::fmt::Write;
use ucl_ir::Mesh;

/// A text whose control characters are spelled out; line ends stay.
pub(crate) fn clean(text: &str) -> String {
    escaped(text, |c| c == '\n')
}

/// A name in one line: control characters and line ends are spelled out.
pub(crate) fn name(text: &str) -> String {
    escaped(text, |_| false)
}

fn escaped(text: &str, stays: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let hidden = c.is_control() || is_reordering(c);
        if hidden && !stays(c) {
            let _ = write!(out, "{}", c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// Marks that make a terminal show other text than there is.
fn is_reordering(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// How many columns a text without control characters takes; wide letters count as one.
pub(super) fn columns(text: &str) -> usize {
    text.chars().count()
}

/// `tp=2 pp=2 dp=1`
pub(crate) fn mesh(mesh: &Mesh) -> String {
    let axes = mesh.iter().map(|(axis, size)| format!("{}={size}", name(axis)));
    axes.collect::<Vec<_>>().join(" ")
}

/// `l=4 h=32`
pub(crate) fn dims(dims: &indexmap::IndexMap<String, u64>) -> String {
    mesh(dims)
}

/// `[32, 64]`
pub(crate) fn shape(shape: &[u64]) -> String {
    let sizes: Vec<String> = shape.iter().map(u64::to_string).collect();
    format!("[{}]", sizes.join(", "))
}

/// The first few of many, and how many more there are.
pub(crate) fn list<'a>(names: impl IntoIterator<Item = &'a str>, most: usize) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    let shown: Vec<String> = names.iter().take(most).map(|one| name(one)).collect();
    match names.len().saturating_sub(most) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// A word as a shell takes it.
pub(crate) fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// The names most like a word that was typed: those that hold it, else those of few edits.
pub(crate) fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut scored: Vec<(usize, &str)> = Vec::new();
    for name in names {
        let score = if name.contains(word) || word.contains(name) {
            name.len().abs_diff(word.len()) / 8
        } else {
            edits(word, name)
        };
        if score <= 2 + word.len() / 3 {
            scored.push((score, name));
        }
    }
    scored.sort_unstable();
    scored.dedup();
    scored.into_iter().map(|(_, name)| name).take(4).collect()
}

/// How many letters have to be added, taken or changed.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(400).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, one) in a.chars().take(400).enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let changed = diagonal + usize::from(one != *other);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_steer_a_terminal() {
        assert_eq!(name("a\u{1b}[31mb\n"), "a\\u{1b}[31mb\\u{a}");
        assert_eq!(clean("a\nb\u{202e}"), "a\nb\\u{202e}");
        assert_eq!(name("plain.ü"), "plain.ü");
    }

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(shell_word("--set"), "--set");
        assert_eq!(shell_word("k=8"), "k=8");
        assert_eq!(shell_word("my run"), "'my run'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
        assert_eq!(shell_word(""), "''");
    }

    #[test]
    fn the_nearest_names_come_first() {
        assert_eq!(edits("kitten", "sitting"), 3);
        let names = ["l.0.attn.q", "l.1.attn.q", "embed", "norm"];
        assert_eq!(nearest("l.0.attn.p", names)[0], "l.0.attn.q");
        assert_eq!(nearest("embde", names), ["embed"]);
        assert!(nearest("zzzzzzzzzz", names).is_empty());
    }
}
