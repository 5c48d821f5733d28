//! The sources of a plan: opened when they are needed, a limited number at a time, and watched.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Doing, ExecError};
use crate::options::Progress;
use crate::storage::{Source, Stamp, Storage};

/// Files that are open at a time. The usual limit of a process is 1024.
const OPEN: usize = 256;

/// Whether bytes may be read again by another window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// Parts of them, or the gaps between them.
    Perhaps,
    /// No: their pages need not be kept.
    Never,
}

/// The sources of a plan.
pub(crate) struct Sources<'a> {
    storage: &'a dyn Storage,
    progress: &'a dyn Progress,
    paths: &'a [PathBuf],
    state: Mutex<State>,
    read: AtomicU64,
}

struct State {
    open: Vec<Option<Arc<dyn Source>>>,
    stamps: Vec<Option<Stamp>>,
    order: VecDeque<usize>,
}

impl<'a> Sources<'a> {
    pub(crate) fn new(
        storage: &'a dyn Storage,
        paths: &'a [PathBuf],
        progress: &'a dyn Progress,
    ) -> Sources<'a> {
        let state = State {
            open: vec![None; paths.len()],
            stamps: vec![None; paths.len()],
            order: VecDeque::new(),
        };
        Sources { storage, progress, paths, state: Mutex::new(state), read: AtomicU64::new(0) }
    }

    /// Bytes read so far.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Fills a buffer from a source.
    pub(crate) fn read(
        &self,
        index: usize,
        buffer: &mut [u8],
        offset: u64,
        again: Again,
    ) -> Result<(), ExecError> {
        let (source, stamp) = self.get(index)?;
        let path = &self.paths[index];
        let needed = offset.saturating_add(buffer.len() as u64);
        let short = |len| ExecError::SourceShort { path: path.clone(), needed, len };
        if needed > stamp.len {
            return Err(short(stamp.len));
        }
        match read_exact_at(&*source, buffer, offset, again) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(short(source.stamp().map_or(offset, |stamp| stamp.len)));
            }
            Err(error) => return Err(ExecError::io(Doing::Read, path)(error)),
        }
        self.read.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        self.progress.advance(buffer.len() as u64, 0);
        Ok(())
    }

    /// Whether every file that was read is still what it was.
    pub(crate) fn unchanged(&self) -> Result<(), ExecError> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for (path, stamp) in self.paths.iter().zip(&state.stamps) {
            let Some(stamp) = stamp else { continue };
            match self.storage.stamp(path) {
                Ok(now) if now == *stamp => {}
                _ => return Err(ExecError::SourceChanged(path.clone())),
            }
        }
        Ok(())
    }

    fn get(&self, index: usize) -> Result<(Arc<dyn Source>, Stamp), ExecError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(source), Some(stamp)) = (&state.open[index], state.stamps[index]) {
            return Ok((Arc::clone(source), stamp));
        }
        let path = &self.paths[index];
        let source = self.storage.open(path).map_err(ExecError::io(Doing::Open, path))?;
        let stamp = source.stamp().map_err(ExecError::io(Doing::Open, path))?;
        if state.stamps[index].is_some_and(|known| known != stamp) {
            return Err(ExecError::SourceChanged(path.clone()));
        }
        if state.order.len() >= OPEN
            && let Some(oldest) = state.order.pop_front()
        {
            state.open[oldest] = None;
        }
        let source: Arc<dyn Source> = Arc::from(source);
        state.order.push_back(index);
        state.open[index] = Some(Arc::clone(&source));
        state.stamps[index] = Some(stamp);
        Ok((source, stamp))
    }
}

/// Fills a buffer, however short the system's reads are.
pub(crate) fn read_exact_at(
    source: &dyn Source,
    buffer: &mut [u8],
    offset: u64,
    again: Again,
) -> io::Result<()> {
    let mut done = 0;
    while done < buffer.len() {
        let (part, at) = (&mut buffer[done..], offset + done as u64);
        let read = match again {
            Again::Perhaps => source.read_at(part, at),
            Again::Never => source.read_once_at(part, at),
        };
        match read {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
