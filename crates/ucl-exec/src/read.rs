//! Which bytes of a source a move needs, how they are read, and how they then lie in a buffer.
//!
//! A loop whose rounds leave small gaps is read in one go, gaps and all. From the first loop on that
//! leaves large ones, each round is read for itself, and the rounds are put side by side in the buffer.

use smallvec::SmallVec;
use ucl_plan::Move;
use ucl_tensor::Step;

/// Gaps that are cheaper to read than to skip, by how much of what is read is used: (bytes of the gap,
/// read per byte used).
const GAPS: [(u64, u64); 3] = [(4 << 10, u64::MAX), (16 << 10, 16), (64 << 10, 4)];

pub(crate) type Steps = SmallVec<[Step; 6]>;

/// A part of a move: the same loops, perhaps fewer rounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// The byte offset in the file of the element at index 0 of every loop.
    pub(crate) from: i64,
    /// Its element offset in the window.
    pub(crate) to: i64,
    pub(crate) steps: Steps,
    /// Bytes of an element.
    pub(crate) size: u64,
}

/// How a part is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reads {
    /// Where the first extent begins in the file.
    pub(crate) start: i64,
    /// Bytes of each extent.
    pub(crate) len: u64,
    /// The loops that have extents of their own: rounds and bytes from one to the next in the file,
    /// innermost first.
    pub(crate) rounds: SmallVec<[(u64, i64); 6]>,
    /// The part's loops, over the buffer.
    pub(crate) steps: Steps,
    /// Where the element at index 0 of every loop is in the buffer.
    pub(crate) from: i64,
}

impl Part {
    pub(crate) fn of(step: &Move) -> Part {
        let steps = step.loops.iter().filter(|one| one.count != 1);
        Part {
            from: step.from as i64,
            to: step.to as i64,
            steps: steps.map(|one| Step { count: one.count, from: one.from, to: one.to }).collect(),
            size: step.dtype.size_bytes(),
        }
    }

    /// The number of elements.
    pub(crate) fn elements(&self) -> u64 {
        self.steps.iter().fold(1, |count, step| count.saturating_mul(step.count))
    }

    /// Bytes at the end of the loops that are neighbours on both sides.
    pub(crate) fn run(&self) -> u64 {
        match self.steps.last() {
            None => self.size,
            Some(step) if step.from == self.size as i64 && step.to == 1 => step.count * self.size,
            Some(_) => 0,
        }
    }

    /// How the part is read; `None` when its numbers overflow.
    pub(crate) fn reads(&self) -> Option<Reads> {
        let mut order: SmallVec<[usize; 6]> = (0..self.steps.len()).collect();
        order.sort_by_key(|index| self.steps[*index].from.unsigned_abs());
        let (mut len, mut used, mut below) = (self.size, self.size, 0_i64);
        let mut steps = self.steps.clone();
        let mut rounds: SmallVec<[(u64, i64); 6]> = SmallVec::new();
        let mut beside = 0_u64;
        for index in order {
            let Step { count, from, .. } = self.steps[index];
            let stride = from.unsigned_abs();
            if stride == 0 || count == 0 {
                continue;
            }
            let far = stride.checked_mul(count - 1)?;
            let span = len.checked_add(far)?;
            let all = used.checked_mul(count)?;
            let gap = stride.saturating_sub(len);
            let near = GAPS.iter().any(|(most, waste)| gap <= *most && all >= span / waste);
            if rounds.is_empty() && near {
                (len, used) = (span, all.min(span));
                if from < 0 {
                    below = below.checked_add(i64::try_from(far).ok()?)?;
                }
            } else {
                beside = if rounds.is_empty() { len } else { beside };
                steps[index].from = i64::try_from(beside).ok()?;
                beside = beside.checked_mul(count)?;
                rounds.push((count, from));
            }
        }
        Some(Reads { start: self.from.checked_sub(below)?, len, rounds, steps, from: below })
    }

    /// Cuts the part in pieces of about `share` of its rounds, along the loop that strides farthest in
    /// the source. `None` when there is nothing to cut.
    pub(crate) fn cut(&self, bytes: u64, budget: u64) -> Option<impl Iterator<Item = Part> + '_> {
        let along = (0..self.steps.len())
            .filter(|index| self.steps[*index].count > 1)
            .max_by_key(|index| self.steps[*index].from.unsigned_abs())?;
        let Step { count, from, to } = self.steps[along];
        let fit = u128::from(count) * u128::from(budget) / u128::from(bytes.max(1));
        let fit = (fit as u64).clamp(1, count - 1);
        Some((0..count).step_by(fit as usize).map(move |start| {
            let mut part = self.clone();
            part.steps[along].count = fit.min(count - start);
            part.from += start as i64 * from;
            part.to += start as i64 * to;
            part
        }))
    }
}

impl Reads {
    /// Bytes in the buffer.
    pub(crate) fn bytes(&self) -> u64 {
        self.rounds.iter().fold(self.len, |bytes, (count, _)| bytes.saturating_mul(*count))
    }

    /// The end in the file, where there is one extent.
    pub(crate) fn end(&self) -> Option<i64> {
        if self.rounds.is_empty() { self.start.checked_add_unsigned(self.len) } else { None }
    }

    /// Calls `read` with (offset in the file, offset in the buffer) of each extent.
    pub(crate) fn each<E>(
        &self,
        read: &mut impl FnMut(i64, usize) -> Result<(), E>,
    ) -> Result<(), E> {
        fn level<E>(
            rounds: &[(u64, i64)],
            file: i64,
            buffer: &mut usize,
            len: usize,
            read: &mut impl FnMut(i64, usize) -> Result<(), E>,
        ) -> Result<(), E> {
            let Some(((count, stride), inner)) = rounds.split_last() else {
                read(file, *buffer)?;
                *buffer += len;
                return Ok(());
            };
            for round in 0..*count as i64 {
                level(inner, file + round * stride, buffer, len, read)?;
            }
            Ok(())
        }
        level(&self.rounds, self.start, &mut 0, self.len as usize, read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(steps: &[(u64, i64, i64)], from: i64) -> Part {
        let steps =
            steps.iter().map(|(count, from, to)| Step { count: *count, from: *from, to: *to });
        Part { from, to: 0, steps: steps.collect(), size: 4 }
    }

    #[test]
    fn dense_rows_are_one_extent() {
        let reads = part(&[(8, 4096, 512), (512, 4, 1)], 100).reads().unwrap();
        assert_eq!((reads.start, reads.len, reads.rounds.len()), (100, 7 * 4096 + 2048, 0));
    }

    #[test]
    fn far_rows_lie_side_by_side() {
        let reads = part(&[(3, 1 << 20, 512), (512, 4, 1)], 100).reads().unwrap();
        assert_eq!((reads.len, reads.bytes()), (2048, 3 * 2048));
        let mut extents = Vec::new();
        reads
            .each::<()>(&mut |file, buffer| {
                extents.push((file, buffer));
                Ok(())
            })
            .unwrap();
        assert_eq!(extents, [(100, 0), (100 + (1 << 20), 2048), (100 + (2 << 20), 4096)]);
        assert_eq!(reads.steps[0].from, 2048);
    }

    #[test]
    fn backward_strides_begin_at_the_lowest_byte() {
        let reads = part(&[(512, -4, 1)], 2044).reads().unwrap();
        assert_eq!((reads.start, reads.len, reads.from), (0, 2048, 2044));
    }

    #[test]
    fn pieces_are_the_whole() {
        let whole = part(&[(10, 1 << 20, 512), (512, 4, 1)], 0);
        let pieces: Vec<Part> = whole.cut(20480, 6144).unwrap().collect();
        assert_eq!(pieces.len(), 4);
        assert_eq!(pieces.iter().map(Part::elements).sum::<u64>(), whole.elements());
        assert_eq!((pieces[3].from, pieces[3].to), (9 << 20, 9 * 512));
    }
}
