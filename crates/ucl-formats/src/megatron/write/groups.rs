//! The groups of a Megatron's optimizer, and who is in which.
//!
//! `megatron/core/optimizer/__init__.py`: parameters with and without weight decay (what has one dim,
//! and biases); those of experts by themselves where they are cut over expert ranks, in an optimizer of
//! their own.

use super::size;
use crate::megatron::order::{is_expert, is_flat};
use crate::target::{Draft, Held, Run, WriteError};
use crate::torch::NodeId;
use indexmap::IndexMap;
use serde_json::{Value, json};

/// The key by which a group of Megatron's is known, whatever wrote it.
const DECAY: &str = "wd_mult";

/// The weight decay of a group.
const WEIGHT_DECAY: &str = "weight_decay";

/// Whose a group is.
const EXPERTS: &str = "is_expert_parallel";

/// The groups of all optimizers.
pub(crate) struct Groups {
    /// The groups, those of experts last.
    pub(crate) groups: Vec<Group>,
    kinds: Vec<Kind>,
    /// Whether experts have an optimizer of their own.
    apart: bool,
    /// Whether the source's groups are a Megatron's.
    theirs: bool,
    /// For each group of the source, the first that differs from it in nothing but whose it is.
    same: Vec<usize>,
}

/// A group.
pub(crate) struct Group {
    /// Hyper-parameters and what Megatron knows it by; no `state.` among them.
    pub(crate) hyper: IndexMap<String, Value>,
    /// States of all its parameters that are one number.
    pub(crate) scalars: IndexMap<String, Value>,
    /// The step that its parameters are at.
    pub(crate) step: Option<Value>,
}

/// What puts parameters into one group: whether they are experts', whether they do not decay, the group
/// of the source.
type Kind = (bool, bool, usize);

impl Groups {
    /// Those of a run.
    pub(crate) fn of(run: &Run<'_>) -> Result<Groups, WriteError> {
        let theirs = run.groups.iter().all(|group| group.hyper.contains_key(DECAY));
        let alike = |a: usize, b: usize| {
            let of = |group: usize| {
                let hyper = run.groups[group].hyper.iter();
                let known = hyper.filter(|(key, _)| {
                    // Others' weight decay is put right by Megatron's own rule.
                    ![EXPERTS, "params"].contains(&key.as_str())
                        && (theirs || ![WEIGHT_DECAY, "name"].contains(&key.as_str()))
                });
                known.collect::<IndexMap<_, _>>()
            };
            of(a) == of(b)
        };
        let count = run.groups.len();
        let first = |group: usize| (0..group).find(|known| alike(*known, group)).unwrap_or(group);
        let mut groups = Groups {
            groups: Vec::new(),
            kinds: Vec::new(),
            apart: size(run, "ep") > 1,
            theirs,
            same: (0..count).map(first).collect(),
        };
        let held = run.ranks.iter().flat_map(|rank| &rank.tensors);
        let mut kinds: Vec<Kind> = held.filter_map(|held| groups.kind(held)).collect();
        kinds.sort_unstable();
        kinds.dedup();
        for kind in &kinds {
            groups.groups.push(groups.make(run, *kind));
        }
        // Megatron knows a group by these alone, so two that agree in them are one.
        for (number, (expert, flat, group)) in kinds.iter().enumerate() {
            let others = kinds[..number].iter();
            if !theirs && others.clone().any(|(e, f, g)| (e, f) == (expert, flat) && g != group) {
                return Err(WriteError::refused(
                    "the optimizer's groups differ in more than weight decay, and Megatron puts its parameters into groups by that alone",
                    "write `--states weights`",
                ));
            }
        }
        groups.kinds = kinds;
        Ok(groups)
    }

    /// The group of what is trained.
    pub(crate) fn of_held(&self, held: &Held) -> Option<usize> {
        let kind = self.kind(held)?;
        self.kinds.iter().position(|known| *known == kind)
    }

    /// The groups of each optimizer.
    pub(crate) fn optimizers(&self) -> Vec<Vec<usize>> {
        let (experts, others): (Vec<usize>, Vec<usize>) =
            (0..self.groups.len()).partition(|group| self.kinds[*group].0);
        match experts.is_empty() {
            true => vec![others],
            false => vec![others, experts],
        }
    }

    fn kind(&self, held: &Held) -> Option<Kind> {
        let (group, _) = held.place.filter(|_| held.is_trained())?;
        let expert = self.apart && is_expert(&held.name);
        let group = self.same.get(group).copied().unwrap_or(group);
        Some((expert, !self.theirs && is_flat(&held.name, &held.shape), group))
    }

    fn make(&self, run: &Run<'_>, (expert, flat, group): Kind) -> Group {
        let source = &run.groups[group];
        let mut made =
            Group { hyper: IndexMap::new(), scalars: IndexMap::new(), step: source.step.clone() };
        made.hyper.insert(EXPERTS.to_owned(), Value::from(expert));
        let mult = if flat { 0.0 } else { 1.0 };
        let own = [
            ("default_config", json!(true)),
            (DECAY, json!(mult)),
            ("lr_mult", json!(1.0)),
            ("is_decoupled_lr", json!(false)),
        ];
        made.hyper.extend(own.map(|(key, value)| (key.to_owned(), value)));
        for (key, value) in &source.hyper {
            match key.strip_prefix("state.") {
                Some(state) => drop(made.scalars.insert(state.to_owned(), value.clone())),
                None if [EXPERTS, "params"].contains(&key.as_str()) => {}
                None => drop(made.hyper.insert(key.clone(), value.clone())),
            }
        }
        if !self.theirs && made.hyper.contains_key(WEIGHT_DECAY) {
            let of = |(number, _): &(usize, &usize)| {
                run.groups[*number].hyper.get(WEIGHT_DECAY).and_then(Value::as_f64)
            };
            let alike = self.same.iter().enumerate().filter(|(_, first)| **first == group);
            let decay = alike.filter_map(|one| of(&one)).fold(0.0, f64::max);
            made.hyper.insert(WEIGHT_DECAY.to_owned(), json!(decay * mult));
        }
        made
    }
}

/// A hyper-parameter; pairs such as `betas` are tuples.
pub(crate) fn hyper_parameter(draft: &mut Draft, value: &Value) -> NodeId {
    match value {
        Value::Array(items) if items.iter().all(Value::is_number) => {
            let items: Vec<NodeId> = items.iter().map(|item| draft.json(item)).collect();
            draft.pickle.tuple(&items)
        }
        value => draft.json(value),
    }
}
