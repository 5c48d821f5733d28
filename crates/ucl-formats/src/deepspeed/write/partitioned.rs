//! Stage 3: every tensor is cut by itself, and the parts of a rank lie one behind the other in the
//! buffers of sub-groups.

use super::share::Share;
use crate::target::{Buffer, Part, Run};
use std::sync::Arc;

/// The sub-groups of a rank.
pub(super) struct SubGroups {
    /// Data-parallel ranks.
    ranks: u64,
    /// What the rank shares of each.
    shares: Vec<Share>,
    /// The optimizer's group of each.
    groups: Vec<usize>,
}

impl SubGroups {
    /// Packs the tensors of each group: a sub-group is closed when a rank's part of it has that many
    /// elements, and no tensor is cut between two.
    pub(super) fn of(groups: Vec<Share>, sub_group_size: u64, ranks: u64) -> SubGroups {
        let mut packed = SubGroups { ranks, shares: Vec::new(), groups: Vec::new() };
        for (group, Share { members, part, parts, expert_rank }) in groups.into_iter().enumerate() {
            let close = |members| Share { members, part, parts, expert_rank };
            let (mut open, mut elements) = (Vec::new(), 0_u64);
            for member in members {
                elements += member.elements().div_ceil(parts);
                open.push(member);
                if elements >= sub_group_size {
                    packed.push(close(std::mem::take(&mut open)), group);
                    elements = 0;
                }
            }
            if !open.is_empty() {
                packed.push(close(open), group);
            }
        }
        packed
    }

    fn push(&mut self, share: Share, group: usize) {
        self.shares.push(share);
        self.groups.push(group);
    }

    /// What the rank shares of each.
    pub(super) fn shares(&self) -> &[Share] {
        &self.shares
    }

    /// The group of a sub-group.
    pub(super) fn group(&self, number: usize) -> usize {
        self.groups[number]
    }

    /// The sub-groups of a group.
    pub(super) fn of_group(&self, group: usize) -> Vec<usize> {
        let of = self.groups.iter().enumerate().filter(|(_, of)| **of == group);
        of.map(|(number, _)| number).collect()
    }

    /// The rank's part of a sub-group: what is in it, and its length in elements. `at` is the model-parallel
    /// rank whose tensors they are.
    pub(super) fn partition(&self, at: usize, number: usize) -> (Arc<[Part]>, u64) {
        let Share { members, part, parts: ranks, .. } = &self.shares[number];
        let (mut parts, mut start) = (Vec::new(), 0);
        for member in members {
            let elements = member.elements();
            let share = elements.div_ceil(*ranks);
            let first = (part * share).min(elements);
            let len = share.min(elements - first);
            if len > 0 {
                let first = member.first + first;
                parts.push(Part { rank: at, tensor: member.tensor, first, len, start });
            }
            start += share;
        }
        (parts.into(), start)
    }

    /// A rank's part of a frozen tensor.
    pub(super) fn fragment(&self, run: &Run<'_>, (at, tensor): (usize, usize), dp: u64) -> Buffer {
        let held = &run.ranks[at].tensors[tensor];
        let elements = held.elements();
        let share = elements.div_ceil(self.ranks);
        let first = (dp * share).min(elements);
        let len = share.min(elements - first);
        let part = Part { rank: at, tensor, first, len, start: 0 };
        Buffer {
            name: held.name.clone(),
            state: "param".to_owned(),
            dtype: held.dtype,
            shape: vec![share],
            parts: if len > 0 { Arc::new([part]) } else { Arc::new([]) },
        }
    }
}
