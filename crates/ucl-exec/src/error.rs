//! Why a run failed, in words for the person who must act.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::outcome::CheckResult;

/// Why a run failed. Nothing of it is left behind.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The destination exists, and was not to be replaced.
    #[error("{} exists; remove it, or ask for it to be replaced (--overwrite)", .0.display())]
    DestinationExists(PathBuf),
    /// The destination has no name or no parent.
    #[error("{} cannot be a destination: it must name a folder inside of another", .0.display())]
    BadDestination(PathBuf),
    /// A file to write would lie outside of the destination.
    #[error("{path:?} is not a plain path inside of the destination")]
    BadPath {
        /// The path.
        path: String,
    },
    /// The file system is too small.
    #[error(
        "{} has {free} bytes free and {needed} are needed; free {} bytes more, or choose another place",
        .path.display(), .needed - .free
    )]
    NoSpace {
        /// The folder beside the destination.
        path: PathBuf,
        /// Bytes to write.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// The system refused something.
    #[error("cannot {doing} {}: {error}{}", .path.display(), hint(.error))]
    Io {
        /// What was tried.
        doing: Doing,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A source ends before the bytes that the plan reads.
    #[error(
        "{} has {len} bytes and the plan reads up to byte {needed}; it was cut short, or changed \
         since it was inspected", .path.display()
    )]
    SourceShort {
        /// The source.
        path: PathBuf,
        /// How many bytes it should have at least.
        needed: u64,
        /// How many it has.
        len: u64,
    },
    /// A source changed between its first and its last read.
    #[error("{} changed while it was read; run again when nothing writes to it", .0.display())]
    SourceChanged(PathBuf),
    /// The plan contradicts itself: a mistake of ours, not of the user.
    #[error("the plan of {tensor:?} is wrong: {reason}; please report this")]
    Plan {
        /// The tensor.
        tensor: String,
        /// What is wrong.
        reason: String,
    },
    /// Values differ that must not.
    #[error("{}", check_text(.0))]
    Check(Vec<CheckResult>),
    /// The caller could not make the last files.
    #[error("cannot finish the checkpoint: {0}")]
    Finish(Box<dyn std::error::Error + Send + Sync>),
}

/// What was tried when the system refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// Creating a file or folder.
    Create,
    /// Reserving a file's length.
    Reserve,
    /// Opening a file.
    Open,
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Syncing: what was written may be lost.
    Sync,
    /// Renaming the finished folder to its final name.
    Publish,
    /// Removing what was replaced.
    Remove,
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Doing::Create => "create",
            Doing::Reserve => "reserve space for",
            Doing::Open => "open",
            Doing::Read => "read",
            Doing::Write => "write",
            Doing::Sync => "sync",
            Doing::Publish => "move the finished checkpoint to",
            Doing::Remove => "remove",
        })
    }
}

impl ExecError {
    /// For `map_err`: the system's error, with what was tried on which path.
    pub(crate) fn io(doing: Doing, path: &Path) -> impl FnOnce(io::Error) -> ExecError + '_ {
        move |error| ExecError::Io { doing, path: path.to_owned(), error }
    }
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => "; free space on its file system, or choose another place",
        io::ErrorKind::QuotaExceeded => "; free space under your quota, or choose another place",
        io::ErrorKind::PermissionDenied => "; check who owns it and its folder",
        io::ErrorKind::ReadOnlyFilesystem => "; choose another place",
        io::ErrorKind::StaleNetworkFileHandle => "; the file server lost it: run again",
        _ => "",
    }
}

fn check_text(checks: &[CheckResult]) -> String {
    let lines = checks.iter().map(|check| {
        let place = check.first.as_ref().map_or(String::new(), |first| {
            format!(", first at element {} of {}", first.element, first.tensor)
        });
        format!(
            "{}: {} of {} values differ by up to {:e}{place}",
            check.label, check.mismatched, check.compared, check.max_abs_diff
        )
    });
    lines.collect::<Vec<_>>().join("\n")
}
