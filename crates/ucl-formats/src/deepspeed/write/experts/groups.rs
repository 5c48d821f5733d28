//! The optimizer's groups of experts, anew for another number of expert ranks.
//!
//! The engine puts the experts of a group into groups of their own, by their number of ranks, and begins another
//! one where a rank would have too many elements in it (`moe/utils.py`,
//! `split_params_into_different_moe_groups_for_optimizer`).

use super::{Experts, Mixture, Mixtures, NAME, expert_ranks};
use crate::deepspeed::write::size;
use crate::inventory::Group;
use crate::target::{Held, Rank, Run, Uncut, WriteError};
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

/// The most elements of a rank in a group of experts (`max_group_size`).
const LARGEST: u64 = 178_956_971;

/// What to do where the groups cannot be made anew.
const KEEP: &str = "leave `ep` as the run has it: `dp` may be any multiple of it";

/// A tensor's group, and its place there.
type At = (usize, usize);

impl Experts {
    /// Shares the experts out over the ranks of the mesh: a run whose groups are so, if these are not.
    ///
    /// # Errors
    /// Experts that do not divide; groups that the engine's rule does not make.
    pub(in crate::deepspeed::write) fn spread<'s>(
        &mut self,
        run: &Run<'s>,
    ) -> Result<Option<Run<'s>>, WriteError> {
        let ep = size(run, "ep");
        let known: BTreeSet<u64> = run.groups.iter().filter_map(expert_ranks).collect();
        let mixed = known.len() > 1;
        if mixed && known.last() != Some(&ep) {
            let known: Vec<String> = known.iter().map(u64::to_string).collect();
            return Err(WriteError::refused(
                format!(
                    "the run's mixtures are shared out over {} ranks, and `ep={ep}` does not say which of them \
                     over how many",
                    known.join(" and ")
                ),
                format!("say `ep={}`, by which each keeps its own number", known[known.len() - 1]),
            ));
        }
        for mixture in self.ranks.iter_mut().flat_map(|rank| &mut rank.mixtures) {
            let ranks = if mixed { mixture.ranks } else { ep };
            if !mixture.count.is_multiple_of(ranks) {
                return Err(WriteError::refused(
                    format!(
                        "{} experts of {:?} cannot be shared out over {ranks} ranks",
                        mixture.count, mixture.name
                    ),
                    "name an `ep` that divides the number of experts with --mesh",
                ));
            }
            mixture.ranks = ranks;
        }
        match known.first() {
            Some(own) if !mixed && *own != ep => Ok(Some(self.regrouped(run, *own, ep)?)),
            _ => Ok(None),
        }
    }

    /// The run with groups of experts over `ep` ranks instead of `own`.
    fn regrouped<'s>(&self, run: &Run<'s>, own: u64, ep: u64) -> Result<Run<'s>, WriteError> {
        let mut groups: Vec<Group> = Vec::new();
        let mut places: Vec<HashMap<usize, At>> = vec![HashMap::new(); self.ranks.len()];
        let mut kept: HashMap<usize, usize> = HashMap::new();
        for class in classes(&run.groups) {
            let Some(_) = expert_ranks(&run.groups[class.start]) else {
                kept.insert(class.start, groups.len());
                groups.push(run.groups[class.start].clone());
                continue;
            };
            let mut made = None;
            for ((rank, mixtures), places) in super::ranks(run).zip(&self.ranks).zip(&mut places) {
                let members = Members::of(rank, mixtures, &class);
                let limit = members.limit(class.len(), own)?;
                let sizes = members.split(ep, limit);
                if *made.get_or_insert(sizes.len()) != sizes.len() {
                    let message = "the groups of experts would not be as many on each stage";
                    return Err(WriteError::refused(message, KEEP));
                }
                members.place(ep, &sizes, groups.len(), places);
            }
            let mut group = run.groups[class.start].clone();
            group.hyper.insert("name".to_owned(), format!("{NAME}{ep}").into());
            groups.extend(vec![group; made.unwrap_or(0)]);
        }
        let made = super::ranks(run).zip(&places).map(|(rank, places)| {
            let tensors = rank.tensors.iter().enumerate().map(|(number, held)| {
                let of_dense = || {
                    let (group, place) = held.place?;
                    Some((*kept.get(&group)?, place))
                };
                Held { place: places.get(&number).copied().or_else(of_dense), ..held.clone() }
            });
            Rank { tensors: tensors.collect(), ..rank.clone() }
        });
        let mut ranks: Vec<Rank> = made.collect();
        let uncut = run.uncut.as_ref();
        let uncut = uncut.and_then(|uncut| Some(Uncut { rank: ranks.pop()?, ..uncut.clone() }));
        Ok(Run {
            mesh: run.mesh.clone(),
            stages: run.stages.clone(),
            step: run.step,
            ranks,
            groups,
            padded_vocab: run.padded_vocab,
            args: run.args.clone(),
            keeps_args: run.keeps_args,
            class: run.class.clone(),
            positions: run.positions,
            source: run.source,
            uncut,
        })
    }
}

/// Groups one behind the other that the engine may have made of one; each other group by itself.
fn classes(groups: &[Group]) -> Vec<Range<usize>> {
    let mut classes: Vec<Range<usize>> = Vec::new();
    for (number, group) in groups.iter().enumerate() {
        match classes.last_mut() {
            Some(class)
                if expert_ranks(group).is_some()
                    && groups[class.start].hyper == group.hyper
                    && groups[class.start].step == group.step =>
            {
                class.end = number + 1;
            }
            _ => classes.push(number..number + 1),
        }
    }
    classes
}

/// The tensors of a class of groups, over all expert ranks.
struct Members<'a> {
    mixtures: &'a [Mixture],
    /// In the order that the modules have.
    members: Vec<Member>,
}

struct Member {
    tensor: usize,
    /// Its mixture, and its expert over all ranks; none for a stack.
    mixture: usize,
    id: Option<u64>,
    /// Its elements, of all experts.
    elements: u64,
    /// Where it was.
    at: At,
}

impl<'a> Members<'a> {
    fn of(rank: &Rank, mixtures: &'a Mixtures, class: &Range<usize>) -> Members<'a> {
        let members = mixtures.experts.iter().filter_map(|(tensor, seated)| {
            let held = &rank.tensors[*tensor];
            let at = held.place.filter(|(group, _)| held.is_trained() && class.contains(group))?;
            Some(Member {
                tensor: *tensor,
                mixture: seated.mixture,
                id: seated.id,
                elements: held.elements(),
                at: (at.0 - class.start, at.1),
            })
        });
        let mut members: Vec<Member> = members.collect();
        let mut firsts: HashMap<usize, At> = HashMap::new();
        for member in &members {
            let first = firsts.entry(member.mixture).or_insert(member.at);
            *first = member.at.min(*first);
        }
        members.sort_by_key(|member| {
            (firsts[&member.mixture], member.mixture, member.id, member.at, member.tensor)
        });
        Members { mixtures: &mixtures.mixtures, members }
    }

    /// The members of an expert rank of `ep`, and how many elements of each it has.
    fn of_rank(&self, rank: u64, ep: u64) -> impl Iterator<Item = (&Member, u64)> {
        self.members.iter().filter_map(move |member| {
            let each = self.mixtures[member.mixture].count / ep;
            match member.id {
                Some(id) => (id / each == rank).then_some((member, member.elements)),
                None => Some((member, member.elements / ep)),
            }
        })
    }

    /// The size that the source's groups were split at, over `own` ranks.
    fn limit(&self, groups: usize, own: u64) -> Result<u64, WriteError> {
        for rank in 0..own {
            let order: Vec<At> = self.of_rank(rank, own).map(|(member, _)| member.at).collect();
            if !order.is_sorted() {
                let message = "the experts are not in the order of their numbers in their groups";
                return Err(WriteError::refused(message, KEEP));
            }
        }
        let mut sizes = vec![0; groups];
        for (member, _) in self.of_rank(0, own) {
            sizes[member.at.0] += 1;
        }
        match [LARGEST, u64::MAX].into_iter().find(|limit| self.split(own, *limit) == sizes) {
            Some(limit) => Ok(limit),
            None => Err(WriteError::refused(
                format!(
                    "the run's groups of experts were not split at {LARGEST} elements, which is what DeepSpeed does"
                ),
                KEEP,
            )),
        }
    }

    /// How many members of an expert rank each group has, by the engine's rule.
    fn split(&self, ep: u64, limit: u64) -> Vec<usize> {
        split(self.of_rank(0, ep).map(|(_, elements)| elements), limit)
    }

    /// Gives every member its group and place.
    fn place(&self, ep: u64, sizes: &[usize], first: usize, places: &mut HashMap<usize, At>) {
        let mut place = 0;
        for rank in 0..ep {
            let groups = sizes.iter().enumerate();
            let groups = groups.flat_map(|(group, size)| std::iter::repeat_n(group, *size));
            for ((member, _), group) in self.of_rank(rank, ep).zip(groups) {
                places.insert(member.tensor, (first + group, place));
                place += 1;
            }
        }
    }
}

/// How many of these each group has, none of which gets more elements than that if it has more than one.
fn split(elements: impl Iterator<Item = u64>, limit: u64) -> Vec<usize> {
    let (mut sizes, mut members, mut held) = (Vec::new(), 0, 0_u64);
    for elements in elements {
        // The first of all may close a group that has nothing.
        if held.saturating_add(elements) > limit {
            sizes.push(members);
            (members, held) = (0, 0);
        }
        members += 1;
        held = held.saturating_add(elements);
    }
    if members > 0 {
        sizes.push(members);
    }
    sizes
}

#[cfg(test)]
mod tests {
    use super::{Member, Members, Mixture, split};
    use std::collections::HashMap;

    /// Four experts of two tensors each, over two ranks: each rank's first is in group 0, its second in group 1.
    #[test]
    fn groups_follow_what_a_rank_has() {
        let mixtures = [Mixture { name: "m".to_owned(), count: 4, ranks: 2 }];
        let member = |tensor: usize| {
            let (id, within) = (tensor / 2, tensor % 2);
            let (rank, group) = (id / 2, id % 2);
            let at = (group, rank * 2 + within);
            Member { tensor, mixture: 0, id: Some(id as u64), elements: 4, at }
        };
        let members = Members { mixtures: &mixtures, members: (0..8).map(member).collect() };
        assert_eq!(members.split(2, 10), [2, 2]);
        let groups = |ep: u64, limit: u64| {
            let (mut places, sizes) = (HashMap::new(), members.split(ep, limit));
            members.place(ep, &sizes, 5, &mut places);
            (0..8).map(|tensor| places[&tensor].0 - 5).collect::<Vec<_>>()
        };
        assert_eq!(groups(2, 10), [0, 0, 1, 1, 0, 0, 1, 1]);
        assert_eq!(groups(1, 10), [0, 0, 1, 1, 2, 2, 3, 3]);
        assert_eq!(groups(4, 10), [0; 8]);
        assert_eq!(groups(1, u64::MAX), [0; 8]);
        // Nothing was split at the engine's own limit.
        assert!(members.limit(2, 2).is_err());
    }

    #[test]
    fn groups_are_split_as_the_engine_splits_them() {
        let sizes = |elements: &[u64]| split(elements.iter().copied(), 10);
        assert_eq!(sizes(&[4, 6, 1]), [2, 1]);
        assert_eq!(sizes(&[4, 7, 3, 1]), [1, 2, 1]);
        assert_eq!(sizes(&[11, 2]), [0, 1, 1]);
        assert_eq!(sizes(&[2, 11, 2]), [1, 1, 1]);
        assert_eq!(sizes(&[]), [0; 0]);
    }
}
