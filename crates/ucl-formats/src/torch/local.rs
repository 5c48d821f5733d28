//! One member of a zip: its local header, checked against the directory, and its bytes.

use super::error::{EntryProblem, TorchErrorKind};
use super::extent::StorageExtent;
use super::source::Source;

/// Bytes of a local header without name and extra fields.
const FIXED: u64 = 30;
/// `PK\x03\x04`.
pub(super) const LOCAL_SIGNATURE: u32 = 0x0403_4b50;
/// Flag: CRC and sizes follow the data.
const FLAG_DESCRIPTOR: u16 = 1 << 3;
/// Flag: encrypted.
const FLAG_ENCRYPTED: u16 = 1;
/// A 32-bit size that is in the zip64 field instead.
const IN_ZIP64: u32 = u32::MAX;

/// A member as the directory lists it. Offsets are relative to the zip's first byte.
pub(super) struct Member {
    pub(super) name: String,
    /// Of the local header.
    pub(super) header: u64,
    /// Of the data.
    pub(super) data: u64,
    pub(super) len: u64,
    /// 0 on data means that none was computed.
    pub(super) crc32: u32,
}

impl Member {
    pub(super) fn refuse(&self, problem: EntryProblem) -> TorchErrorKind {
        TorchErrorKind::Entry { entry: self.name.clone(), problem }
    }

    /// Where it lies in the file that the zip begins at `base` of.
    pub(super) fn extent(&self, base: u64) -> StorageExtent {
        let known = self.crc32 != 0 || self.len == 0;
        StorageExtent {
            offset: base + self.data,
            len: self.len,
            crc32: known.then_some(self.crc32),
        }
    }

    /// Its bytes, checked.
    pub(super) fn read(&self, source: &Source<'_>, limit: u64) -> Result<Vec<u8>, TorchErrorKind> {
        if self.len > limit {
            return Err(self.refuse(EntryProblem::TooLong { len: self.len, limit }));
        }
        let bytes = source.read(self.data, self.len)?;
        self.extent(0).verify(crc32fast::hash(&bytes)).map_err(|problem| self.refuse(problem))?;
        Ok(bytes)
    }
}

/// Where the data begins, by the local header, whose extra field pads it. It must end before
/// `limit`, the start of the directory.
pub(super) fn data_offset(
    source: &Source<'_>,
    member: &Member,
    limit: u64,
) -> Result<u64, TorchErrorKind> {
    let disagree = |what| member.refuse(EntryProblem::Local(what));
    let name_len = member.name.len() as u64;
    let inside = member.header.checked_add(FIXED + name_len).is_some_and(|end| end <= limit);
    if !inside {
        return Err(member.refuse(EntryProblem::Outside));
    }
    let header = source.read(member.header, FIXED + name_len)?;
    let u16_at = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let u32_at = |at: usize| u32::from(u16_at(at)) | u32::from(u16_at(at + 2)) << 16;
    if u32_at(0) != LOCAL_SIGNATURE {
        return Err(disagree("no local header there"));
    }
    let flags = u16_at(6);
    if flags & FLAG_ENCRYPTED != 0 {
        return Err(member.refuse(EntryProblem::Encrypted));
    }
    if u16_at(8) != 0 {
        return Err(disagree("method"));
    }
    if u64::from(u16_at(26)) != name_len || &header[FIXED as usize..] != member.name.as_bytes() {
        return Err(disagree("name"));
    }
    // With a descriptor after the data, zero means "see there"; zip64 sizes are in the extra field.
    for size in [u32_at(18), u32_at(22)] {
        let later = size == 0 && flags & FLAG_DESCRIPTOR != 0;
        if !later && size != IN_ZIP64 && u64::from(size) != member.len {
            return Err(disagree("size"));
        }
    }
    let data = member.header + FIXED + name_len + u64::from(u16_at(28));
    if data.checked_add(member.len).is_none_or(|end| end > limit) {
        return Err(member.refuse(EntryProblem::Outside));
    }
    Ok(data)
}
