//! Files that end with the sums of what is in them, as a zip does.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use crc32fast::Hasher;
use ucl_plan::Work;

/// The CRC-32 of the tensors of sealed files, while their windows arrive in any order.
pub(crate) struct Seals {
    /// The tensors of each sealed file; empty for others.
    files: Vec<Range<usize>>,
    /// By tensor: where each window begins, and its sum.
    windows: Vec<Mutex<Vec<(u64, Hasher)>>>,
}

impl Seals {
    pub(crate) fn new(work: &dyn Work) -> Seals {
        let mut files = vec![0..0; work.files().len()];
        for (index, tensor) in work.tensors().iter().enumerate() {
            let Some(file) = work.files().get(tensor.file).filter(|file| file.sealed) else {
                continue;
            };
            debug_assert!(file.fixed.is_empty() || tensor.offset > 0, "a header comes first");
            let range = &mut files[tensor.file];
            *range = if range.end == 0 { index..index + 1 } else { range.start..index + 1 };
        }
        let windows = work.tensors().iter().map(|_| Mutex::default()).collect();
        Seals { files, windows }
    }

    /// Takes the window at byte `start` of a tensor, if its file is sealed.
    pub(crate) fn add(&self, file: usize, tensor: usize, start: u64, window: &[u8]) {
        if self.files[file].is_empty() {
            return;
        }
        let mut hasher = Hasher::new();
        hasher.update(window);
        self.lock(tensor).push((start, hasher));
    }

    /// The sums of the tensors of a file, once all of their windows are there.
    pub(crate) fn sums(&self, file: usize) -> Vec<u32> {
        self.files[file].clone().map(|tensor| self.sum(tensor)).collect()
    }

    fn sum(&self, tensor: usize) -> u32 {
        let mut windows = std::mem::take(&mut *self.lock(tensor));
        windows.sort_by_key(|(start, _)| *start);
        let mut whole = Hasher::new();
        windows.iter().for_each(|(_, window)| whole.combine(window));
        whole.finalize()
    }

    fn lock(&self, tensor: usize) -> std::sync::MutexGuard<'_, Vec<(u64, Hasher)>> {
        self.windows[tensor].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
