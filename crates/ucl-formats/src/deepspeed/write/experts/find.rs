//! Which tensors are experts', and of which mixtures.

use super::{Mixture, Mixtures, Seated, expert_ranks, is_of_experts};
use crate::deepspeed::experts::{Expert, Stacked};
use crate::target::{Held, Run, WriteError};
use indexmap::IndexMap;
use std::collections::BTreeSet;

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
    pub(super) fn of(run: &Run<'_>, tensors: &[Held], ep: u64) -> Result<Mixtures, WriteError> {
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
    pub(super) fn of_stacks(
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
