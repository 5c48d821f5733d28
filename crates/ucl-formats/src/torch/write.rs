//! Laying out a torch file before its data is known.
//!
//! All sizes are known beforehand, so every byte has its place: storages can be written in any
//! order and from many threads, and what lies between them follows once their CRCs are known.

use std::collections::HashSet;

use thiserror::Error;

use super::local::LOCAL_SIGNATURE;

/// Storages begin at multiples of this, in bytes, as torch says in `.storage_alignment`.
const ALIGNMENT: u64 = 64;

/// Why a file cannot be laid out.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum LayoutError {
    /// The root folder or a key is empty, too long, or holds a slash or control character.
    #[error("{0:?} cannot be a name in a torch file")]
    Name(String),
    /// The same storage twice.
    #[error("storage {0:?} is listed twice")]
    Duplicate(String),
    /// More than 2^62 bytes.
    #[error("the file would be too large")]
    TooLarge,
}

/// Where everything lies in a torch file to be written. Offsets are bytes from its start.
#[derive(Clone, Debug)]
pub struct TorchLayout {
    members: Vec<Planned>,
    storage_offsets: Vec<u64>,
    directory: u64,
    total_len: u64,
}

#[derive(Clone, Debug)]
struct Planned {
    name: String,
    header: u64,
    data: u64,
    len: u64,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    Known(Vec<u8>),
    /// The storage of that number.
    Storage(usize),
}

impl TorchLayout {
    /// Lays out a file with root folder `root` (torch takes the file's stem), a pickle from
    /// [`emit`](super::emit), and storages as (key, length in bytes) in the order of the file.
    ///
    /// # Errors
    /// If a name is not possible or the file is too large; see [`LayoutError`].
    pub fn new<K: AsRef<str>>(
        root: &str,
        pickle: Vec<u8>,
        storages: &[(K, u64)],
    ) -> Result<TorchLayout, LayoutError> {
        check(root, pickle.len(), storages)?;
        let id = serialization_id(&pickle, storages);
        let mut layout = TorchLayout {
            members: Vec::with_capacity(storages.len() + 6),
            storage_offsets: Vec::with_capacity(storages.len()),
            directory: 0,
            total_len: 0,
        };
        layout.add(root, "data.pkl", Content::Known(pickle), 0);
        layout.add_text(root, ".format_version", "1");
        layout.add_text(root, ".storage_alignment", "64");
        layout.add_text(root, "byteorder", "little");
        for (number, (key, len)) in storages.iter().enumerate() {
            let name = format!("data/{}", key.as_ref());
            layout.add(root, &name, Content::Storage(number), *len);
        }
        layout.add_text(root, "version", "3\n");
        layout.add_text(root, ".data/serialization_id", &id);
        layout.total_len = layout.directory + layout.directory_bytes(&[]).len() as u64;
        Ok(layout)
    }

    /// Length of the file.
    pub fn total_len(&self) -> u64 {
        self.total_len
    }

    /// Where each storage's bytes go, in the order they were given.
    pub fn storage_offsets(&self) -> &[u64] {
        &self.storage_offsets
    }

    /// Everything but the storages: (offset, bytes), ascending, one piece before and after each
    /// storage that is not empty. The last piece holds the directory; without it no reader takes
    /// the file, so it is best written last.
    ///
    /// `crcs` has the CRC-32 of each storage; `None`, or a missing one, leaves it uncomputed (0),
    /// which torch accepts and strict zip tools do not.
    pub fn chunks(&self, crcs: &[Option<u32>]) -> Vec<(u64, Vec<u8>)> {
        let mut chunks = Vec::new();
        let mut open: (u64, Vec<u8>) = (0, Vec::new());
        for member in &self.members {
            member.local_header(&mut open.1);
            match &member.content {
                Content::Known(bytes) => open.1.extend(bytes),
                Content::Storage(_) if member.len == 0 => {}
                Content::Storage(_) => {
                    let next = (member.data + member.len, Vec::new());
                    chunks.push(std::mem::replace(&mut open, next));
                }
            }
            member.descriptor(member.crc(crcs), &mut open.1);
        }
        open.1.extend(self.directory_bytes(crcs));
        chunks.push(open);
        chunks
    }

    fn add_text(&mut self, root: &str, name: &str, text: &str) {
        self.add(root, name, Content::Known(text.into()), 0);
    }

    fn add(&mut self, root: &str, name: &str, content: Content, storage_len: u64) {
        let len = match &content {
            Content::Known(bytes) => bytes.len() as u64,
            Content::Storage(_) => storage_len,
        };
        let name = format!("{root}/{name}");
        let header = self.directory;
        let mut member = Planned { name, header, data: 0, len, content };
        let least = header + FIXED + member.name.len() as u64 + member.zip64_field() + 4;
        member.data = least.next_multiple_of(ALIGNMENT);
        self.directory = member.data + len + member.descriptor_len();
        if matches!(member.content, Content::Storage(_)) {
            self.storage_offsets.push(member.data);
        }
        self.members.push(member);
    }

    fn directory_bytes(&self, crcs: &[Option<u32>]) -> Vec<u8> {
        let mut out = Vec::new();
        for member in &self.members {
            member.central_header(member.crc(crcs), &mut out);
        }
        let (count, size) = (self.members.len() as u64, out.len() as u64);
        let zip64_end = self.directory + size;
        // Always written, as torch does.
        out.extend(0x0606_4b50u32.to_le_bytes());
        out.extend(44u64.to_le_bytes());
        out.extend([VERSION_ZIP64, VERSION_ZIP64].map(u16::to_le_bytes).concat());
        out.extend([0u32, 0].map(u32::to_le_bytes).concat());
        out.extend([count, count, size, self.directory].map(u64::to_le_bytes).concat());
        out.extend(0x0706_4b50u32.to_le_bytes());
        out.extend(0u32.to_le_bytes());
        out.extend(zip64_end.to_le_bytes());
        out.extend(1u32.to_le_bytes());
        let short = u16::try_from(count).unwrap_or(u16::MAX);
        out.extend(0x0605_4b50u32.to_le_bytes());
        out.extend([0, 0, short, short].map(u16::to_le_bytes).concat());
        out.extend([clamp(size), clamp(self.directory)].map(u32::to_le_bytes).concat());
        out.extend(0u16.to_le_bytes());
        out
    }
}

/// Bytes of a local header without name and extra fields.
const FIXED: u64 = 30;
const VERSION: u16 = 20;
const VERSION_ZIP64: u16 = 45;
/// Names are UTF-8.
const FLAG_UTF8: u16 = 1 << 11;
/// CRC and sizes follow the data.
const FLAG_DESCRIPTOR: u16 = 1 << 3;
/// 1 January 1980, the first day a zip knows.
const DATE: u16 = 0x21;
const ZIP64_FIELD: u16 = 1;
/// Torch's field for padding, `FB`.
const PADDING_FIELD: u16 = 0x4246;

impl Planned {
    fn crc(&self, crcs: &[Option<u32>]) -> u32 {
        match &self.content {
            Content::Known(bytes) => crc32fast::hash(bytes),
            Content::Storage(number) => crcs.get(*number).copied().flatten().unwrap_or(0),
        }
    }

    fn is_large(&self) -> bool {
        self.len >= u64::from(u32::MAX)
    }

    /// Bytes of the zip64 field of the local header.
    fn zip64_field(&self) -> u64 {
        if self.is_large() { 20 } else { 0 }
    }

    fn descriptor_len(&self) -> u64 {
        match self.len {
            0 => 0,
            _ if self.is_large() => 24,
            _ => 16,
        }
    }

    fn flags(&self) -> u16 {
        if self.len == 0 { FLAG_UTF8 } else { FLAG_UTF8 | FLAG_DESCRIPTOR }
    }

    fn version(&self, zip64: bool) -> u16 {
        if zip64 { VERSION_ZIP64 } else { VERSION }
    }

    fn local_header(&self, out: &mut Vec<u8>) {
        let extra = self.data - self.header - FIXED - self.name.len() as u64;
        let size = if self.is_large() { u32::MAX } else { 0 };
        out.extend(LOCAL_SIGNATURE.to_le_bytes());
        let words = [self.version(self.is_large()), self.flags(), 0, 0, DATE];
        out.extend(words.map(u16::to_le_bytes).concat());
        out.extend([0, size, size].map(u32::to_le_bytes).concat());
        out.extend([self.name.len() as u16, extra as u16].map(u16::to_le_bytes).concat());
        out.extend(self.name.bytes());
        if self.is_large() {
            out.extend([ZIP64_FIELD, 16].map(u16::to_le_bytes).concat());
            out.extend([self.len, self.len].map(u64::to_le_bytes).concat());
        }
        let padding = extra - self.zip64_field() - 4;
        out.extend([PADDING_FIELD, padding as u16].map(u16::to_le_bytes).concat());
        out.extend(std::iter::repeat_n(b'Z', padding as usize));
    }

    fn descriptor(&self, crc: u32, out: &mut Vec<u8>) {
        if self.len == 0 {
            return;
        }
        out.extend([0x0807_4b50, crc].map(u32::to_le_bytes).concat());
        if self.is_large() {
            out.extend([self.len, self.len].map(u64::to_le_bytes).concat());
        } else {
            out.extend([self.len as u32, self.len as u32].map(u32::to_le_bytes).concat());
        }
    }

    fn central_header(&self, crc: u32, out: &mut Vec<u8>) {
        let mut zip64 = Vec::new();
        if self.is_large() {
            zip64.extend([self.len, self.len].map(u64::to_le_bytes).concat());
        }
        if clamp(self.header) == u32::MAX {
            zip64.extend(self.header.to_le_bytes());
        }
        let extra = if zip64.is_empty() { 0 } else { zip64.len() as u16 + 4 };
        out.extend(0x0201_4b50u32.to_le_bytes());
        let version = self.version(!zip64.is_empty());
        let words = [version, version, self.flags(), 0, 0, DATE];
        out.extend(words.map(u16::to_le_bytes).concat());
        out.extend([crc, clamp(self.len), clamp(self.len)].map(u32::to_le_bytes).concat());
        let words = [self.name.len() as u16, extra, 0, 0, 0];
        out.extend(words.map(u16::to_le_bytes).concat());
        out.extend([0, clamp(self.header)].map(u32::to_le_bytes).concat());
        out.extend(self.name.bytes());
        if extra != 0 {
            out.extend([ZIP64_FIELD, zip64.len() as u16].map(u16::to_le_bytes).concat());
            out.extend(zip64);
        }
    }
}

/// A 32-bit field; all ones where the number is in the zip64 field.
fn clamp(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Longest name of a root folder or a key, in bytes.
const MAX_NAME: usize = 1024;

fn check<K: AsRef<str>>(
    root: &str,
    pickle_len: usize,
    storages: &[(K, u64)],
) -> Result<(), LayoutError> {
    let mut keys = HashSet::new();
    // With room for the headers, 2^12 bytes each at most, sums cannot overflow.
    let mut total = pickle_len as u64;
    for name in storages.iter().map(|(key, _)| key.as_ref()).chain([root]) {
        let clean = !name.contains(|c: char| c == '/' || c == '\\' || c.is_control());
        if name.is_empty() || name.len() > MAX_NAME || !clean {
            return Err(LayoutError::Name(name.to_owned()));
        }
    }
    for (key, len) in storages {
        if !keys.insert(key.as_ref()) {
            return Err(LayoutError::Duplicate(key.as_ref().to_owned()));
        }
        let sum = total.checked_add(*len).and_then(|sum| sum.checked_add(1 << 12));
        total = sum.filter(|sum| *sum <= 1 << 62).ok_or(LayoutError::TooLarge)?;
    }
    Ok(())
}

/// Forty digits that stand for the content, as far as it is known before the data.
fn serialization_id<K: AsRef<str>>(pickle: &[u8], storages: &[(K, u64)]) -> String {
    let mut names = xxhash_rust::xxh3::Xxh3::new();
    for (key, len) in storages {
        names.update(key.as_ref().as_bytes());
        names.update(b"/");
        names.update(&len.to_le_bytes());
    }
    format!("{:020}{:020}", names.digest(), xxhash_rust::xxh3::xxh3_64(pickle))
}
