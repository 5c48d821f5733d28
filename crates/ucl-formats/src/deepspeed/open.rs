//! Opening many files: headers only, on a few threads where there are many.

use crate::inventory::{FileId, Inventory, Problem, SourceFile};
use crate::named::unreadable;
use crate::torch::TorchFile;
use std::path::{Path, PathBuf};
use std::thread;

/// With fewer files than this one thread is quick enough.
const MANY: usize = 64;
/// Threads wait for the disk, so a few more than cores do no harm; more help little.
const THREADS: usize = 8;

/// A file, opened and read for what was wanted of it.
#[derive(Debug)]
pub(crate) struct Opened<T> {
    /// Its place among the inventory's files.
    pub(crate) file: FileId,
    /// Its path.
    pub(crate) path: PathBuf,
    /// What was wanted.
    pub(crate) content: T,
}

/// Opens files in order; those that can't be read become problems.
pub(crate) fn open_all<K: Copy + Send + Sync, T: Send>(
    paths: &[(K, PathBuf)],
    inventory: &mut Inventory,
    problems: &mut Vec<Problem>,
    read: impl Fn(&TorchFile, &mut Vec<Problem>) -> T + Sync,
) -> Vec<(K, Opened<T>)> {
    let mut opened = Vec::with_capacity(paths.len());
    for (key, path, result) in each(paths, |path| open(path, &read)) {
        match result {
            Ok((source, content, mut wrong)) => {
                let file = inventory.files.len() as FileId;
                inventory.files.push(source);
                problems.append(&mut wrong);
                opened.push((key, Opened { file, path, content }));
            }
            Err(problem) => problems.push(problem),
        }
    }
    opened
}

type Read<T> = (SourceFile, T, Vec<Problem>);

fn open<T>(
    path: &Path,
    read: &(impl Fn(&TorchFile, &mut Vec<Problem>) -> T + Sync),
) -> Result<Read<T>, Problem> {
    let file = TorchFile::open(path).map_err(unreadable)?;
    let bytes = path.metadata().map_or(0, |metadata| metadata.len());
    let mut problems = Vec::new();
    let content = read(&file, &mut problems);
    let header_bytes = file.header_bytes_read;
    Ok((SourceFile { path: path.to_owned(), bytes, header_bytes }, content, problems))
}

/// Applies a function to every path, in order.
fn each<K: Copy + Send + Sync, R: Send>(
    paths: &[(K, PathBuf)],
    apply: impl Fn(&Path) -> R + Sync,
) -> Vec<(K, PathBuf, R)> {
    let one = |(key, path): &(K, PathBuf)| (*key, path.clone(), apply(path));
    if paths.len() < MANY {
        return paths.iter().map(one).collect();
    }
    let chunk = paths.len().div_ceil(THREADS);
    thread::scope(|scope| {
        let parts: Vec<_> = paths
            .chunks(chunk)
            .map(|part| scope.spawn(|| part.iter().map(one).collect::<Vec<_>>()))
            .collect();
        let join = |part: thread::ScopedJoinHandle<'_, Vec<_>>| {
            part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        parts.into_iter().flat_map(join).collect()
    })
}
