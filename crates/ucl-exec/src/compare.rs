//! Two plans side by side: their tensors compared as values, without writing either.

use std::sync::{Mutex, PoisonError};

use ucl_plan::Work;
use ucl_tensor::{Differences, castable, compare_values};

use crate::error::ExecError;
use crate::options::{Options, Progress};
use crate::outcome::Tally;
use crate::product::beside;
use crate::source::Sources;
use crate::storage::Disk;
use crate::window::{Filler, Scratch};
use crate::workers::{Share, crew};

/// How two tensors differ.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Difference {
    /// Elements compared.
    pub compared: u64,
    /// Elements whose values differ. -0 is 0, and all NaN are one.
    pub mismatched: u64,
    /// The largest difference; infinite where one side is NaN.
    pub max_abs_diff: f64,
    /// The row-major number of the first element that differs.
    pub first: Option<u64>,
}

/// Compares pairs of tensors, one of each plan, and gives their differences in the order of the pairs.
///
/// Elements are compared in row-major order: a pair must have as many, in whatever shapes. Types may
/// differ if both are float types. Checks of the plans are made and not reported.
///
/// # Errors
///
/// When a pair cannot be compared or a source cannot be read.
pub fn compare(
    a: &dyn Work,
    b: &dyn Work,
    pairs: &[(usize, usize)],
    options: &Options,
    progress: &dyn Progress,
) -> Result<Vec<Difference>, ExecError> {
    progress.stage("compare");
    // Two windows for each worker instead of one.
    let options = Options { memory: options.memory / 4 * 3, ..options.clone() };
    let share = Share::of(&options, beside(a).saturating_add(beside(b)));
    let mut tasks = Vec::new();
    for (pair, (left, right)) in pairs.iter().enumerate() {
        let (left, right) = (&a.tensors()[*left], &b.tensors()[*right]);
        let wrong = |reason| ExecError::Plan { tensor: left.name.clone(), reason };
        if left.len() != right.len() {
            let reason = format!("shapes {:?} and {:?} are compared", left.shape, right.shape);
            return Err(wrong(reason));
        }
        castable(left.dtype, right.dtype).map_err(|error| wrong(error.to_string()))?;
        let size = left.dtype.size_bytes().max(right.dtype.size_bytes());
        let step = share.window as u64 / size;
        let starts = (0..left.len()).step_by(step as usize);
        tasks.extend(starts.map(|start| (pair, start..left.len().min(start + step))));
    }
    let (a_sources, b_sources) =
        (Sources::new(&Disk, a.sources(), progress), Sources::new(&Disk, b.sources(), progress));
    let a_filler = Filler::new(a, &a_sources, share);
    let b_filler = Filler::new(b, &b_sources, share);
    let tallies: Vec<Mutex<Tally>> = pairs.iter().map(|_| Mutex::default()).collect();
    let state = || (Vec::new(), Vec::new(), Scratch::default());
    crew(share.workers, tasks.len(), state, |(left, right, scratch), index| {
        let (pair, elements) = &tasks[index];
        let (i, j) = pairs[*pair];
        let count = (elements.end - elements.start) as usize;
        let mut fill = |filler: &Filler<'_>, tensor: usize, window: &mut Vec<u8>| {
            let dtype = filler.work.tensors()[tensor].dtype;
            window.resize(count * dtype.size_bytes() as usize, 0);
            filler.fill(scratch, tensor, elements.clone(), window).map(|_| dtype)
        };
        let left_type = fill(&a_filler, i, left)?;
        let right_type = fill(&b_filler, j, right)?;
        let found = compare_values((left_type, left), (right_type, right)).map_err(|error| {
            let tensor = a.tensors()[i].name.clone();
            ExecError::Plan { tensor, reason: error.to_string() }
        })?;
        let mut tally = tallies[*pair].lock().unwrap_or_else(PoisonError::into_inner);
        tally.add(&found, 0, elements.start);
        Ok(())
    })
    .map_err(|failure| failure.error)?;
    a_sources.unchanged()?;
    b_sources.unchanged()?;
    let differences = tallies.into_iter().map(|tally| {
        let tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
        let (Differences { compared, mismatched, max_abs_diff, .. }, first) = tally.parts();
        Difference { compared, mismatched, max_abs_diff, first: first.map(|(_, element)| element) }
    });
    Ok(differences.collect())
}
