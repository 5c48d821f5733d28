//! Mixtures of experts as the ranks of a run have them.
//!
//! What experts there are, the source's model files say (`num_experts`, `ds_autoep_layers`), and the optimizer's
//! groups which of them are trained together. Experts are shared out over some of the data-parallel ranks, each
//! of which numbers its own from zero in its optimizer; their weights stand in files by themselves, numbered over
//! all ranks (`moe/layer.py`, `utils/groups.py` and `runtime/engine.py`, `_save_moe_checkpoint`).

mod files;
mod groups;
mod stacks;

use super::share::Member;
use super::source::Source;
use super::{Place, Zero, size};
use crate::deepspeed::experts::{Expert, Stacked};
use crate::inventory::{Group, Optimizer, Role};
use crate::target::{Held, Rank, Run, WriteError};
use indexmap::IndexMap;
use serde_json::Value;
use std::collections::BTreeSet;

/// How the groups of experts are called, before the number of their ranks.
const NAME: &str = "ep_size_";

/// Over how many ranks a group of experts is shared out; nothing if it is of no experts.
pub(super) fn expert_ranks(group: &Group) -> Option<u64> {
    let name = group.hyper.get("name")?.as_str()?;
    is_of_experts(group).then(|| name.strip_prefix(NAME)?.parse().ok()).flatten()
}

/// Whether the engine made a group for experts.
fn is_of_experts(group: &Group) -> bool {
    group.hyper.get("moe") == Some(&Value::Bool(true))
}

/// Over how many ranks a run's experts are shared out: those of the mixture that has most.
pub fn most_expert_ranks(optimizer: &Optimizer) -> Option<u64> {
    optimizer.groups.iter().filter_map(expert_ranks).max()
}

/// The ranks of a run, and what is whole.
fn ranks<'r>(run: &'r Run<'_>) -> impl Iterator<Item = &'r Rank> {
    run.ranks.iter().chain(run.uncut.as_ref().map(|uncut| &uncut.rank))
}

/// The mixtures of all model-parallel ranks.
#[derive(Default)]
pub(super) struct Experts {
    /// By the number of the model-parallel rank; behind them those of what is whole.
    ranks: Vec<Mixtures>,
    /// Whether consecutive data-parallel ranks have the same experts (`use_data_before_expert_parallelism`).
    data_first: bool,
    /// Whether tensor ranks share experts out among themselves and cut none of them
    /// (`enable_expert_tensor_parallelism` is off).
    whole: bool,
    /// Whether they are in AutoEP's stacks.
    stacked: bool,
}

/// The mixtures of a model-parallel rank.
#[derive(Default)]
struct Mixtures {
    /// In the order of the modules.
    mixtures: Vec<Mixture>,
    /// By the number of the tensor.
    experts: IndexMap<usize, Seated>,
}

/// A mixture.
struct Mixture {
    /// What the names of its experts begin with.
    name: String,
    /// Its experts, over all ranks.
    count: u64,
    /// The ranks that they are shared out over.
    ranks: u64,
}

/// A tensor of a mixture, and the number of its expert over all ranks; none if it is a stack of all of them.
#[derive(Clone, Copy)]
struct Seated {
    mixture: usize,
    id: Option<u64>,
}

/// Whose a tensor is.
#[derive(Clone, Copy)]
pub(super) struct OfExpert<'e> {
    mixture: &'e Mixture,
    id: Option<u64>,
}

/// Which experts a rank has, and which part of them.
#[derive(Clone, Copy)]
pub(super) struct Seat {
    /// Its number among the ranks that experts are shared out over.
    pub(super) expert_rank: u64,
    /// Those that they are shared out over.
    expert_ranks: u64,
    /// Its number among the ranks that have the same experts.
    pub(super) part: u64,
    /// How many have the same.
    pub(super) parts: u64,
}

impl OfExpert<'_> {
    /// How many experts its mixture has, over all ranks.
    pub(super) fn count(self) -> u64 {
        self.mixture.count
    }

    /// The tensor as a rank has it; nothing if another one does.
    pub(super) fn on(self, seat: Seat, whole: Member) -> Option<Member> {
        let each = self.mixture.count / seat.expert_ranks;
        let Some(id) = self.id else {
            let row = whole.elements() / self.mixture.count;
            let (first, mut shape) = (seat.expert_rank * each * row, whole.shape);
            shape[0] = each;
            return Some(Member { shape, first, ..whole });
        };
        (id / each == seat.expert_rank).then_some(())?;
        let name = Expert::one(&whole.name)?.named(id % each);
        Some(Member { name, ..whole })
    }
}

impl Experts {
    /// Those of a run.
    ///
    /// # Errors
    /// What the source says does not fit what is held, or the mesh does not fit.
    pub(super) fn of(run: &Run<'_>, source: &Source) -> Result<Experts, WriteError> {
        let ep = size(run, "ep");
        if !source.has_experts() {
            let mut held = run.ranks.iter().flat_map(|rank| &rank.tensors);
            if let Some(held) = held.find(|held| Expert::one(&held.name).is_some()) {
                return Err(WriteError::refused(
                    format!(
                        "{:?} is the name of an expert of DeepSpeed's own, and the source is no run of such experts: \
                         its optimizer has no groups of them",
                        held.name
                    ),
                    "take a view that keeps experts as the source does (--view)",
                ));
            }
            return match ep {
                1 => Ok(Experts::default()),
                _ => Err(WriteError::refused(
                    "the run has no experts of DeepSpeed's own that `ep` could share out",
                    "leave `ep` out of --mesh",
                )),
            };
        }
        let tp = size(run, "tp");
        let mut experts = Experts {
            ranks: Vec::with_capacity(run.ranks.len()),
            data_first: source.has_data_before_experts(),
            whole: tp > 1 && run.mesh.get("etp") == Some(&1),
            stacked: source.has_stacks(),
        };
        experts.possible(run)?;
        let (said, stacks) = (source.num_experts(), source.stacks()?);
        for rank in ranks(run) {
            let mixtures = match experts.stacked {
                true => Mixtures::of_stacks(run, &rank.tensors, &stacks, ep)?,
                false => Mixtures::of(run, &rank.tensors, ep)?,
            };
            if let Some(other) = mixtures.mixtures.iter().find(|m| !said.contains(&m.count)) {
                return Err(WriteError::refused(
                    format!(
                        "{:?} has {} experts, `num_experts` of the source says {said:?}",
                        other.name, other.count
                    ),
                    "the names are not those of the run: leave --view out",
                ));
            }
            experts.ranks.push(mixtures);
        }
        match experts.is_empty() {
            false => Ok(experts),
            true => Err(WriteError::refused(
                "the run has experts of DeepSpeed's own, and no name of what is written is that of one",
                "leave --view out: its own names are those that its load looks for",
            )),
        }
    }

    /// Whether what is written has place for them.
    ///
    /// # Errors
    /// ZeRO-3, unless they are AutoEP's; frozen experts under ZeRO-2 and 3; pipeline stages of which some have none.
    pub(super) fn fit(&self, run: &Run<'_>, zero: Zero) -> Result<(), WriteError> {
        if self.is_empty() {
            return Ok(());
        }
        let partitioned = matches!(zero, Zero::Three { .. });
        if partitioned && !self.stacked {
            return Err(WriteError::refused(
                "DeepSpeed has no ZeRO-3 for its own mixtures of experts",
                "write `--zero 1` or `--zero 2`",
            ));
        }
        if self.ranks.iter().any(|rank| rank.mixtures.is_empty()) {
            return Err(WriteError::refused(
                "some pipeline stages have experts and others have none, which DeepSpeed saves in different ways",
                "name a --mesh whose stages all have experts",
            ));
        }
        let mut frozen = run.ranks.iter().zip(&self.ranks).flat_map(|(rank, mixtures)| {
            let spread = |seated: &Seated| mixtures.mixtures[seated.mixture].ranks > 1;
            let spread = mixtures.experts.iter().filter(move |(_, s)| partitioned || spread(s));
            let held = spread.map(|(tensor, _)| &rank.tensors[*tensor]);
            held.filter(|held| held.role == Role::Frozen)
        });
        match frozen.next() {
            Some(held) if partitioned => Err(WriteError::refused(
                format!("{:?} is frozen, and ZeRO-3 has no frozen experts", held.name),
                "write `--zero 1`",
            )),
            Some(held) if zero == Zero::Two => Err(WriteError::refused(
                format!(
                    "{:?} is frozen, and under ZeRO-2 DeepSpeed's load gives the first rank's frozen experts to all",
                    held.name
                ),
                "write `--zero 1`, or name `ep=1` with --mesh",
            )),
            _ => Ok(()),
        }
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.ranks.iter().all(|rank| rank.mixtures.is_empty())
    }

    /// Whose a tensor is, if it is an expert's.
    pub(super) fn expert(&self, rank: usize, tensor: usize) -> Option<OfExpert<'_>> {
        let rank = self.ranks.get(rank)?;
        let seated = rank.experts.get(&tensor)?;
        Some(OfExpert { mixture: &rank.mixtures[seated.mixture], id: seated.id })
    }

    /// The experts of each mixture of a model-parallel rank.
    pub(super) fn counts(&self, rank: usize) -> Vec<u64> {
        let rank = self.ranks.get(rank).into_iter();
        rank.flat_map(|rank| &rank.mixtures).map(|mixture| mixture.count).collect()
    }

    /// Where a data-parallel rank is among those that experts are shared out over.
    pub(super) fn seat(&self, run: &Run<'_>, place: &Place<'_>, dp: u64, ep: u64) -> Seat {
        let tp = if self.whole { size(run, "tp") } else { 1 };
        let parts = self.sharing(run) / ep;
        let rank = dp * tp + place.mp % tp;
        let (expert_rank, part) = match self.data_first {
            true => (rank / parts, rank % parts),
            false => (rank % ep, rank / ep),
        };
        Seat { expert_rank, expert_ranks: ep, part, parts }
    }

    /// How many ranks the experts of a model-parallel rank are shared out over, copies among them.
    fn sharing(&self, run: &Run<'_>) -> u64 {
        size(run, "dp") * if self.whole { size(run, "tp") } else { 1 }
    }

    /// Whether the mesh has place for them.
    fn possible(&self, run: &Run<'_>) -> Result<(), WriteError> {
        let (tp, ep) = (size(run, "tp"), size(run, "ep"));
        if self.stacked && tp > 1 {
            return Err(WriteError::refused(
                "this version cannot write AutoEP's experts together with AutoTP's cuts (`folding`)",
                "leave `tp` out of --mesh",
            ));
        }
        let ranks = self.sharing(run);
        if !ranks.is_multiple_of(ep) {
            return Err(WriteError::refused(
                format!(
                    "experts are shared out over `ep` of the data-parallel ranks, and {ranks} do not divide by {ep}"
                ),
                "name a --mesh whose `dp` divides by `ep`",
            ));
        }
        if self.whole && (self.data_first || !ep.is_multiple_of(tp)) {
            return Err(WriteError::refused(
                format!(
                    "where tensor ranks share experts out, DeepSpeed's load looks for files that its ranks do not \
                     write unless `ep` divides by `tp` ({ep} and {tp}) and experts come before data"
                ),
                "name a --mesh whose `ep` divides by `tp`",
            ));
        }
        Ok(())
    }
}

/// The mixtures of a model-parallel rank, being found.
#[derive(Default)]
struct Found<'n> {
    /// By name the number of experts, and of ranks if it is known.
    mixtures: IndexMap<&'n str, (BTreeSet<u64>, Option<u64>)>,
    experts: IndexMap<usize, Seated>,
}

impl<'n> Found<'n> {
    /// Puts a tensor into a mixture, which then has these experts, if the optimizer has it among experts.
    fn put(
        &mut self,
        run: &Run<'_>,
        (number, held): (usize, &Held),
        (name, id, experts): (&'n str, Option<u64>, std::ops::Range<u64>),
    ) -> Result<(), WriteError> {
        let entry = self.mixtures.entry(name);
        let mixture = entry.index();
        let (ids, ranks) = entry.or_default();
        ids.extend(experts);
        match held.place.map(|(group, _)| expert_ranks(&run.groups[group])) {
            Some(Some(spread)) if spread > 0 => *ranks = Some(spread),
            Some(_) => {
                return Err(beside(held, "is an expert's, and its group is not one of experts"));
            }
            None => {}
        }
        self.experts.insert(number, Seated { mixture, id });
        Ok(())
    }

    /// Those of a run whose mixtures are over so many ranks where nothing says it.
    fn mixtures(self, ep: u64) -> Result<Mixtures, WriteError> {
        let mut mixtures = Vec::with_capacity(self.mixtures.len());
        for (name, (ids, ranks)) in self.mixtures {
            let count = ids.len() as u64;
            if count == 0 || ids.last() != Some(&(count - 1)) {
                let message = format!("{name:?} lacks some of its experts");
                return Err(WriteError::refused(message, "copy the files of all experts again"));
            }
            mixtures.push(Mixture { name: name.to_owned(), count, ranks: ranks.unwrap_or(ep) });
        }
        Ok(Mixtures { mixtures, experts: self.experts })
    }
}

impl Mixtures {
    /// Those of a model-parallel rank.
    fn of(run: &Run<'_>, tensors: &[Held], ep: u64) -> Result<Mixtures, WriteError> {
        let mut found = Found::default();
        for (number, held) in tensors.iter().enumerate() {
            match Expert::one(&held.name) {
                Some(Expert { mixture, id, .. }) => {
                    let expert = (mixture, Some(id), id..id.saturating_add(1));
                    found.put(run, (number, held), expert)?;
                }
                None => is_dense(run, held)?,
            }
        }
        found.mixtures(ep)
    }

    /// Those of AutoEP's stacks.
    fn of_stacks(
        run: &Run<'_>,
        tensors: &[Held],
        stacks: &[Stacked],
        ep: u64,
    ) -> Result<Mixtures, WriteError> {
        let mut found = Found::default();
        // Their order is that of the modules.
        for (number, held) in tensors.iter().enumerate() {
            match stacks.iter().find(|stack| stack.holds(&held.name)) {
                Some(stack) if held.shape.first() == Some(&stack.experts) => {
                    let expert = (stack.mixture.as_str(), None, 0..stack.experts);
                    found.put(run, (number, held), expert)?;
                }
                Some(_) => {
                    return Err(beside(held, "has other experts than `ds_autoep_layers` says"));
                }
                None => is_dense(run, held)?,
            }
        }
        let mut mixtures = found.mixtures(ep)?;
        mixtures.in_order_of(stacks);
        Ok(mixtures)
    }
}

/// Whether a tensor that is no expert's is in no group of experts.
fn is_dense(run: &Run<'_>, held: &Held) -> Result<(), WriteError> {
    match held.place.is_some_and(|(group, _)| is_of_experts(&run.groups[group])) {
        true => Err(beside(held, "is no expert's, and its group is one of experts")),
        false => Ok(()),
    }
}

/// A tensor that is in a group which it cannot be in.
fn beside(held: &Held, why: &str) -> WriteError {
    WriteError::refused(
        format!("{:?} {why}: DeepSpeed's engine keeps experts in groups of their own", held.name),
        "`--to universal` keeps every state",
    )
}
