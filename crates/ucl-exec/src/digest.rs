//! Digests that depend neither on windows nor on threads: of each block, then of the block digests.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Mutex;

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::error::{Doing, ExecError};
use crate::options::{Options, Progress};
use crate::source::{Again, read_exact_at};
use crate::storage::Source;
use crate::workers::{Failure, crew};

/// Bytes of a tensor that have a digest of their own.
pub(crate) const BLOCK: usize = 1 << 20;

/// The digest of one block.
pub(crate) fn block(bytes: &[u8]) -> u128 {
    xxh3_128(bytes)
}

/// The digest of a tensor from those of its blocks.
pub(crate) fn combine(blocks: impl IntoIterator<Item = u128>) -> String {
    let mut state = Xxh3::new();
    for block in blocks {
        state.update(&block.to_le_bytes());
    }
    format!("xxh3:{:032x}", state.digest128())
}

/// The block digests of a tensor while its windows arrive.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    blocks: Vec<u128>,
    missing: usize,
}

impl Blocks {
    /// Takes the block digests of the window at byte `start` of a tensor of `len` bytes, and gives the
    /// digest of the tensor with its last window.
    pub(crate) fn add(&mut self, len: u64, start: u64, window: &[u128]) -> Option<String> {
        if self.blocks.is_empty() {
            self.missing = len.div_ceil(BLOCK as u64) as usize;
            self.blocks = vec![0; self.missing];
        }
        let first = (start / BLOCK as u64) as usize;
        self.blocks[first..first + window.len()].copy_from_slice(window);
        self.missing -= window.len();
        (self.missing == 0).then(|| combine(std::mem::take(&mut self.blocks)))
    }
}

/// The digest of a part of a file, as [`run`](crate::run) gives it for a tensor.
///
/// # Errors
///
/// When the file cannot be read or is too short.
pub fn digest_range(file: &File, offset: u64, len: u64) -> std::io::Result<String> {
    let mut buffer = vec![0; BLOCK.min(len as usize)];
    digest_with(file, offset, len, &mut buffer, &mut |_| {})
}

fn digest_with(
    file: &dyn Source,
    offset: u64,
    len: u64,
    buffer: &mut [u8],
    read: &mut dyn FnMut(u64),
) -> std::io::Result<String> {
    let mut blocks = Vec::new();
    for start in (0..len).step_by(BLOCK) {
        let buffer = &mut buffer[..BLOCK.min((len - start) as usize)];
        read_exact_at(file, buffer, offset + start, Again::Never)?;
        read(buffer.len() as u64);
        blocks.push(block(buffer));
    }
    Ok(combine(blocks))
}

/// A tensor to digest again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestRange {
    /// The file.
    pub path: PathBuf,
    /// The offset of its first byte.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
}

/// The digests of many parts of files, in parallel, in their order; one that cannot be read does not stop
/// the others.
pub fn digest_ranges(
    ranges: &[DigestRange],
    options: &Options,
    progress: &dyn Progress,
) -> Vec<Result<String, ExecError>> {
    progress.stage("digest");
    let results: Vec<Mutex<Option<Result<String, ExecError>>>> =
        ranges.iter().map(|_| Mutex::new(None)).collect();
    let jobs = options.jobs.clamp(1, ((options.memory >> 20) as usize).max(1));
    let buffer = || vec![0; BLOCK];
    // No task fails: what goes wrong is a result of its own.
    let _: Result<(), Failure> = crew(jobs, ranges.len(), buffer, |buffer, index| {
        let DigestRange { path, offset, len } = &ranges[index];
        let result = match File::open(path) {
            Err(error) => Err(ExecError::Io { doing: Doing::Open, path: path.clone(), error }),
            Ok(file) => {
                digest_with(&file, *offset, *len, buffer, &mut |read| progress.advance(read, 0))
                    .map_err(ExecError::io(Doing::Read, path))
            }
        };
        if let Ok(mut slot) = results[index].lock() {
            *slot = Some(result);
        }
        Ok(())
    });
    let taken = results.into_iter().zip(ranges).map(|(slot, range)| {
        let lost = || ExecError::Io {
            doing: Doing::Read,
            path: range.path.clone(),
            error: std::io::Error::other("the thread that read it failed"),
        };
        slot.into_inner().ok().flatten().unwrap_or_else(|| Err(lost()))
    });
    taken.collect()
}
