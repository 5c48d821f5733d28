//! The files a run touches, behind a trait, so that tests can make any of its calls fail.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use crate::sink::{DONTCACHE, DiskSink};

/// A file that is read.
pub trait Source: Send + Sync {
    /// Reads some bytes; none at the end.
    ///
    /// # Errors
    ///
    /// The system's.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// [`Source::read_at`] for bytes that will not be needed again, nor be kept by the system for it.
    ///
    /// # Errors
    ///
    /// The system's.
    fn read_once_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.read_at(buffer, offset)
    }

    /// What tells whether the file is still the same.
    ///
    /// # Errors
    ///
    /// The system's.
    fn stamp(&self) -> io::Result<Stamp>;
}

/// What changes when a file is written or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Its length in bytes.
    pub len: u64,
    /// When it was last written: seconds and nanoseconds.
    pub modified: (i64, i64),
    /// Its device and inode.
    pub inode: (u64, u64),
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Stamp {
        Stamp {
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            inode: (metadata.dev(), metadata.ino()),
        }
    }
}

impl Source for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }

    fn read_once_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        // Pages that were in memory before stay there.
        let parts = &mut [io::IoSliceMut::new(buffer)];
        match rustix::io::preadv2(self, parts, offset, DONTCACHE) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                FileExt::read_at(self, buffer, offset)
            }
            result => Ok(result?),
        }
    }

    fn stamp(&self) -> io::Result<Stamp> {
        Ok(Stamp::of(&self.metadata()?))
    }
}

/// A file that is written.
pub trait Sink: Send + Sync {
    /// Gives the file its length. Space is taken now, so that a full disk is known before the work.
    ///
    /// # Errors
    ///
    /// The system's; there is none where a file system cannot reserve.
    fn reserve(&self, len: u64) -> io::Result<()>;

    /// Gives the file its length, all zeros, and takes no space.
    ///
    /// # Errors
    ///
    /// The system's.
    fn stretch(&self, len: u64) -> io::Result<()>;

    /// Writes some bytes.
    ///
    /// # Errors
    ///
    /// The system's.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Returns when the file is on the disk. Called once: after an error nothing is known.
    ///
    /// # Errors
    ///
    /// The system's, also of earlier writes.
    fn sync(&self) -> io::Result<()>;
}

/// A file system.
pub trait Storage: Sync {
    /// Opens a file to read.
    ///
    /// # Errors
    ///
    /// The system's.
    fn open(&self, path: &Path) -> io::Result<Box<dyn Source>>;
    /// The stamp of a file by its path.
    ///
    /// # Errors
    ///
    /// The system's.
    fn stamp(&self, path: &Path) -> io::Result<Stamp>;
    /// Creates a folder that does not exist.
    ///
    /// # Errors
    ///
    /// The system's.
    fn create_folder(&self, path: &Path) -> io::Result<()>;
    /// Creates a file that does not exist.
    ///
    /// # Errors
    ///
    /// The system's.
    fn create(&self, path: &Path) -> io::Result<Box<dyn Sink>>;
    /// Opens a file again that [`Storage::create`] made.
    ///
    /// # Errors
    ///
    /// The system's.
    fn reopen(&self, path: &Path) -> io::Result<Box<dyn Sink>>;
    /// Returns when the entries of a folder are on the disk.
    ///
    /// # Errors
    ///
    /// The system's.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// Returns when all files of the file system of `path` are on the disk.
    ///
    /// # Errors
    ///
    /// The system's, also of earlier writes.
    fn sync_all(&self, path: &Path) -> io::Result<()>;
    /// Renames, and never replaces.
    ///
    /// # Errors
    ///
    /// The system's; `AlreadyExists` when `to` does.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Exchanges two names in one step.
    ///
    /// # Errors
    ///
    /// The system's; `Unsupported` where the file system cannot.
    fn exchange(&self, left: &Path, right: &Path) -> io::Result<()>;
    /// Removes a folder with all in it, or a file.
    ///
    /// # Errors
    ///
    /// The system's.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Bytes free where a path is.
    ///
    /// # Errors
    ///
    /// The system's.
    fn free(&self, path: &Path) -> io::Result<u64>;
}

/// The real one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Storage for Disk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn Source>> {
        Ok(Box::new(File::open(path)?))
    }

    fn stamp(&self, path: &Path) -> io::Result<Stamp> {
        Ok(Stamp::of(&fs::metadata(path)?))
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn Sink>> {
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        Ok(Box::new(DiskSink::new(file)))
    }

    fn reopen(&self, path: &Path) -> io::Result<Box<dyn Sink>> {
        Ok(Box::new(DiskSink::new(OpenOptions::new().write(true).open(path)?)))
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn sync_all(&self, path: &Path) -> io::Result<()> {
        Ok(rustix::fs::syncfs(File::open(path)?)?)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
            result => return Ok(result?),
        }
        // Older file systems: not one step, but the window is small.
        match fs::symlink_metadata(to) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => fs::rename(from, to),
            Err(error) => Err(error),
        }
    }

    fn exchange(&self, left: &Path, right: &Path) -> io::Result<()> {
        match rustix::fs::renameat_with(CWD, left, CWD, right, RenameFlags::EXCHANGE) {
            Err(Errno::INVAL | Errno::NOSYS) => Err(io::ErrorKind::Unsupported.into()),
            result => Ok(result?),
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let folder = fs::symlink_metadata(path)?.is_dir();
        if folder { fs::remove_dir_all(path) } else { fs::remove_file(path) }
    }

    fn free(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// Writes all of `bytes`, however short the system's writes are.
pub(crate) fn write_all_at(sink: &dyn Sink, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match sink.write_at(&bytes[done..], offset + done as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => done += written,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
