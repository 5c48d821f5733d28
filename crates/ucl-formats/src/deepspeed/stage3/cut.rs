//! How ZeRO-3 cuts: each parameter by itself, padded so that all ranks get the same.

use super::super::join::numel;
use super::super::layout::{Held, Layout};

/// Parameters, each cut over all ranks; a rank's pieces lie one behind the other.
#[derive(Debug)]
pub(super) struct Cut {
    slots: Vec<Slot>,
    total: u64,
    width: u64,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// Elements of the whole parameter.
    numel: u64,
    /// Elements of a rank's piece, its padding included.
    piece: u64,
    /// Where the piece begins in a rank's part.
    at: u64,
}

impl Cut {
    /// Cuts parameters over `ranks` data ranks; nothing if the sizes overflow.
    pub(super) fn new<'s>(shapes: impl Iterator<Item = &'s Vec<u64>>, ranks: u64) -> Option<Cut> {
        let mut cut = Cut { slots: Vec::new(), total: 0, width: 0 };
        for shape in shapes {
            let numel = numel(shape)?;
            let piece = numel.div_ceil(ranks.max(1));
            cut.slots.push(Slot { numel, piece, at: cut.width });
            cut.total = cut.total.checked_add(numel)?;
            cut.width = cut.width.checked_add(piece)?;
        }
        Some(cut)
    }
}

impl Layout for Cut {
    fn slots(&self) -> usize {
        self.slots.len()
    }

    fn told(&self) -> String {
        format!("its part of {} elements", self.total)
    }

    fn width(&self, _: u64) -> u64 {
        self.width
    }

    fn stripped(&self, _: u64) -> u64 {
        self.width
    }

    fn held(&self, rank: u64, len: u64) -> Box<dyn Iterator<Item = Held> + '_> {
        // Of a rank without a file there is nothing to walk through.
        let slots = if len == 0 { &[] } else { &self.slots[..] };
        let held = slots.iter().enumerate().filter_map(move |(slot, param)| {
            // The last rank has fewer than a piece, or none; so may others have if the parameter is
            // smaller than the number of ranks.
            let start = rank.saturating_mul(param.piece).min(param.numel);
            let here = (param.numel - start).min(param.piece).min(len.saturating_sub(param.at));
            (here > 0).then_some(Held { slot, start, len: here, at: param.at })
        });
        Box::new(held)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::layout::Part;
    use super::*;
    use crate::inventory::Run;

    fn cut(shapes: &[&[u64]], ranks: u64) -> Cut {
        let shapes: Vec<Vec<u64>> = shapes.iter().map(|shape| shape.to_vec()).collect();
        Cut::new(shapes.iter(), ranks).unwrap()
    }

    #[test]
    fn each_parameter_is_padded_by_itself() {
        // 77 over 4 ranks: 20, the last has 17. 5 over 4: 2, 2, 1, none.
        let cut = cut(&[&[11, 7], &[5]], 4);
        assert_eq!((cut.total, cut.width), (82, 22));
        assert_eq!(cut.padding(0, 22), []);
        assert_eq!(cut.padding(2, 22), [(21, 1)]);
        assert_eq!(cut.padding(3, 22), [(17, 5)]);
        let part = |file| Part { file, offset: 100, len: 22, size: 4 };
        let runs = cut.runs(&[part(0), part(1), part(2), part(3)]);
        let run = |start, len, file, offset| Run { start, len, file, offset };
        let first = [0, 1, 2].map(|rank| run(u64::from(rank) * 20, 20, rank, 100));
        assert_eq!(runs[0], [&first[..], &[run(60, 17, 3, 100)]].concat());
        assert_eq!(runs[1], [run(0, 2, 0, 180), run(2, 2, 1, 180), run(4, 1, 2, 180)]);
    }

    #[test]
    fn parameters_smaller_than_the_number_of_ranks() {
        let cut = cut(&[&[1], &[], &[0], &[3]], 5);
        assert_eq!((cut.total, cut.width), (5, 3));
        assert_eq!(cut.padding(0, 3), []);
        assert_eq!(cut.padding(1, 3), [(0, 2)]);
        assert_eq!(cut.padding(4, 3), [(0, 3)]);
        let too_many = [vec![u64::MAX], vec![2]];
        assert!(Cut::new(too_many.iter(), 1).is_none());
        assert!(Cut::new([vec![1 << 40, 1 << 40]].iter(), 2).is_none());
    }
}
