//! How parameters lie in a flat tensor that data ranks share: which elements of which parameter each
//! rank's part holds. Everything else in a part is padding.

use crate::inventory::{FileId, Run};

/// A saved part: a contiguous tensor in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// The file.
    pub(super) file: FileId,
    /// Its first byte.
    pub(super) offset: u64,
    /// Its elements.
    pub(super) len: u64,
    /// Bytes of an element.
    pub(super) size: u64,
}

/// What a part holds of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// The parameter, by its place in the order of the shapes.
    pub(super) slot: usize,
    /// The first element within the parameter.
    pub(super) start: u64,
    /// How many.
    pub(super) len: u64,
    /// The first element within the part.
    pub(super) at: u64,
}

/// A flat tensor, cut.
pub(super) trait Layout {
    /// How many parameters it has.
    fn slots(&self) -> usize;

    /// What a rank's part is, for a person.
    fn told(&self) -> String;

    /// Elements of a rank's part.
    fn width(&self, rank: u64) -> u64;

    /// Elements of a rank's part if the zeros at its end were taken off.
    fn stripped(&self, rank: u64) -> u64;

    /// What the first `len` elements of a rank's part hold, ascending.
    fn held(&self, rank: u64, len: u64) -> Box<dyn Iterator<Item = Held> + '_>;

    /// The runs of each parameter, over all parts in the order of their ranks; where several ranks hold
    /// the same elements, the runs of one copy follow those of another.
    fn runs(&self, parts: &[Part]) -> Vec<Vec<Run>> {
        let mut runs = vec![Vec::new(); self.slots()];
        for (rank, part) in parts.iter().enumerate() {
            for Held { slot, start, len, at } in self.held(rank as u64, part.len) {
                let offset = part.offset + at * part.size;
                runs[slot].push(Run { start, len, file: part.file, offset });
            }
        }
        runs
    }

    /// What no parameter holds of a part of `len` elements: `(start, len)` within the part, ascending.
    fn padding(&self, rank: u64, len: u64) -> Vec<(u64, u64)> {
        let mut padding = Vec::new();
        let mut free = 0;
        for held in self.held(rank, len) {
            if held.at > free {
                padding.push((free, held.at - free));
            }
            free = held.at + held.len;
        }
        if free < len {
            padding.push((free, len - free));
        }
        padding
    }
}
