//! Writing to a real file without filling the memory of the machine with pages that nobody will read.
//!
//! The kernel would keep what is written until it must write it, all at once, under the final sync. On
//! machines whose free memory is not at hand (virtual ones, cgroups) that is several times slower than
//! the disk. So writes go out at once and their pages are dropped.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate};
use rustix::io::{Errno, ReadWriteFlags, pwritev2};

use crate::storage::Sink;

/// `RWF_DONTCACHE`: write back at once and do not keep the pages. Linux 6.14.
pub(crate) const DONTCACHE: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x80);

/// The alignment below which an uncached write would read back the rest of a page.
const PAGE: u64 = 4096;

/// Bytes that are given time to reach the disk before their pages are dropped, where the kernel does not
/// do that itself.
const BEHIND: u64 = 32 << 20;

/// A file that is written once.
#[derive(Debug)]
pub(crate) struct DiskSink {
    file: File,
    /// Whether the file system knows [`DONTCACHE`].
    uncached: AtomicBool,
    behind: Mutex<Behind>,
}

/// Writes whose pages are still in memory.
#[derive(Debug, Default)]
struct Behind {
    ranges: VecDeque<(u64, u64)>,
    bytes: u64,
}

impl DiskSink {
    pub(crate) fn new(file: File) -> DiskSink {
        DiskSink { file, uncached: AtomicBool::new(true), behind: Mutex::default() }
    }

    /// The way of older kernels: advice that pages are not needed starts to write those that are dirty,
    /// and drops those that are not.
    fn push_out(&self, offset: u64, len: u64) {
        let advise = |offset, len| {
            // Advice may be ignored, and so may its failure.
            let _ = fadvise(&self.file, offset, NonZeroU64::new(len), Advice::DontNeed);
        };
        advise(offset, len);
        let mut behind = self.behind.lock().unwrap_or_else(PoisonError::into_inner);
        behind.ranges.push_back((offset, len));
        behind.bytes += len;
        let mut done = Vec::new();
        while behind.bytes > BEHIND
            && let Some((offset, len)) = behind.ranges.pop_front()
        {
            behind.bytes -= len;
            done.push((offset, len));
        }
        drop(behind);
        done.into_iter().for_each(|(offset, len)| advise(offset, len));
    }
}

impl Sink for DiskSink {
    fn reserve(&self, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        match fallocate(&self.file, FallocateFlags::empty(), 0, len) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.stretch(len),
            result => Ok(result?),
        }
    }

    fn stretch(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        // Only whole pages go uncached; the rest of a page stays for the neighbour who fills it.
        let to_page = (offset.next_multiple_of(PAGE) - offset) as usize;
        let whole = bytes.len() - bytes.len() % PAGE as usize;
        if self.uncached.load(Ordering::Relaxed) && bytes.len() >= PAGE as usize {
            if to_page > 0 {
                return self.file.write_at(&bytes[..to_page], offset);
            }
            let parts = [io::IoSlice::new(&bytes[..whole])];
            match pwritev2(&self.file, &parts, offset, DONTCACHE) {
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                    self.uncached.store(false, Ordering::Relaxed);
                }
                result => return Ok(result?),
            }
        }
        let written = self.file.write_at(bytes, offset)?;
        if written >= 1 << 20 {
            self.push_out(offset, written as u64);
        }
        Ok(written)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}
