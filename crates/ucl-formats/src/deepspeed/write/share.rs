//! How data-parallel ranks share a group of the optimizer: all of them, or those that have the same experts.

use super::experts::{Experts, expert_ranks};
use super::{Place, members, size};
use crate::deepspeed::laid::dealt;
use crate::target::{Held, Run};

/// A tensor of a group as a rank has it.
pub(super) struct Member {
    /// The tensor, as an index into those of its model-parallel rank.
    pub(super) tensor: usize,
    /// Its name on the rank, which numbers its experts from zero.
    pub(super) name: String,
    /// Its shape on the rank: a stack has the rows of its experts.
    pub(super) shape: Vec<u64>,
    /// The first of the tensor's elements that the rank has.
    pub(super) first: u64,
}

impl Member {
    /// All of a tensor.
    fn whole((tensor, held): (usize, &Held), layered: bool) -> Member {
        let name = held.trained_name(layered).to_owned();
        Member { tensor, name, shape: held.shape.clone(), first: 0 }
    }

    /// How many elements the rank has.
    pub(super) fn elements(&self) -> u64 {
        self.shape.iter().product()
    }
}

/// A group as a data-parallel rank has it.
pub(super) struct Share {
    /// What is in it, in the order of its buffer.
    pub(super) members: Vec<Member>,
    /// Which of its parts is the rank's.
    pub(super) part: u64,
    /// Into how many parts it is cut.
    pub(super) parts: u64,
    /// The expert rank whose experts it is of, if it is.
    pub(super) expert_rank: Option<u64>,
}

/// All groups as data-parallel rank `dp` of a model-parallel rank has them, in the order of their buffers:
/// parameters may be dealt out over the ranks.
pub(super) fn shares(
    run: &Run<'_>,
    place: &Place<'_>,
    dp: u64,
    (layered, experts, deals): (bool, &Experts, bool),
) -> Vec<Share> {
    let groups = members(place.rank, run.groups.len()).into_iter().zip(&run.groups);
    let shares = groups.map(|(members, group)| {
        let seat = expert_ranks(group).map(|ep| experts.seat(run, place, dp, ep));
        let (part, parts) = seat.map_or((dp, size(run, "dp")), |seat| (seat.part, seat.parts));
        let members = members.into_iter().filter_map(|tensor| {
            let whole = Member::whole((tensor, &place.rank.tensors[tensor]), layered);
            match (seat, experts.expert(place.at, tensor)) {
                (Some(seat), Some(expert)) => expert.on(seat, whole),
                _ => Some(whole),
            }
        });
        let expert_rank = seat.map(|seat| seat.expert_rank);
        let mut members: Vec<Member> = members.collect();
        if let (true, Ok(ranks)) = (deals, usize::try_from(parts)) {
            members = in_deals(members, ranks);
        }
        Share { members, part, parts, expert_rank }
    });
    shares.collect()
}

/// Members as they fall to the ranks that they are dealt out over.
fn in_deals(members: Vec<Member>, ranks: usize) -> Vec<Member> {
    let mut members: Vec<Option<Member>> = members.into_iter().map(Some).collect();
    let order = dealt(members.len(), ranks).into_iter();
    order.filter_map(|at| members.get_mut(at)?.take()).collect()
}
