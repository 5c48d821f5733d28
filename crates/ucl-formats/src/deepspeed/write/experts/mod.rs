//! Mixtures of experts as the ranks of a run have them.
//!
//! What experts there are, the source's model files say (`num_experts`, `ds_autoep_layers`), and the optimizer's
//! groups which of them are trained together. Experts are shared out over some of the data-parallel ranks, each
//! of which numbers its own from zero in its optimizer; their weights stand in files by themselves, numbered over
//! all ranks (`moe/layer.py`, `utils/groups.py` and `runtime/engine.py`, `_save_moe_checkpoint`).

mod files;
mod find;
mod groups;
mod stacks;

use super::share::Member;
use super::source::Source;
use super::{Place, Zero, size};
use crate::deepspeed::experts::Expert;
use crate::inventory::{Group, Optimizer, Role};
use crate::target::{Rank, Run, WriteError};
use indexmap::IndexMap;
use serde_json::Value;

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

/// What is said of experts that a view calls as DeepSpeed's modules do, in a run that had no such modules.
pub(super) fn as_others(run: &Run<'_>, experts: &Experts) -> Option<String> {
    let mut held = run.ranks.iter().flat_map(|rank| &rank.tensors);
    let held = held.find(|held| experts.is_empty() && Expert::one(&held.name).is_some())?;
    Some(format!(
        "The source was no run of DeepSpeed's own mixtures, so {:?} and others stand among all other weights and \
         groups, where the load of such mixtures does not look for them.",
        held.name
    ))
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
