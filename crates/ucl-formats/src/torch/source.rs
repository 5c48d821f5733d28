//! Positioned reads that are counted: a file, or a slice of one, or bytes in memory.

use std::cell::Cell;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::error::TorchErrorKind;

/// A window of a file or of memory. Offsets given are relative to the window.
pub(super) struct Source<'a> {
    backing: Backing<'a>,
    base: u64,
    len: u64,
    bytes_read: Cell<u64>,
}

enum Backing<'a> {
    File(File),
    Opened(&'a File),
    Bytes(&'a [u8]),
}

impl<'a> Source<'a> {
    /// `window` is (offset, length) in the file; the whole file if `None`.
    pub(super) fn open(
        path: &Path,
        window: Option<(u64, u64)>,
    ) -> Result<Source<'static>, TorchErrorKind> {
        // Opening a pipe would wait for its writer.
        if !fs::metadata(path)?.is_file() {
            return Err(TorchErrorKind::NotAFile);
        }
        let file = File::open(path)?;
        let file_len = file.metadata()?.len();
        let (base, len) = window.unwrap_or((0, file_len));
        within(base, len, file_len)?;
        Ok(Source { backing: Backing::File(file), base, len, bytes_read: Cell::new(0) })
    }

    /// A window of a file that is open, of `file_len` bytes.
    pub(super) fn of(
        file: &'a File,
        file_len: u64,
        base: u64,
        len: u64,
    ) -> Result<Source<'a>, TorchErrorKind> {
        within(base, len, file_len)?;
        Ok(Source { backing: Backing::Opened(file), base, len, bytes_read: Cell::new(0) })
    }

    pub(super) fn bytes(bytes: &'a [u8]) -> Source<'a> {
        let len = bytes.len() as u64;
        Source { backing: Backing::Bytes(bytes), base: 0, len, bytes_read: Cell::new(0) }
    }

    /// Offset of the window in the file.
    pub(super) fn base(&self) -> u64 {
        self.base
    }

    /// Bytes of the window.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Bytes read so far, twice if read twice.
    pub(super) fn bytes_read(&self) -> u64 {
        self.bytes_read.get()
    }

    /// Reads `len` bytes; the caller has bounded `len`, and it is checked against the window here
    /// before memory is taken.
    pub(super) fn read(&self, offset: u64, len: u64) -> io::Result<Vec<u8>> {
        let fits = offset.checked_add(len).is_some_and(|end| end <= self.len);
        let len = usize::try_from(len).ok().filter(|_| fits);
        let Some(len) = len else { return Err(io::ErrorKind::UnexpectedEof.into()) };
        let mut buffer = vec![0; len];
        rawzip::ReaderAt::read_exact_at(self, &mut buffer, offset)?;
        Ok(buffer)
    }
}

fn within(offset: u64, len: u64, file_len: u64) -> Result<(), TorchErrorKind> {
    match offset.checked_add(len) {
        Some(end) if end <= file_len => Ok(()),
        _ => Err(TorchErrorKind::OutsideFile { offset, len, file_len }),
    }
}

impl rawzip::ReaderAt for Source<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        if wanted == 0 {
            return Ok(0);
        }
        let buffer = &mut buffer[..wanted];
        let file = match &self.backing {
            Backing::Bytes(bytes) => {
                let start = offset as usize;
                buffer.copy_from_slice(&bytes[start..start + wanted]);
                self.bytes_read.set(self.bytes_read.get() + wanted as u64);
                return Ok(wanted);
            }
            Backing::File(file) => file,
            Backing::Opened(file) => *file,
        };
        let count = loop {
            match file.read_at(buffer, self.base + offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.bytes_read.set(self.bytes_read.get() + count as u64);
        Ok(count)
    }
}
