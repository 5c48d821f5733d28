//! Reading what a plan would write, without writing it: windows of its tensors, straight from the sources.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use ucl_plan::Work;

use crate::error::ExecError;
use crate::options::{Options, Silent};
use crate::outcome::{CheckResult, First};
use crate::product::beside;
use crate::source::Sources;
use crate::storage::Disk;
use crate::window::{Filler, Scratch};
use crate::workers::Share;

/// A plan whose tensors can be read in any order and from many threads. Only the bytes that a window is
/// made of are read; a plan's headers were read when it was made.
pub struct Reader<'a> {
    work: &'a dyn Work,
    sources: Sources<'a>,
    share: Share,
    spare: Mutex<Vec<Scratch>>,
}

impl<'a> Reader<'a> {
    /// Opens no file yet. `options` bound the memory of each thread that reads: `memory` over `jobs`.
    pub fn new(work: &'a dyn Work, options: &Options) -> Reader<'a> {
        let share = Share::of(options, beside(work));
        let sources = Sources::new(&Disk, work.sources(), &Silent);
        Reader { work, sources, share, spare: Mutex::default() }
    }

    /// Fills `window` with `elements` of a tensor (row-major numbers) in the type of the plan's tensor.
    ///
    /// # Errors
    /// A source that cannot be read, a check that stops a run, or a window that is not as long as the
    /// elements.
    pub fn read(
        &self,
        tensor: usize,
        elements: Range<u64>,
        window: &mut [u8],
    ) -> Result<(), ExecError> {
        let Some(target) = self.work.tensors().get(tensor) else {
            let reason = format!("there is no tensor {tensor}");
            return Err(ExecError::Plan { tensor: String::new(), reason });
        };
        let wrong = |reason: String| ExecError::Plan { tensor: target.name.clone(), reason };
        if elements.start > elements.end || elements.end > target.len() {
            let reason = format!("it has {} elements, not {elements:?}", target.len());
            return Err(wrong(reason));
        }
        let size = target.dtype.size_bytes();
        let bytes = (elements.end - elements.start) * size;
        if window.len() as u64 != bytes {
            return Err(wrong(format!("{bytes} bytes do not fit a window of {}", window.len())));
        }
        let mut scratch = self.lock().pop().unwrap_or_default();
        let filler = Filler::new(self.work, &self.sources, self.share);
        let step = self.share.window as u64 / size;
        let mut rest = window;
        for start in elements.clone().step_by(step as usize) {
            let end = elements.end.min(start + step);
            let (part, later) = rest.split_at_mut(((end - start) * size) as usize);
            rest = later;
            let (found, _) = filler.fill(&mut scratch, tensor, start..end, part)?;
            let fatal = found.into_iter().filter_map(|(check, differences)| {
                let check = self.work.checks().get(check)?;
                (check.fatal && differences.mismatched > 0).then(|| CheckResult {
                    label: check.label.clone(),
                    compared: differences.compared,
                    mismatched: differences.mismatched,
                    max_abs_diff: differences.max_abs_diff,
                    first: differences
                        .first
                        .map(|first| First { tensor: target.name.clone(), element: start + first }),
                    fatal: true,
                })
            });
            let fatal: Vec<CheckResult> = fatal.collect();
            if !fatal.is_empty() {
                return Err(ExecError::Check(fatal));
            }
        }
        self.lock().push(scratch);
        Ok(())
    }

    /// Bytes read so far.
    pub fn bytes_read(&self) -> u64 {
        self.sources.bytes_read()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Scratch>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
