//! The bytes of a pickle in order, from memory or block by block from a file.

use std::borrow::Cow;

use super::error::PickleProblem;
use super::limits::MAX_LINE_BYTES;
use super::source::Source;

/// Bytes read at a time from a file whose pickle has no known length.
const BLOCK: u64 = 64 << 10;

/// A position in a stream of bytes. Lengths are checked against what is left before memory is
/// taken.
pub(super) struct Cursor<'a> {
    buffer: Cow<'a, [u8]>,
    /// Next byte in the buffer.
    at: usize,
    /// Position of the buffer in the stream.
    start: u64,
    /// Bytes of the stream behind the buffer, to be read from the source.
    behind: u64,
    source: Option<&'a Source<'a>>,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { buffer: Cow::Borrowed(bytes), at: 0, start: 0, behind: 0, source: None }
    }

    /// The whole of a source.
    pub(super) fn stream(source: &'a Source<'a>) -> Cursor<'a> {
        let behind = source.len();
        Cursor { buffer: Cow::Owned(Vec::new()), at: 0, start: 0, behind, source: Some(source) }
    }

    /// Bytes before the next one.
    pub(super) fn position(&self) -> u64 {
        self.start + self.at as u64
    }

    /// Bytes from the next one to the end.
    pub(super) fn left(&self) -> u64 {
        (self.buffer.len() - self.at) as u64 + self.behind
    }

    pub(super) fn byte(&mut self) -> Result<u8, PickleProblem> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], PickleProblem> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N as u64)?);
        Ok(bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u64, PickleProblem> {
        Ok(u64::from(u32::from_le_bytes(self.array()?)))
    }

    pub(super) fn u64(&mut self) -> Result<u64, PickleProblem> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(super) fn take(&mut self, count: u64) -> Result<&[u8], PickleProblem> {
        self.fill(count)?;
        let start = self.at;
        self.at += count as usize;
        Ok(&self.buffer[start..self.at])
    }

    /// Bytes up to the next line feed, which is skipped.
    pub(super) fn line(&mut self) -> Result<&[u8], PickleProblem> {
        let mut length = 0;
        loop {
            self.fill(length as u64 + 1)?;
            let rest = &self.buffer[self.at + length..];
            if let Some(found) = rest.iter().position(|byte| *byte == b'\n') {
                length += found;
                break;
            }
            length += rest.len();
            if length > MAX_LINE_BYTES {
                let limit = MAX_LINE_BYTES as u64;
                return Err(PickleProblem::Limit { what: "bytes in a line", limit });
            }
        }
        let start = self.at;
        self.at += length + 1;
        Ok(&self.buffer[start..start + length])
    }

    /// Makes `count` bytes available in the buffer.
    fn fill(&mut self, count: u64) -> Result<(), PickleProblem> {
        let there = (self.buffer.len() - self.at) as u64;
        if count <= there {
            return Ok(());
        }
        let end = PickleProblem::End { needed: count, left: self.left() };
        let Some(source) = self.source.filter(|_| count <= there + self.behind) else {
            return Err(end);
        };
        let wanted = (count - there).max(BLOCK).min(self.behind);
        let offset = source.len() - self.behind;
        let more = source.read(offset, wanted).map_err(PickleProblem::Io)?;
        let buffer = self.buffer.to_mut();
        buffer.drain(..self.at);
        buffer.extend_from_slice(&more);
        self.start += self.at as u64;
        self.at = 0;
        self.behind -= wanted;
        Ok(())
    }
}
