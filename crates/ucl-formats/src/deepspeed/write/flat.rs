//! Flat buffers of stages 1 and 2: the tensors of a group one behind the other, cut into equal parts.

use super::Rank;
use crate::target::Part;
use std::sync::Arc;

/// A buffer's length divides by this for every data-parallel rank (`nccl_start_alignment_factor`).
const ALIGNMENT: u64 = 2;

/// A data-parallel rank's part of a group.
pub(super) struct Partition {
    /// What is in it.
    pub(super) parts: Arc<[Part]>,
    /// Its length in elements, padding included.
    pub(super) width: u64,
    /// How many of them are not padding.
    pub(super) held: u64,
}

impl Partition {
    /// The part of data-parallel rank `dp` of `ranks`.
    pub(super) fn of(
        (at, rank): (usize, &Rank),
        members: &[usize],
        dp: u64,
        ranks: u64,
    ) -> Partition {
        let total: u64 = members.iter().map(|number| rank.tensors[*number].elements()).sum();
        let width = total.div_ceil(ALIGNMENT * ranks) * ALIGNMENT;
        let start = dp * width;
        let held = width.min(total.saturating_sub(start));
        let mut parts = Vec::new();
        let mut offset = 0;
        for number in members {
            let len = rank.tensors[*number].elements();
            let (from, to) = (start.max(offset), (start + width).min(offset + len));
            if from < to {
                parts.push(Part {
                    rank: at,
                    tensor: *number,
                    first: from - offset,
                    len: to - from,
                    start: from - start,
                });
            }
            offset += len;
        }
        Partition { parts: parts.into(), width, held }
    }

    /// The tensors that it has anything of, each whole, one behind the other: what Muon follows the momentum
    /// of.
    pub(super) fn matrices(&self, rank: &Rank) -> Partition {
        let mut start = 0;
        let whole = self.parts.iter().map(|part| {
            let len = rank.tensors[part.tensor].elements();
            let whole = Part { first: 0, len, start, ..*part };
            start += len;
            whole
        });
        let parts: Arc<[Part]> = whole.collect();
        Partition { parts, width: start, held: start }
    }
}
