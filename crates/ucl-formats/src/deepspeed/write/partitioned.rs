//! Stage 3: every tensor is cut by itself, and the parts of a rank lie one behind the other in the
//! buffers of sub-groups.

use super::{Rank, members};
use crate::target::{Buffer, Part, Run};
use std::sync::Arc;

/// The sub-groups of a model-parallel rank.
pub(super) struct SubGroups {
    ranks: u64,
    /// The tensors of each.
    members: Vec<Vec<usize>>,
    /// The optimizer's group of each.
    groups: Vec<usize>,
}

impl SubGroups {
    /// Packs the tensors of each group: a sub-group is closed when a rank's part of it has that many
    /// elements, and no tensor is cut between two.
    pub(super) fn of(rank: &Rank, groups: usize, sub_group_size: u64, ranks: u64) -> SubGroups {
        let mut packed = SubGroups { ranks, members: Vec::new(), groups: Vec::new() };
        for (group, tensors) in members(rank, groups).into_iter().enumerate() {
            let (mut open, mut elements) = (Vec::new(), 0_u64);
            for number in tensors {
                open.push(number);
                elements += rank.tensors[number].elements().div_ceil(ranks);
                if elements >= sub_group_size {
                    packed.close(std::mem::take(&mut open), group);
                    elements = 0;
                }
            }
            if !open.is_empty() {
                packed.close(open, group);
            }
        }
        packed
    }

    fn close(&mut self, members: Vec<usize>, group: usize) {
        self.members.push(members);
        self.groups.push(group);
    }

    /// The tensors of each.
    pub(super) fn members(&self) -> &[Vec<usize>] {
        &self.members
    }

    /// The sub-groups of a group.
    pub(super) fn of_group(&self, group: usize) -> Vec<usize> {
        let of = self.groups.iter().enumerate().filter(|(_, of)| **of == group);
        of.map(|(number, _)| number).collect()
    }

    /// A rank's part of a sub-group: what is in it, and its length in elements.
    pub(super) fn partition(
        &self,
        (at, rank): (usize, &Rank),
        number: usize,
        dp: u64,
    ) -> (Arc<[Part]>, u64) {
        let (mut parts, mut start) = (Vec::new(), 0);
        for tensor in &self.members[number] {
            let elements = rank.tensors[*tensor].elements();
            let share = elements.div_ceil(self.ranks);
            let first = (dp * share).min(elements);
            let len = share.min(elements - first);
            if len > 0 {
                parts.push(Part { rank: at, tensor: *tensor, first, len, start });
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
