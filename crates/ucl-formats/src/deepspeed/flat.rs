//! The flat buffer of a parameter group, and how data ranks cut it.
//!
//! ZeRO-1, ZeRO-2 and BF16_Optimizer lay the parameters of a group end to end, append zeros until
//! twice the number of ranks divides the length, and give each rank an equal part
//! (`runtime/zero/stage_1_and_2.py`, `runtime/bf16_optimizer.py`). What is saved of a part may lack
//! its zeros at the end, so the width comes from the whole and never from a saved tensor.

use super::layout::{Held, Layout};

/// Each rank's part begins at a multiple of this many elements (`nccl_start_alignment_factor`).
const START_ALIGNMENT: u64 = 2;

/// A parameter in the buffer of its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    /// Its elements.
    pub(super) numel: u64,
    /// Elements behind it that belong to nothing (`param_alignment_paddings`).
    pub(super) gap: u64,
}

/// A group's buffer, cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flat {
    /// First element of each slot, and what it holds.
    spans: Vec<(u64, u64)>,
    /// Elements without the zeros at the end.
    total: u64,
    /// Elements of one rank's part.
    width: u64,
}

impl Flat {
    /// Lays out a group over `ranks` data ranks; nothing if the sizes overflow.
    pub(super) fn new(slots: &[Slot], ranks: u64) -> Option<Flat> {
        let mut spans = Vec::with_capacity(slots.len());
        let mut total = 0u64;
        for slot in slots {
            spans.push((total, slot.numel));
            total = total.checked_add(slot.numel)?.checked_add(slot.gap)?;
        }
        let padded = total.checked_next_multiple_of(START_ALIGNMENT.checked_mul(ranks)?)?;
        Some(Flat { spans, total, width: padded / ranks })
    }

    /// The first slot that a rank's part holds anything of, where in the part, and how much.
    pub(super) fn first(&self, rank: u64) -> Option<(usize, u64, u64)> {
        self.held(rank, self.width).next().map(|held| (held.slot, held.at, held.len))
    }

    /// The slots that a rank's part holds anything of, ascending, and their elements.
    pub(super) fn met(&self, rank: u64) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.held(rank, self.width).map(|held| (held.slot, self.spans[held.slot].1))
    }
}

impl Layout for Flat {
    fn slots(&self) -> usize {
        self.spans.len()
    }

    fn told(&self) -> String {
        format!("its part of {} elements", self.total)
    }

    fn width(&self, _: u64) -> u64 {
        self.width
    }

    fn stripped(&self, rank: u64) -> u64 {
        self.total.saturating_sub(rank * self.width).min(self.width)
    }

    fn held(&self, rank: u64, len: u64) -> Box<dyn Iterator<Item = Held> + '_> {
        let (low, high) = (rank * self.width, (rank * self.width).saturating_add(len));
        let first = self.spans.partition_point(|(start, numel)| start + numel <= low);
        let held = self.spans[first..]
            .iter()
            .enumerate()
            .take_while(move |(_, (start, _))| *start < high)
            .filter_map(move |(index, &(start, numel))| {
                let (from, to) = (start.max(low), (start + numel).min(high));
                let (slot, start, at) = (first + index, from - start, from - low);
                (from < to).then(|| Held { slot, start, len: to - from, at })
            });
        Box::new(held)
    }
}

#[cfg(test)]
mod tests {
    use super::super::layout::Part;
    use super::*;
    use crate::inventory::Run;

    fn flat(sizes: &[(u64, u64)], ranks: u64) -> Flat {
        let slots: Vec<_> = sizes.iter().map(|&(numel, gap)| Slot { numel, gap }).collect();
        Flat::new(&slots, ranks).unwrap()
    }

    fn parts(lens: &[u64]) -> Vec<Part> {
        let part = |(file, len): (usize, &u64)| Part {
            file: file as u32,
            offset: 100,
            len: *len,
            size: 4,
        };
        lens.iter().enumerate().map(part).collect()
    }

    #[test]
    fn the_width_comes_from_the_padded_whole() {
        let flat = flat(&[(77, 0), (35, 0), (35, 0)], 2);
        assert_eq!((flat.total, flat.width, flat.stripped(1)), (147, 74, 73));
        let run = |start, len, file, offset| Run { start, len, file, offset };
        assert_eq!(
            flat.runs(&parts(&[74, 73])),
            [
                vec![run(0, 74, 0, 100), run(74, 3, 1, 100)],
                vec![run(0, 35, 1, 112)],
                vec![run(0, 35, 1, 252)],
            ]
        );
        assert_eq!(flat.padding(1, 73), []);
        assert_eq!(flat.padding(1, 74), [(73, 1)]);
    }

    #[test]
    fn gaps_are_padding() {
        let flat = flat(&[(1, 7), (5, 3), (5, 3), (5, 3), (5, 0)], 2);
        assert_eq!((flat.total, flat.width), (37, 20));
        assert_eq!(flat.padding(0, 20), [(1, 7), (13, 3)]);
        assert_eq!(flat.padding(1, 20), [(1, 3), (9, 3), (17, 3)]);
    }

    #[test]
    fn parts_may_hold_nothing() {
        let one = flat(&[(1, 0)], 3);
        assert_eq!((one.width, one.stripped(0), one.stripped(1), one.stripped(2)), (2, 1, 0, 0));
        assert_eq!(one.padding(2, 2), [(0, 2)]);
        assert_eq!(one.runs(&parts(&[1, 0, 0]))[0].len(), 1);
        let none = flat(&[], 2);
        assert_eq!((none.width, none.padding(0, 0)), (0, vec![]));
        let empty = flat(&[(0, 0), (3, 0), (0, 0)], 1);
        assert_eq!(empty.runs(&parts(&[4])).iter().map(Vec::len).collect::<Vec<_>>(), [0, 1, 0]);
        assert_eq!(Flat::new(&[Slot { numel: u64::MAX, gap: 1 }], 1), None);
    }
}
