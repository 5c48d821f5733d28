//! Muon's momentum under stages 1 and 2, which a rank keeps of whole matrices.
//!
//! Muon turns a matrix as a whole, so that each rank follows the momentum of every matrix that its part of
//! the group meets: its buffer has these one behind the other, without gaps or padding, and a matrix on a
//! cut is in the buffers of several ranks (`runtime/zero/stage_1_and_2.py`, `get_flat_partition`). All of
//! them come to the same values. With the optimizer on the CPU, and under BF16_Optimizer, the momentum is
//! cut as all other states are.

use super::flat::Flat;
use super::layout::{Held, Layout};
use super::model::ModelFile;
use super::shard::Shard;
use super::states::Row;
use crate::inventory::Problem;
use crate::ranks::{Opened, count};
use serde_json::{Map, Value as Json};

/// The state.
pub(super) const MOMENTUM: &str = "momentum_buffer";

/// The whole matrices that each part of a group meets.
pub(super) struct Matrices<'a>(&'a Flat);

/// How the momentum of a group is kept.
pub(super) enum Momentum<'a> {
    /// As the other states, which may be another optimizer's.
    Cut,
    /// Of whole matrices.
    Whole(Matrices<'a>),
    /// Of whole matrices, and what an elastic save takes for padding was cut off: values are lost.
    Lost(Problem),
}

impl<'a> Momentum<'a> {
    /// Of the buffer `index`, by what its ranks say of it.
    pub(super) fn of(
        flat: &'a Flat,
        index: usize,
        row: &Row<'_>,
        model: &ModelFile,
    ) -> Momentum<'a> {
        let matrices = Matrices(flat);
        let stage = |shard: &Shard| matches!(shard.stage, Some(1 | 2));
        let mut shards = row.iter().flatten().filter(|shard| stage(&shard.content)).peekable();
        let Some(first) = shards.peek() else { return Momentum::Cut };
        if first.content.elastic {
            return matrices.elastic(index, row);
        }
        let muon = |shard: &Shard| {
            let mut groups = shard.params.iter().filter(|group| group.buffers.contains(&index));
            groups.any(|group| group.hyper.get("use_muon") == Some(&Json::Bool(true)))
        };
        match shards.any(|shard| muon(&shard.content)) && !offloads(&model.zero) {
            true => Momentum::Whole(matrices),
            false => Momentum::Cut,
        }
    }
}

impl<'a> Matrices<'a> {
    /// An elastic save says nothing of the groups, so that the lengths tell, and it takes padding off every
    /// buffer: off this one too, which has none.
    fn elastic(self, index: usize, row: &Row<'_>) -> Momentum<'a> {
        let found = row.iter().enumerate().filter_map(|(rank, shard)| {
            let shard: &Opened<Shard> = (*shard)?;
            Some((rank as u64, shard, shard.content.groups.get(index)?.flat.get(MOMENTUM)?.numel))
        });
        let found: Vec<_> = found.collect();
        let padding = |rank| self.0.width(rank) - self.0.stripped(rank);
        let cut = found.iter().all(|(rank, _, len)| *len == self.0.stripped(*rank));
        let whole =
            found.iter().all(|(rank, _, len)| *len == lean(self.width(*rank), padding(*rank)));
        if cut || !whole {
            return Momentum::Cut;
        }
        let lost = found.iter().find(|(rank, _, len)| *len < self.width(*rank));
        match lost {
            None => Momentum::Whole(self),
            Some((rank, shard, len)) => {
                let message = format!(
                    "Muon's `{MOMENTUM}` of group {index} lacks {} at its end: `elastic_checkpoint` takes that much \
                     for padding",
                    count(self.width(*rank) - len, "element")
                );
                let help = "Convert with `--states weights`, or save the run again without `elastic_checkpoint`.";
                Momentum::Lost(Problem::new(&shard.path, message).help(help))
            }
        }
    }
}

/// Whether `zero_optimization` of a config has the optimizer on the CPU.
pub(super) fn offloads(zero: &Map<String, Json>) -> bool {
    let device = zero.get("offload_optimizer").and_then(|offload| offload.get("device"));
    device.and_then(Json::as_str) == Some("cpu")
        || zero.get("cpu_offload") == Some(&Json::Bool(true))
}

/// What is left of a buffer when padding is taken off: a negative length counts from the end.
fn lean(len: u64, padding: u64) -> u64 {
    len.checked_sub(padding).unwrap_or((2 * len).saturating_sub(padding))
}

impl Layout for Matrices<'_> {
    fn slots(&self) -> usize {
        self.0.slots()
    }

    fn told(&self) -> String {
        format!("all of each matrix that {} meets", self.0.told())
    }

    fn width(&self, rank: u64) -> u64 {
        self.0.met(rank).map(|(_, numel)| numel).sum()
    }

    fn stripped(&self, rank: u64) -> u64 {
        self.width(rank)
    }

    fn held(&self, rank: u64, len: u64) -> Box<dyn Iterator<Item = Held> + '_> {
        let mut end = 0;
        let held = self.0.met(rank).map(move |(slot, numel)| {
            let at = end;
            end += numel;
            Held { slot, start: 0, len: numel, at }
        });
        Box::new(held.take_while(move |held| held.at + held.len <= len))
    }
}

#[cfg(test)]
mod tests {
    use super::super::flat::Slot;
    use super::super::layout::Part;
    use super::*;

    #[test]
    fn a_matrix_on_a_cut_is_on_both_sides() {
        // 35 each over three ranks of 36: the first meets two of them, the second both, the third one.
        let slots = [35, 35, 35].map(|numel| Slot { numel, gap: 0 });
        let flat = Flat::new(&slots, 3).unwrap();
        let matrices = Matrices(&flat);
        assert_eq!([0, 1, 2].map(|rank| matrices.width(rank)), [70, 70, 35]);
        let part = |file: u32, len| Part { file, offset: 100, len, size: 4 };
        let runs = matrices.runs(&[part(0, 70), part(1, 70), part(2, 35)]);
        let at =
            |slot: usize| runs[slot].iter().map(|run| (run.file, run.offset)).collect::<Vec<_>>();
        assert_eq!(at(0), [(0, 100)]);
        assert_eq!(at(1), [(0, 240), (1, 100)]);
        assert_eq!(at(2), [(1, 240), (2, 100)]);
        assert!(runs.iter().flatten().all(|run| (run.start, run.len) == (0, 35)));
        assert_eq!(matrices.padding(1, 70), []);
    }

    #[test]
    fn what_only_has_padding_meets_nothing() {
        let flat = Flat::new(&[Slot { numel: 1, gap: 0 }], 3).unwrap();
        let matrices = Matrices(&flat);
        assert_eq!([0, 1, 2].map(|rank| matrices.width(rank)), [1, 0, 0]);
    }

    #[test]
    fn padding_that_is_taken_off() {
        assert_eq!((lean(7, 0), lean(7, 3), lean(7, 9), lean(7, 20)), (7, 4, 5, 0));
    }
}
