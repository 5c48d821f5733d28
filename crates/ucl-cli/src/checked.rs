//! What the checks of a run found, in sentences.

use crate::show;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use ucl_exec::{CheckResult, Outcome};
use ucl_plan::{MoveRole, Plan, Work};
use ucl_tensor::DType;

/// How many tensors are named.
const LISTED: usize = 8;

/// What agrees and what does not.
pub(crate) struct Checked {
    /// A sentence for each kind of check.
    pub(crate) agree: Vec<String>,
    /// Differences that did not stop the run.
    differ: Vec<CheckResult>,
    /// Tensors with values that are not finite after a cast: name, type, how many.
    not_finite: Vec<(String, DType, u64)>,
}

/// A kind of check.
#[derive(Default)]
struct Kind {
    checks: BTreeSet<usize>,
    tensors: BTreeSet<usize>,
}

impl Checked {
    /// Sorts the results by what was compared.
    pub(crate) fn of(plan: &Plan<'_>, outcome: &Outcome) -> Checked {
        let (mut masters, mut replicas, mut means) =
            (Kind::default(), Kind::default(), Kind::default());
        for (number, tensor) in plan.tensors().iter().enumerate() {
            for step in plan.window(number, 0..tensor.len()) {
                let (kind, check) = match step.role {
                    MoveRole::Rounded(check) => (&mut masters, check),
                    MoveRole::Equal(check) => (&mut replicas, check),
                    MoveRole::Average(_, check) => (&mut means, check),
                    _ => continue,
                };
                kind.checks.insert(check);
                kind.tensors.insert(number);
            }
        }
        let same = |kind: &Kind| {
            let agree = |check: &&usize| {
                outcome.checks.get(**check).is_some_and(|found| found.mismatched == 0)
            };
            kind.checks.iter().filter(agree).count() as u64
        };
        let mut agree = Vec::new();
        let of = masters.tensors.len() as u64;
        if of > 0 {
            agree.push(format!(
                "{} round to the model's own weights, bit for bit",
                show::count(of, "master weight")
            ));
        }
        let (equal, of) = (same(&replicas), replicas.checks.len() as u64);
        if of > 0 {
            agree.push(format!(
                "{} of {} equal what was written",
                show::number(equal),
                show::count(of, "stored replica")
            ));
        }
        let (equal, of) = (same(&means), means.checks.len() as u64);
        if of > 0 {
            agree.push(format!(
                "{} of {} equal their mean",
                show::number(equal),
                show::count(of, "averaged tensor")
            ));
        }
        let differ = outcome.checks.iter().filter(|check| check.mismatched > 0).cloned().collect();
        let counts =
            plan.tensors().iter().zip(&outcome.not_finite).filter(|(_, count)| **count > 0);
        let not_finite =
            counts.map(|(tensor, count)| (tensor.name.clone(), tensor.dtype, *count)).collect();
        Checked { agree, differ, not_finite }
    }

    /// A line for each difference.
    pub(crate) fn differ_lines(&self) -> Vec<String> {
        let line = |check: &CheckResult| {
            let first = check.first.as_ref().map_or_else(String::new, |first| {
                format!(", first at element {} of {}", first.element, show::name(&first.tensor))
            });
            format!(
                "{}: {} of {} values, by up to {:e}{first}; what was written is the owner's",
                show::name(&check.label),
                show::number(check.mismatched),
                show::number(check.compared),
                check.max_abs_diff,
            )
        };
        self.differ.iter().map(line).collect()
    }

    /// A line for each tensor with values that are not finite after a cast, as far as a screen goes.
    pub(crate) fn not_finite_lines(&self) -> Vec<String> {
        let line = |(name, dtype, count): &(String, DType, u64)| {
            let name = show::name(name);
            format!(
                "{name}: {} infinite or no number in {dtype}; too large for it, or so before",
                match count {
                    1 => "1 value is".to_owned(),
                    count => format!("{} values are", show::number(*count)),
                }
            )
        };
        let mut lines: Vec<String> = self.not_finite.iter().take(LISTED).map(line).collect();
        let more = self.not_finite.len().saturating_sub(LISTED) as u64;
        if more > 0 {
            lines.push(format!("and so in {}", show::count(more, "more tensor")));
        }
        lines
    }

    /// The same as data.
    pub(crate) fn not_finite_json(&self) -> Value {
        let one = |(name, dtype, count): &(String, DType, u64)| json!({ "tensor": name, "dtype": dtype.name(), "values": count });
        self.not_finite.iter().map(one).collect()
    }

    /// The differences as data.
    pub(crate) fn differ_json(&self) -> Value {
        let one = |check: &CheckResult| {
            json!({
                "what": check.label, "compared": check.compared, "differ": check.mismatched,
                "max_abs_diff": check.max_abs_diff,
                "first": check.first.as_ref().map(|first| json!({
                    "tensor": first.tensor, "element": first.element,
                })),
            })
        };
        self.differ.iter().map(one).collect()
    }
}
