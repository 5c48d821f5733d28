//! What goes along as it is: a torch file without the tensors that were converted.

use crate::inventory::{Carried, Problem};
use crate::named::unreadable;
use crate::torch::{Node, NodeId, Pickle, StorageExtent, TorchFile, TorchLayout, Value, emit};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What is carried stays in memory, so it has a bound: 4 GiB.
const LARGEST: u64 = 4 << 30;

impl Carried {
    /// A file without what stands at these paths of keys, under its own name.
    pub(crate) fn of(path: &Path, without: &[&[&str]]) -> Carried {
        let owned = |keys: &&[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
        Carried {
            name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            source: path.to_owned(),
            slice: None,
            without: without.iter().map(owned).collect(),
        }
    }
}

/// The bytes of a carried file: without the keys that were converted, with the storages that are
/// still referred to. The same file gives the same bytes.
///
/// A file that nothing is taken out of comes back as it is.
///
/// # Errors
/// If the file can't be read, is damaged, or what is left is larger than 4 GiB.
pub fn carried_bytes(carried: &Carried) -> Result<Vec<u8>, Problem> {
    let path = &carried.source;
    if let Some((offset, len)) = carried.slice {
        return slice(path, offset, len);
    }
    if carried.without.is_empty() {
        let unread = |error| Problem::new(path, format!("it can't be read: {error}"));
        let bytes = fs::metadata(path).map_err(unread)?.len();
        within(path, bytes)?;
        return fs::read(path).map_err(unread);
    }
    let mut file = TorchFile::open(path).map_err(unreadable)?;
    for keys in &carried.without {
        remove(&mut file.value, keys);
    }
    let stem = Path::new(&carried.name).file_stem().unwrap_or_default().to_string_lossy();
    write(&file, &file.value, &stem)
}

/// A part of a file, which is a torch file by itself: an object of a sharded save.
fn slice(path: &Path, offset: u64, len: u64) -> Result<Vec<u8>, Problem> {
    within(path, len)?;
    let unread = |error: std::io::Error| {
        let what = format!("the {len} bytes at {offset} that go along can't be read: {error}");
        Problem::new(path, what).help("The file is cut short or of another save.")
    };
    let file = File::open(path).map_err(unread)?;
    let bytes = file.metadata().map_err(unread)?.len();
    if offset.checked_add(len).is_none_or(|end| end > bytes) {
        return Err(unread(std::io::ErrorKind::UnexpectedEof.into()));
    }
    let mut held = vec![0; len as usize];
    file.read_exact_at(&mut held, offset).map_err(unread)?;
    Ok(held)
}

/// Writes a pickle with the storages of `file` that it refers to.
fn write(file: &TorchFile, pickle: &Pickle, stem: &str) -> Result<Vec<u8>, Problem> {
    let path = &file.path;
    let failed = |error: &dyn std::fmt::Display| {
        Problem::new(path, format!("what goes along of it can't be written: {error}"))
    };
    let (pickle, keys) = reachable(pickle);
    let pickle = emit(&pickle).map_err(|error| failed(&error))?;
    let kept: Vec<_> = file.storages.iter().filter(|(key, _)| keys.contains(*key)).collect();
    let sizes: Vec<_> = kept.iter().map(|(key, storage)| (key.as_str(), storage.len)).collect();
    let layout = TorchLayout::new(stem, pickle, &sizes).map_err(|error| failed(&error))?;
    within(path, layout.total_len())?;
    let mut bytes = vec![0; layout.total_len() as usize];
    let source = File::open(path).map_err(|error| failed(&error))?;
    let mut crcs = Vec::with_capacity(kept.len());
    for ((key, storage), offset) in kept.iter().zip(layout.storage_offsets()) {
        let target = &mut bytes[*offset as usize..(*offset + storage.len) as usize];
        crcs.push(Some(copy(path, &source, key, storage, target)?));
    }
    for (offset, chunk) in layout.chunks(&crcs) {
        let offset = offset as usize;
        bytes[offset..offset + chunk.len()].copy_from_slice(&chunk);
    }
    Ok(bytes)
}

/// Reads a storage, checks it, and gives its checksum.
fn copy(
    path: &Path,
    source: &File,
    key: &str,
    storage: &StorageExtent,
    target: &mut [u8],
) -> Result<u32, Problem> {
    source
        .read_exact_at(target, storage.offset)
        .map_err(|error| Problem::new(path, format!("storage {key:?} can't be read: {error}")))?;
    let crc = crc32fast::hash(target);
    storage.verify(crc).map_err(|problem| {
        Problem::new(path, format!("storage {key:?} {problem}"))
            .help("Copy the file again from where it was written.")
    })?;
    Ok(crc)
}

/// Takes the value at a path of keys out of its dict; nothing if it is not there. Above the last key a
/// list may lie in between, whose keys are its indices.
pub(crate) fn remove(pickle: &mut Pickle, keys: &[String]) {
    let Some((last, above)) = keys.split_last() else { return };
    let mut value = pickle.root();
    for key in above {
        let item = || value.index(key.parse().ok()?);
        match value.get(key).or_else(item) {
            Some(below) => value = below,
            None => return,
        }
    }
    let dict = value.id();
    let named = |pair: &(Value<'_>, Value<'_>)| pair.0.as_str() == Some(last);
    let Some(index) = value.pairs().and_then(|mut pairs| pairs.position(|pair| named(&pair)))
    else {
        return;
    };
    if let Node::Dict(dict) = pickle.node_mut(dict) {
        dict.pairs.remove(index);
    }
}

/// A copy with only what the root still refers to, and the keys of the storages in it.
fn reachable(pickle: &Pickle) -> (Pickle, BTreeSet<String>) {
    let mut keys = BTreeSet::new();
    let mut copy = Pickle::new();
    let root: NodeId = copy.graft(pickle.root(), |_, value| {
        let of_tensor = value.as_tensor().map(|tensor| &tensor.storage.key);
        keys.extend(of_tensor.or(value.as_storage().map(|s| &s.key)).map(|key| key.to_string()));
        None
    });
    copy.set_root(root);
    (copy, keys)
}

fn within(path: &Path, bytes: u64) -> Result<(), Problem> {
    if bytes <= LARGEST {
        return Ok(());
    }
    Err(Problem::new(
        path,
        format!("{bytes} bytes of it would go along as they are, at most {LARGEST} can"),
    ))
}
