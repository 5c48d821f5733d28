//! The files of a target, and what is in each of their tensors.

use crate::step::signed;
use crate::work::{TargetFile, TargetTensor};
use std::ops::Range;
use std::sync::Arc;
use ucl_formats::target::{Part, RunFile, Seal};

/// The files of a target: tensors in their order, each with the parts that it is made of.
#[derive(Default)]
pub(crate) struct LaidOut {
    pub(crate) files: Vec<TargetFile>,
    pub(crate) tensors: Vec<TargetTensor>,
    /// For each tensor, what is in it, ascending.
    pub(crate) parts: Vec<Arc<[Part]>>,
    seals: Vec<Option<Seal>>,
}

impl LaidOut {
    /// A run's files.
    pub(crate) fn of_run(files: Vec<RunFile>) -> LaidOut {
        let mut laid = LaidOut::default();
        for file in files {
            for (offset, buffer) in file.buffers {
                laid.tensors.push(TargetTensor {
                    name: buffer.name,
                    state: buffer.state,
                    dtype: buffer.dtype,
                    shape: buffer.shape,
                    file: laid.files.len(),
                    offset,
                });
                laid.parts.push(buffer.parts);
            }
            laid.file(file.path, file.len, file.fixed, file.seal);
        }
        laid
    }

    /// Adds a file whose tensors were added.
    pub(crate) fn file(
        &mut self,
        path: String,
        len: u64,
        fixed: Vec<(u64, Vec<u8>)>,
        seal: Option<Seal>,
    ) {
        self.files.push(TargetFile { path, len, fixed, sealed: seal.is_some() });
        self.seals.push(seal);
    }

    /// What closes a sealed file.
    pub(crate) fn seal(&self, file: usize, sums: &[u32]) -> Vec<(u64, Vec<u8>)> {
        self.seals[file].as_ref().map_or_else(Vec::new, |seal| seal.close(sums))
    }

    /// Forgets the tensors, whose bytes are then zeros: files are closed without sums.
    pub(crate) fn hollow(&mut self) {
        self.tensors.clear();
        self.parts.clear();
    }

    /// The parts that meet a window of a tensor: each with the range of its own elements, and how many
    /// elements before the window its tensor's element 0 would stand.
    pub(crate) fn meeting(
        &self,
        tensor: usize,
        window: &Range<u64>,
    ) -> impl Iterator<Item = (Part, Range<u64>, i64)> + '_ {
        let parts = &self.parts[tensor];
        let first = parts.partition_point(|part| part.start + part.len <= window.start);
        let window = window.clone();
        parts[first..].iter().take_while(move |part| part.start < window.end).map(move |part| {
            let lo = window.start.max(part.start) - part.start + part.first;
            let hi = window.end.min(part.start + part.len) - part.start + part.first;
            let before = signed(part.first) - signed(part.start) + signed(window.start);
            (*part, lo..hi, before)
        })
    }
}
