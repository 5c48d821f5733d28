//! The zip form of torch files: members found by the directory, storages located but not read.
//!
//! Torch stores members uncompressed, with sizes and CRCs in the central directory only and padding
//! in the local headers, so the place of data is known from both. Where two readers of a zip could
//! disagree (names, sizes, overlaps, bytes in front or behind) the file is refused.

use std::collections::HashSet;

use indexmap::IndexMap;
use rawzip::{CompressionMethod, RECOMMENDED_BUFFER_SIZE, ZipLocator};

use super::error::{EntryProblem, TorchErrorKind};
use super::extent::StorageExtent;
use super::limits::{MAX_MEMBERS, MAX_PICKLE_BYTES, MAX_SMALL_MEMBER};
use super::local::{self, Member};
use super::pickle::Pickle;
use super::source::Source;

/// What a torch file holds.
pub(super) struct Parts {
    pub(super) value: Pickle,
    /// Where its storages lie in the file.
    pub(super) storages: IndexMap<String, StorageExtent>,
    /// The folder that all members lie in.
    pub(super) saved_as: Option<String>,
}

/// The end record of a zip without a comment.
const END_RECORD: u64 = 22;

/// Where a storage member's name continues after the root folder.
const DATA: &str = "/data/";

pub(super) fn read(source: &Source<'_>) -> Result<Parts, TorchErrorKind> {
    let members = members(source)?;
    let pickle_member = find_pickle(&members)?;
    let root = &pickle_member.name[..pickle_member.name.len() - PICKLE.len()];
    let mut storages = IndexMap::new();
    for member in &members {
        let inside = member.name.strip_prefix(root).unwrap_or_default();
        if let Some(key) = inside.strip_prefix(DATA) {
            storages.insert(key.to_owned(), member.extent(source.base()));
        } else if member.len <= MAX_SMALL_MEMBER && !std::ptr::eq(member, pickle_member) {
            let text = member.read(source, MAX_SMALL_MEMBER)?;
            if inside == "/byteorder" && text.trim_ascii() != b"little" {
                let order = String::from_utf8_lossy(&text).into_owned();
                return Err(TorchErrorKind::ByteOrder(order));
            }
        }
    }
    let bytes = pickle_member.read(source, MAX_PICKLE_BYTES)?;
    let value = Pickle::parse(&bytes)
        .map_err(|error| TorchErrorKind::Pickle { entry: pickle_member.name.clone(), error })?;
    Ok(Parts { value, storages, saved_as: Some(root.to_owned()) })
}

/// The pickle's name without the root folder, which may be called anything.
const PICKLE: &str = "/data.pkl";

fn find_pickle(members: &[Member]) -> Result<&Member, TorchErrorKind> {
    let mut pickles = members.iter().filter(|member| member.name.ends_with(PICKLE));
    let first = pickles.next().ok_or(TorchErrorKind::NoPickle)?;
    match pickles.next() {
        None => Ok(first),
        Some(second) => Err(TorchErrorKind::TwoPickles {
            first: first.name.clone(),
            second: second.name.clone(),
        }),
    }
}

/// All members in the order of the directory, their data checked to lie apart and inside the file.
fn members(source: &Source<'_>) -> Result<Vec<Member>, TorchErrorKind> {
    let wrong = |what| TorchErrorKind::DirectoryWrong { what };
    let mut buffer = vec![0; RECOMMENDED_BUFFER_SIZE];
    let locator = ZipLocator::new().max_search_space(END_RECORD + u64::from(u16::MAX));
    let archive = locator
        .locate_in_reader(source, &mut buffer, source.len())
        .map_err(|(_, error)| TorchErrorKind::Directory(error))?;
    if archive.eocd_offset().checked_add(END_RECORD) != Some(source.len()) {
        return Err(wrong("bytes follow its end"));
    }
    let (declared, directory) = (archive.entries_hint(), archive.directory_offset());
    let mut members: Vec<Member> = Vec::new();
    let mut names = HashSet::new();
    let mut entries = archive.entries(&mut buffer);
    while let Some(entry) = entries.next_entry().map_err(TorchErrorKind::Directory)? {
        if members.len() as u64 == MAX_MEMBERS {
            return Err(wrong("too many members"));
        }
        let raw = entry.file_path();
        let refuse = |problem| TorchErrorKind::Entry {
            entry: String::from_utf8_lossy(raw.as_ref()).into_owned(),
            problem,
        };
        let name = str::from_utf8(raw.as_ref()).map_err(|_| refuse(EntryProblem::Name))?;
        if entry.flags().is_encrypted() {
            return Err(refuse(EntryProblem::Encrypted));
        }
        let method = entry.compression_method();
        if method != CompressionMethod::STORE {
            return Err(refuse(EntryProblem::Compressed(method.as_u16())));
        }
        if entry.compressed_size_hint() != entry.uncompressed_size_hint() {
            return Err(refuse(EntryProblem::Local("stored and original size differ")));
        }
        if !names.insert(name.to_owned()) {
            return Err(refuse(EntryProblem::Duplicate));
        }
        members.push(Member {
            name: name.to_owned(),
            header: entry.local_header_offset(),
            data: 0,
            len: entry.uncompressed_size_hint(),
            crc32: entry.crc32(),
        });
    }
    if members.len() as u64 != declared {
        return Err(wrong("it does not have as many members as it says"));
    }
    for member in &mut members {
        member.data = local::data_offset(source, member, directory)?;
    }
    check_apart(&members)?;
    Ok(members)
}

fn check_apart(members: &[Member]) -> Result<(), TorchErrorKind> {
    let mut order: Vec<&Member> = members.iter().collect();
    order.sort_by_key(|member| member.header);
    if order.first().is_some_and(|first| first.header != 0) {
        return Err(TorchErrorKind::DirectoryWrong { what: "bytes precede the first member" });
    }
    for pair in order.windows(2) {
        if pair[0].data + pair[0].len > pair[1].header {
            let problem = EntryProblem::Overlap(pair[1].name.clone());
            return Err(pair[0].refuse(problem));
        }
    }
    Ok(())
}
