//! The folder beside the destination that becomes it, or is removed.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::error::{Doing, ExecError};
use crate::options::Progress;
use crate::storage::Storage;

/// A folder `.<name>.ucl-partial-<pid>`, locked while its run lives, and removed when dropped.
pub(crate) struct Staging<'a> {
    storage: &'a dyn Storage,
    destination: PathBuf,
    parent: PathBuf,
    path: PathBuf,
    published: bool,
    _lock: Option<File>,
}

impl<'a> Staging<'a> {
    /// Creates the folder, after removing those of runs that died.
    pub(crate) fn create(
        storage: &'a dyn Storage,
        destination: &Path,
        progress: &dyn Progress,
    ) -> Result<Staging<'a>, ExecError> {
        let (parent, name) = place(destination)?;
        let mut prefix = OsString::from(".");
        prefix.push(name);
        prefix.push(".ucl-partial-");
        remove_dead(storage, &parent, &prefix, progress);
        let pid = std::process::id();
        for attempt in 0..1000 {
            let mut name = prefix.clone();
            name.push(if attempt == 0 { pid.to_string() } else { format!("{pid}-{attempt}") });
            let path = parent.join(name);
            match storage.create_folder(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(ExecError::io(Doing::Create, &path)(error)),
                Ok(()) => {
                    // Where locks are not supported, the process id alone tells the living.
                    let lock = File::open(&path).ok().filter(|file| {
                        rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive).is_ok()
                    });
                    let destination = destination.to_owned();
                    return Ok(Staging {
                        storage,
                        destination,
                        parent,
                        path,
                        published: false,
                        _lock: lock,
                    });
                }
            }
        }
        Err(ExecError::io(Doing::Create, destination)(io::ErrorKind::AlreadyExists.into()))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the folder its final name. All in it must be durable.
    pub(crate) fn publish(
        mut self,
        overwrite: bool,
        progress: &dyn Progress,
    ) -> Result<(), ExecError> {
        let old = if overwrite && exists(&self.destination)? {
            Some(self.replace()?)
        } else {
            self.appear()?;
            None
        };
        self.published = true;
        if let Some(old) = old
            && let Err(error) = self.storage.remove(&old)
        {
            progress.note(&format!("cannot remove the old {}: {error}", old.display()));
        }
        Ok(())
    }

    fn appear(&self) -> Result<(), ExecError> {
        self.storage.rename(&self.path, &self.destination).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => ExecError::DestinationExists(self.destination.clone()),
            _ => ExecError::io(Doing::Publish, &self.destination)(error),
        })?;
        self.durable(|| self.storage.rename(&self.destination, &self.path))
    }

    /// Gives where the old one is now.
    fn replace(&self) -> Result<PathBuf, ExecError> {
        let (new, old) = (&self.path, &self.destination);
        match self.storage.exchange(new, old) {
            Ok(()) => {
                self.durable(|| self.storage.exchange(new, old))?;
                return Ok(new.clone());
            }
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
            Err(error) => return Err(ExecError::io(Doing::Publish, old)(error)),
        }
        // In two steps: for a moment there is neither, but both are complete.
        let mut aside = new.clone().into_os_string();
        aside.push("-old");
        let aside = PathBuf::from(aside);
        self.storage.rename(old, &aside).map_err(ExecError::io(Doing::Publish, old))?;
        let renamed = self.storage.rename(new, old).map_err(ExecError::io(Doing::Publish, old));
        match renamed.and_then(|()| self.durable(|| self.storage.rename(old, new))) {
            Ok(()) => Ok(aside),
            Err(error) => {
                let _ = self.storage.rename(&aside, old);
                Err(error)
            }
        }
    }

    /// Syncs the parent; if that fails, undoes what it should have kept.
    fn durable(&self, undo: impl Fn() -> io::Result<()>) -> Result<(), ExecError> {
        self.storage.sync_folder(&self.parent).map_err(|error| {
            let _ = undo();
            ExecError::io(Doing::Sync, &self.parent)(error)
        })
    }
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        if !self.published {
            let _ = self.storage.remove(&self.path);
        }
    }
}

/// The folder and the name of a destination.
pub(crate) fn place(destination: &Path) -> Result<(PathBuf, &OsStr), ExecError> {
    let bad = || ExecError::BadDestination(destination.to_owned());
    let name = destination.file_name().ok_or_else(bad)?;
    let parent = destination.parent().ok_or_else(bad)?;
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    Ok((parent.to_owned(), name))
}

/// Whether there is anything under a name, a dangling link included.
pub(crate) fn exists(path: &Path) -> Result<bool, ExecError> {
    match std::fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(ExecError::io(Doing::Open, path)(error)),
    }
}

/// Removes the staging folders of runs that died. On a shared file system a run may live on another
/// machine: its lock tells.
fn remove_dead(storage: &dyn Storage, parent: &Path, prefix: &OsStr, progress: &dyn Progress) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(rest) = name.as_encoded_bytes().strip_prefix(prefix.as_encoded_bytes()) else {
            continue;
        };
        let pid: String =
            rest.iter().map(|byte| char::from(*byte)).take_while(char::is_ascii_digit).collect();
        if pid.is_empty() || Path::new("/proc").join(&pid).exists() {
            continue;
        }
        let path = entry.path();
        let free = File::open(&path).is_ok_and(|file| {
            rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
        });
        if free && storage.remove(&path).is_ok() {
            progress.note(&format!("removed {}, left by a run that died", path.display()));
        }
    }
}
