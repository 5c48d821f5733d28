//! Threads that take numbered tasks in order, and how memory is divided among them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::ThreadPoolBuilder;

use crate::digest::BLOCK;
use crate::error::ExecError;
use crate::options::Options;

/// The least memory for data that a run uses, whatever its budget; beside it the matrices of a product
/// have to fit, if there are any.
pub const MEMORY_FLOOR: u64 = 4 << 20;

/// What one worker may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// How many workers there are.
    pub(crate) workers: usize,
    /// Bytes of a target window: a multiple of a block.
    pub(crate) window: usize,
    /// Bytes of a window that is worth more because its sources are strewn.
    pub(crate) wide: usize,
    /// Bytes read at a time.
    pub(crate) read: usize,
    /// Elements that are added up at a time.
    pub(crate) totals: usize,
}

/// The size that windows have when memory allows: larger ones fall out of the caches.
const WINDOW: usize = 4 << 20;

impl Share {
    /// Divides the budget: as many workers as asked for, if each gets the floor and what it needs
    /// `beside` it.
    pub(crate) fn of(options: &Options, beside: u64) -> Share {
        let floor = MEMORY_FLOOR.saturating_add(beside);
        let memory = options.memory.max(floor);
        let workers = options.jobs.clamp(1, usize::try_from(memory / floor).unwrap_or(usize::MAX));
        let each = memory / workers as u64 - beside;
        let each = usize::try_from(each).unwrap_or(usize::MAX);
        let blocks = |bytes: usize| (bytes / BLOCK).max(1) * BLOCK;
        let window = blocks((each / 3).min(WINDOW));
        // Of each third: one for the window, one for reads, one for totals and what is in flight.
        let wide = blocks((each / 3).min(16 * WINDOW));
        Share { workers, window, wide, read: (each / 3).max(BLOCK), totals: each / 6 / 40 }
    }
}

/// A task that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Its number.
    pub(crate) task: usize,
    /// Why.
    pub(crate) error: ExecError,
}

/// Runs tasks `0..count` on `workers` threads, each with a state of its own.
///
/// After a failure no later task starts. Tasks start in order, so all earlier ones run to their end, and
/// the failure that is returned is the same for any number of workers.
pub(crate) fn crew<S>(
    workers: usize,
    count: usize,
    state: impl Fn() -> S + Sync,
    task: impl Fn(&mut S, usize) -> Result<(), ExecError> + Sync,
) -> Result<(), Failure> {
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<Failure>> = Mutex::new(None);
    let work = || {
        let mut state = state();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return;
            }
            if let Err(error) = task(&mut state, index) {
                next.store(count, Ordering::Relaxed);
                let mut failed = failed.lock().unwrap_or_else(|poison| poison.into_inner());
                if failed.as_ref().is_none_or(|known| index < known.task) {
                    *failed = Some(Failure { task: index, error });
                }
                return;
            }
        }
    };
    match workers.min(count) {
        0 => {}
        1 => work(),
        workers => match ThreadPoolBuilder::new().num_threads(workers).build() {
            Ok(pool) => {
                pool.broadcast(|_| work());
            }
            // Where no more threads can be had, this one does it all.
            Err(_) => work(),
        },
    }
    match failed.into_inner().unwrap_or_else(|poison| poison.into_inner()) {
        Some(failure) => Err(failure),
        None => Ok(()),
    }
}
