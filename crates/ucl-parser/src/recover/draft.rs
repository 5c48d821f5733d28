//! A text that is mended while it is read, and knows where every byte came from.

use ucl_ir::Span;

/// The text as it is read, and the way back to the text as it was written.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    source: u32,
    text: String,
    /// For every byte of `text`, and for its end, the place in what was written.
    origin: Vec<u32>,
}

/// One change of a [`Draft`]: what stands from `start` to `end` becomes `text`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Patch {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) text: String,
}

impl Patch {
    pub(crate) fn insert(at: usize, text: impl Into<String>) -> Patch {
        Patch { start: at, end: at, text: text.into() }
    }

    /// Blanks for what stands there; line ends stay.
    pub(crate) fn erase(text: &str, start: usize, end: usize) -> Patch {
        let blank = |byte: u8| if byte == b'\n' { '\n' } else { ' ' };
        Patch { start, end, text: text[start..end].bytes().map(blank).collect() }
    }

    /// The text with the patch in it.
    pub(crate) fn on(&self, text: &str) -> String {
        [&text[..self.start], &self.text, &text[self.end..]].concat()
    }
}

impl Draft {
    pub(crate) fn new(source: u32, text: &str) -> Draft {
        let origin = (0..=text.len()).map(narrow).collect();
        Draft { source, text: text.to_owned(), origin }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Where this stands in what was written.
    pub(crate) fn span(&self, start: usize, end: usize) -> Span {
        Span { source: self.source, start: self.origin[start], end: self.origin[end] }
    }

    /// Puts in all patches; they do not overlap.
    pub(crate) fn mend(&mut self, mut patches: Vec<Patch>) {
        if patches.is_empty() {
            return;
        }
        patches.sort_by_key(|patch| (patch.start, patch.end));
        let (mut text, mut origin) = (String::new(), Vec::new());
        let mut at = 0;
        for patch in patches {
            text.push_str(&self.text[at..patch.start]);
            text.push_str(&patch.text);
            origin.extend_from_slice(&self.origin[at..patch.start]);
            if patch.text.len() == patch.end - patch.start {
                origin.extend_from_slice(&self.origin[patch.start..patch.end]);
            } else {
                origin.resize(text.len(), self.origin[patch.start]);
            }
            at = patch.end;
        }
        text.push_str(&self.text[at..]);
        origin.extend_from_slice(&self.origin[at..]);
        (self.text, self.origin) = (text, origin);
    }
}

/// Spans are 32 bits wide; no spec comes near.
fn narrow(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
