//! The files of the target while they are written.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ucl_plan::TargetFile;

use crate::error::{Doing, ExecError};
use crate::storage::{Sink, Storage, write_all_at};

/// With more files than this, they are opened as their first task comes, not all from the start.
const OPEN: usize = 128;
/// With more files than this, one sync of the file system is quicker than one for each.
const SYNC_EACH: usize = 256;
/// The granularity in which zeros are left out of sparse files.
const HOLE: usize = 64 << 10;

/// The files of the target.
pub(crate) struct Targets<'a> {
    storage: &'a dyn Storage,
    root: &'a Path,
    files: &'a [TargetFile],
    sparse: bool,
    state: Vec<Mutex<State>>,
    folders: Mutex<BTreeSet<PathBuf>>,
    written: AtomicU64,
}

struct State {
    sink: Option<Arc<dyn Sink>>,
    /// Tasks that still write to it.
    left: usize,
}

impl<'a> Targets<'a> {
    /// `left` counts the tasks of each file.
    pub(crate) fn new(
        storage: &'a dyn Storage,
        root: &'a Path,
        files: &'a [TargetFile],
        left: Vec<usize>,
        sparse: bool,
    ) -> Targets<'a> {
        let state = left.into_iter().map(|left| Mutex::new(State { sink: None, left })).collect();
        let folders = Mutex::new(BTreeSet::from([root.to_owned()]));
        let written = AtomicU64::new(0);
        Targets { storage, root, files, sparse, state, folders, written }
    }

    /// Bytes that were written so far to the files of the plan.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Creates a file in its full length, with the bytes that are known; `seal` are those of a sealed
    /// file, which are known at once if nothing is to be moved into it.
    pub(crate) fn create(
        &self,
        index: usize,
        seal: impl FnOnce(usize) -> Vec<(u64, Vec<u8>)>,
    ) -> Result<(), ExecError> {
        let file = &self.files[index];
        let path = self.path(&file.path)?;
        let sink = self.storage.create(&path).map_err(ExecError::io(Doing::Create, &path))?;
        let len = if self.sparse { sink.stretch(file.len) } else { sink.reserve(file.len) };
        len.map_err(ExecError::io(Doing::Reserve, &path))?;
        let empty = file.sealed && self.lock(index).left == 0;
        let sealed = if empty { seal(index) } else { Vec::new() };
        for (offset, bytes) in file.fixed.iter().chain(&sealed) {
            write_all_at(&*sink, bytes, *offset).map_err(ExecError::io(Doing::Write, &path))?;
            self.written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        let mut state = self.lock(index);
        if state.left > 0 && self.files.len() <= OPEN {
            state.sink = Some(Arc::from(sink));
        } else if state.left == 0 && self.files.len() <= SYNC_EACH {
            sink.sync().map_err(ExecError::io(Doing::Sync, &path))?;
        }
        Ok(())
    }

    /// Writes a small file of its own.
    pub(crate) fn add(&self, name: &str, bytes: &[u8]) -> Result<(), ExecError> {
        let path = self.path(name)?;
        let sink = self.storage.create(&path).map_err(ExecError::io(Doing::Create, &path))?;
        write_all_at(&*sink, bytes, 0).map_err(ExecError::io(Doing::Write, &path))?;
        sink.sync().map_err(ExecError::io(Doing::Sync, &path))
    }

    /// Writes bytes of a tensor.
    pub(crate) fn write(&self, file: usize, bytes: &[u8], offset: u64) -> Result<(), ExecError> {
        self.written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let path = self.root.join(&self.files[file].path);
        let sink = {
            let mut state = self.lock(file);
            match &state.sink {
                Some(sink) => Arc::clone(sink),
                None => {
                    let sink = self.storage.reopen(&path);
                    let sink = Arc::from(sink.map_err(ExecError::io(Doing::Open, &path))?);
                    state.sink = Some(Arc::clone(&sink));
                    sink
                }
            }
        };
        let write = |bytes: &[u8], at| {
            write_all_at(&*sink, bytes, at).map_err(ExecError::io(Doing::Write, &path))
        };
        if !self.sparse {
            return write(bytes, offset);
        }
        for (index, part) in bytes.chunks(HOLE).enumerate() {
            if part.iter().any(|byte| *byte != 0) {
                write(part, offset + (index * HOLE) as u64)?;
            }
        }
        Ok(())
    }

    /// A task of the file is done; with the last one the file is sealed, if it has a `seal`, and synced.
    pub(crate) fn done(
        &self,
        file: usize,
        seal: impl FnOnce() -> Vec<(u64, Vec<u8>)>,
    ) -> Result<(), ExecError> {
        let last = {
            let mut state = self.lock(file);
            state.left -= 1;
            state.left == 0
        };
        if !last {
            return Ok(());
        }
        if self.files[file].sealed {
            for (offset, bytes) in seal() {
                self.write(file, &bytes, offset)?;
            }
        }
        let sink = self.lock(file).sink.take();
        match sink {
            Some(sink) if self.files.len() <= SYNC_EACH => {
                let path = self.root.join(&self.files[file].path);
                sink.sync().map_err(ExecError::io(Doing::Sync, &path))
            }
            _ => Ok(()),
        }
    }

    /// Returns when all files and folders are durable.
    pub(crate) fn sync(&self) -> Result<(), ExecError> {
        if self.files.len() > SYNC_EACH {
            let error = ExecError::io(Doing::Sync, self.root);
            return self.storage.sync_all(self.root).map_err(error);
        }
        let folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        // Deeper folders sort after the folders they are in.
        for folder in folders.iter().rev() {
            self.storage.sync_folder(folder).map_err(ExecError::io(Doing::Sync, folder))?;
        }
        Ok(())
    }

    /// The path of a file, whose folders are made.
    fn path(&self, name: &str) -> Result<PathBuf, ExecError> {
        let bad = || ExecError::BadPath { path: name.to_owned() };
        let plain = |part| matches!(part, Component::Normal(_));
        let relative = Path::new(name);
        if name.is_empty() || name.contains('\0') || !relative.components().all(plain) {
            return Err(bad());
        }
        let path = self.root.join(relative);
        let mut missing: Vec<&Path> = Vec::new();
        let mut folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        let mut folder = path.parent();
        while let Some(next) = folder.filter(|folder| !folders.contains(*folder)) {
            missing.push(next);
            folder = next.parent();
        }
        for folder in missing.into_iter().rev() {
            let error = ExecError::io(Doing::Create, folder);
            self.storage.create_folder(folder).map_err(error)?;
            folders.insert(folder.to_owned());
        }
        Ok(path)
    }

    fn lock(&self, file: usize) -> std::sync::MutexGuard<'_, State> {
        self.state[file].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
