//! What a run knows about its result.

use ucl_plan::Check;
use ucl_tensor::Differences;

/// What was done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// The digest of each tensor, in the order of the plan's tensors.
    pub digests: Vec<String>,
    /// Bytes read from the sources.
    pub bytes_read: u64,
    /// Bytes of tensors and headers written.
    pub bytes_written: u64,
    /// What each of the plan's checks found, in their order.
    pub checks: Vec<CheckResult>,
    /// For each of the plan's tensors, how many values that were cast are infinite or no number: they
    /// were so before, or are too large for the type.
    pub not_finite: Vec<u64>,
    /// How long it took, in seconds, until the files were durable.
    pub seconds: f64,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckResult {
    /// The label of the check.
    pub label: String,
    /// Elements compared.
    pub compared: u64,
    /// Elements that differ.
    pub mismatched: u64,
    /// The largest difference; infinite where one side is NaN. Of a mean: the largest spread.
    pub max_abs_diff: f64,
    /// The first element that differs, in the order of the target.
    pub first: Option<First>,
    /// Whether a difference stops the run.
    pub fatal: bool,
}

/// An element of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct First {
    /// The tensor's name.
    pub tensor: String,
    /// The row-major number of the element.
    pub element: u64,
}

/// The sums of a check while windows report to it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    found: Differences,
    first: Option<(usize, u64)>,
}

impl Tally {
    /// Adds what was found in a window of `tensor` that starts at `start`.
    pub(crate) fn add(&mut self, found: &Differences, tensor: usize, start: u64) {
        self.found.compared += found.compared;
        self.found.mismatched += found.mismatched;
        self.found.max_abs_diff = self.found.max_abs_diff.max(found.max_abs_diff);
        if let Some(first) = found.first {
            let first = (tensor, start + first);
            self.first = Some(self.first.map_or(first, |known| known.min(first)));
        }
    }

    /// The sums, and the first element that differs, with its tensor.
    pub(crate) fn parts(&self) -> (Differences, Option<(usize, u64)>) {
        (self.found, self.first)
    }

    pub(crate) fn result(&self, check: &Check, name: impl Fn(usize) -> String) -> CheckResult {
        let first = self.first.map(|(tensor, element)| First { tensor: name(tensor), element });
        CheckResult {
            label: check.label.clone(),
            compared: self.found.compared,
            mismatched: self.found.mismatched,
            max_abs_diff: self.found.max_abs_diff,
            first,
            fatal: check.fatal,
        }
    }
}
