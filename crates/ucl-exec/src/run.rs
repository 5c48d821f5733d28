//! A run from the first check of the destination to the rename that publishes it.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use ucl_plan::Work;

use crate::digest::{self, BLOCK, Blocks};
use crate::error::{Doing, ExecError};
use crate::options::{Options, Progress};
use crate::outcome::{CheckResult, First, Outcome, Tally};
use crate::product::beside;
use crate::seal::Seals;
use crate::source::Sources;
use crate::staging::{Staging, exists, place};
use crate::storage::{Disk, Storage};
use crate::target::Targets;
use crate::task::{Task, bytes, tasks};
use crate::window::{Filler, Found, Scratch};
use crate::workers::{Share, crew};

/// Small files: their paths under the destination, and their bytes.
pub type SmallFiles = Result<Vec<(String, Vec<u8>)>, Box<dyn std::error::Error + Send + Sync>>;

/// Makes the small files that are known last: a manifest, an index.
pub type Finish<'a> = dyn Fn(&Outcome) -> SmallFiles + 'a;

/// Runs a plan into a folder that does not exist, or is replaced.
///
/// # Errors
///
/// See [`ExecError`]. The destination is then what it was.
pub fn run(
    work: &dyn Work,
    destination: &Path,
    options: &Options,
    progress: &dyn Progress,
    finish: &Finish<'_>,
) -> Result<Outcome, ExecError> {
    run_on(&Disk, work, destination, options, progress, finish)
}

/// [`run`] on any storage.
///
/// # Errors
///
/// See [`run`].
pub fn run_on(
    storage: &dyn Storage,
    work: &dyn Work,
    destination: &Path,
    options: &Options,
    progress: &dyn Progress,
    finish: &Finish<'_>,
) -> Result<Outcome, ExecError> {
    let begin = Instant::now();
    let (parent, _) = place(destination)?;
    if !options.overwrite && exists(destination)? {
        return Err(ExecError::DestinationExists(destination.to_owned()));
    }
    let share = Share::of(options, beside(work));
    let tasks = tasks(work, share)?;
    if !options.sparse {
        let needed = work.files().iter().fold(0_u64, |sum, file| sum.saturating_add(file.len));
        let free = storage.free(&parent).map_err(ExecError::io(Doing::Open, &parent))?;
        if needed > free {
            return Err(ExecError::NoSpace { path: parent, needed, free });
        }
    }

    progress.stage("reserve");
    let staging = Staging::create(storage, destination, progress)?;
    let mut left = vec![0; work.files().len()];
    tasks.iter().for_each(|task| left[task.file] += 1);
    let targets = Targets::new(storage, staging.path(), work.files(), left, options.sparse);
    let seals = Seals::new(work);
    let seal = |file: usize| work.seal(file, &seals.sums(file));
    crew(share.workers, work.files().len(), || (), |(), index| targets.create(index, seal))
        .map_err(|failure| failure.error)?;

    progress.stage("move");
    let sources = Sources::new(storage, work.sources(), progress);
    let results = Results::new(work);
    let filler = Filler::new(work, &sources, share);
    let mover = Mover { filler, targets: &targets, results: &results, seals: &seals };
    let state = || (Vec::new(), Scratch::default());
    crew(share.workers, tasks.len(), state, |(window, scratch), index| {
        mover.task(&tasks[index], window, scratch, progress)
    })
    .map_err(|failure| failure.error)?;
    sources.unchanged()?;

    progress.stage("sync");
    let mut outcome = results.outcome(work);
    outcome.bytes_read = sources.bytes_read();
    outcome.bytes_written = targets.written();
    outcome.seconds = begin.elapsed().as_secs_f64();
    for (name, bytes) in finish(&outcome).map_err(ExecError::Finish)? {
        targets.add(&name, &bytes)?;
    }
    targets.sync()?;

    progress.stage("publish");
    staging.publish(options.overwrite, progress)?;
    outcome.seconds = begin.elapsed().as_secs_f64();
    Ok(outcome)
}

/// What windows report.
struct Results {
    blocks: Vec<Mutex<Blocks>>,
    digests: Mutex<Vec<String>>,
    checks: Vec<Mutex<Tally>>,
    not_finite: Vec<AtomicU64>,
}

impl Results {
    fn new(work: &dyn Work) -> Results {
        let tensors = work.tensors().len();
        Results {
            blocks: (0..tensors).map(|_| Mutex::default()).collect(),
            // What a tensor without elements has.
            digests: Mutex::new(vec![digest::combine([]); tensors]),
            checks: work.checks().iter().map(|_| Mutex::default()).collect(),
            not_finite: (0..tensors).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    fn outcome(&self, work: &dyn Work) -> Outcome {
        let name = |tensor: usize| work.tensors()[tensor].name.clone();
        let results = work.checks().iter().zip(&self.checks).map(|(check, tally)| {
            tally.lock().unwrap_or_else(PoisonError::into_inner).result(check, name)
        });
        let checks = results.collect();
        let mut digests = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        let not_finite =
            self.not_finite.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let digests = std::mem::take(&mut *digests);
        Outcome { digests, checks, not_finite, ..Outcome::default() }
    }
}

/// Does tasks.
struct Mover<'a> {
    filler: Filler<'a>,
    targets: &'a Targets<'a>,
    results: &'a Results,
    seals: &'a Seals,
}

impl Mover<'_> {
    fn task(
        &self,
        task: &Task,
        window: &mut Vec<u8>,
        scratch: &mut Scratch,
        progress: &dyn Progress,
    ) -> Result<(), ExecError> {
        if window.len() < task.len {
            window.resize(task.len, 0);
        }
        let window = &mut window[..task.len];
        let tensors = &self.filler.work.tensors()[task.tensor..task.tensor + task.tensors];
        // What was filled and not yet written: its place in the window and in the file.
        let (mut begin, mut end, mut offset) = (0, 0, tensors[0].offset + task.start);
        for (number, tensor) in tensors.iter().enumerate() {
            let total = bytes(tensor).unwrap_or_default();
            let len = if task.tensors == 1 { task.len } else { total as usize };
            if number > 0 && tensor.offset != offset + (end - begin) as u64 {
                self.targets.write(task.file, &window[begin..end], offset)?;
                (begin, offset) = (end, tensor.offset);
            }
            let size = tensor.dtype.size_bytes();
            let elements = task.start / size..(task.start + len as u64) / size;
            let part = &mut window[end..end + len];
            let first = elements.start;
            let filled = self.filler.fill(scratch, task.tensor + number, elements, part)?;
            let (found, not_finite) = filled;
            self.results.not_finite[task.tensor + number].fetch_add(not_finite, Ordering::Relaxed);
            self.report(task.tensor + number, first, found)?;
            self.digest(task.tensor + number, total, task.start, part);
            self.seals.add(task.file, task.tensor + number, task.start, part);
            end += len;
        }
        self.targets.write(task.file, &window[begin..end], offset)?;
        progress.advance(0, task.len as u64);
        let work = self.filler.work;
        self.targets.done(task.file, || work.seal(task.file, &self.seals.sums(task.file)))
    }

    fn digest(&self, tensor: usize, len: u64, start: u64, window: &[u8]) {
        let blocks: Vec<u128> = window.chunks(BLOCK).map(digest::block).collect();
        let mut known = self.results.blocks[tensor].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(digest) = known.add(len, start, &blocks) {
            let mut digests = self.results.digests.lock().unwrap_or_else(PoisonError::into_inner);
            digests[tensor] = digest;
        }
    }

    /// Adds what checks found; a fatal one that found something stops the run.
    fn report(&self, tensor: usize, start: u64, found: Vec<Found>) -> Result<(), ExecError> {
        let work = self.filler.work;
        let mut fatal: Vec<CheckResult> = Vec::new();
        for (index, differences) in found {
            let Some(check) = work.checks().get(index) else {
                let tensor = work.tensors()[tensor].name.clone();
                return Err(ExecError::Plan { tensor, reason: format!("it has no check {index}") });
            };
            let mut tally =
                self.results.checks[index].lock().unwrap_or_else(PoisonError::into_inner);
            tally.add(&differences, tensor, start);
            if check.fatal && differences.mismatched > 0 {
                let tensor = work.tensors()[tensor].name.clone();
                fatal.push(CheckResult {
                    label: check.label.clone(),
                    compared: differences.compared,
                    mismatched: differences.mismatched,
                    max_abs_diff: differences.max_abs_diff,
                    first: differences.first.map(|first| First { tensor, element: start + first }),
                    fatal: true,
                });
            }
        }
        if fatal.is_empty() { Ok(()) } else { Err(ExecError::Check(fatal)) }
    }
}
