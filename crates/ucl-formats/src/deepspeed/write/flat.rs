//! Flat buffers of stages 1 and 2: the tensors of a group one behind the other, cut into equal parts.

use super::share::Share;
use crate::target::Part;
use std::sync::Arc;

/// A buffer's length divides by this for every data-parallel rank (`nccl_start_alignment_factor`).
const ALIGNMENT: u64 = 2;

/// A data-parallel rank's part of a group.
pub(super) struct Partition {
    /// What is in it.
    pub(super) parts: Arc<[Part]>,
    /// The member of the group that each of them is of.
    pub(super) members: Vec<usize>,
    /// Its length in elements, padding included.
    pub(super) width: u64,
    /// How many of them are not padding.
    pub(super) held: u64,
}

impl Partition {
    /// The part of a rank, `at` being the model-parallel one whose tensors they are.
    pub(super) fn of(at: usize, share: &Share) -> Partition {
        let total: u64 = share.members.iter().map(|member| member.elements()).sum();
        let width = total.div_ceil(ALIGNMENT * share.parts) * ALIGNMENT;
        let start = share.part * width;
        let held = width.min(total.saturating_sub(start));
        let (mut parts, mut members) = (Vec::new(), Vec::new());
        let mut offset = 0;
        for (number, member) in share.members.iter().enumerate() {
            let len = member.elements();
            let (from, to) = (start.max(offset), (start + width).min(offset + len));
            if from < to {
                parts.push(Part {
                    rank: at,
                    tensor: member.tensor,
                    first: member.first + from - offset,
                    len: to - from,
                    start: from - start,
                });
                members.push(number);
            }
            offset += len;
        }
        Partition { parts: parts.into(), members, width, held }
    }

    /// The tensors that it has anything of, each whole, one behind the other: what Muon follows the momentum
    /// of.
    pub(super) fn matrices(&self, share: &Share) -> Partition {
        let mut start = 0;
        let whole = self.parts.iter().zip(&self.members).map(|(part, number)| {
            let member = &share.members[*number];
            let len = member.elements();
            let whole = Part { first: member.first, len, start, ..*part };
            start += len;
            whole
        });
        let parts: Arc<[Part]> = whole.collect();
        Partition { parts, members: self.members.clone(), width: start, held: start }
    }
}
