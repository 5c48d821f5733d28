//! What can be checked of a checkpoint by reading all of it: CRCs of torch storages, and that a
//! universal folder holds what its manifest says and nothing else.

use crate::dcp;
use crate::inventory::Problem;
use crate::torch::{TorchError, TorchFile};
use crate::universal::{MANIFEST, Manifest};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What the CRCs of a torch file say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Storages {
    /// Storages whose CRC is that of their bytes.
    pub agree: u64,
    /// Storages without a CRC.
    pub unverified: u64,
    /// Storages whose bytes are not those that were written, a sentence each.
    pub wrong: Vec<String>,
}

/// Bytes that are read at a time.
const CHUNK: usize = 1 << 20;

/// Reads every storage of a torch file that has a CRC, and compares it. `read` hears of bytes read.
///
/// # Errors
/// The file is no torch file, or cannot be read.
pub fn storages(path: &Path, read: &mut dyn FnMut(u64)) -> Result<Storages, Problem> {
    let wrong = |error: TorchError| Problem::new(path, error.kind.to_string());
    let mut found = Storages::default();
    let Some(items) = dcp::items_of(path) else {
        of_one(path, &TorchFile::open(path).map_err(wrong)?, read, &mut found)?;
        return Ok(found);
    };
    for (offset, len) in items? {
        of_one(path, &TorchFile::open_slice(path, offset, len).map_err(wrong)?, read, &mut found)?;
    }
    Ok(found)
}

fn of_one(
    path: &Path,
    torch: &TorchFile,
    read: &mut dyn FnMut(u64),
    found: &mut Storages,
) -> Result<(), Problem> {
    let unread = |error: io::Error| Problem::new(path, format!("it can't be read: {error}."));
    let file = File::open(path).map_err(unread)?;
    let mut buffer = vec![0; CHUNK];
    for (key, storage) in &torch.storages {
        if storage.crc32.is_none() {
            found.unverified += 1;
            continue;
        }
        let mut hasher = crc32fast::Hasher::new();
        for start in (0..storage.len).step_by(CHUNK) {
            let part =
                &mut buffer[..CHUNK.min(usize::try_from(storage.len - start).unwrap_or(CHUNK))];
            file.read_exact_at(part, storage.offset + start).map_err(unread)?;
            hasher.update(part);
            read(part.len() as u64);
        }
        match storage.verify(hasher.finalize()) {
            Ok(()) => found.agree += 1,
            Err(problem) => found.wrong.push(format!("storage {key:?}: {problem}")),
        }
    }
    Ok(())
}

/// Files of a universal folder that its manifest does not name, sorted.
///
/// # Errors
/// The folder cannot be read.
pub fn strays(root: &Path, manifest: &Manifest) -> Result<Vec<String>, Problem> {
    let states = manifest.tensors.iter().flat_map(|entry| entry.states.values());
    let mut known: BTreeSet<&str> = states.map(|state| state.file.as_str()).collect();
    known.extend(manifest.extra.iter().map(String::as_str));
    known.insert(MANIFEST);
    let mut strays = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let path = root.join(&folder);
        let unread = |error: io::Error| Problem::new(&path, format!("it can't be read: {error}."));
        for entry in fs::read_dir(&path).map_err(unread)? {
            let entry = entry.map_err(unread)?;
            let name = format!("{folder}{}", entry.file_name().to_string_lossy());
            if entry.file_type().map_err(unread)?.is_dir() {
                folders.push(name + "/");
            } else if !known.contains(name.as_str()) {
                strays.push(name);
            }
        }
    }
    strays.sort();
    Ok(strays)
}
