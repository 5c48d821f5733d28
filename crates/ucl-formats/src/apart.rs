//! A destination is not the source: what is replaced must not be what is read.

use crate::inventory::Problem;
use std::path::{Path, PathBuf};

/// Whether a destination is neither the source, nor inside of it, nor around it.
///
/// # Errors
/// Says which of these it is.
pub fn apart(source: &Path, destination: &Path) -> Result<(), Problem> {
    let (Ok(source), Some(target)) = (source.canonicalize(), resolved(destination)) else {
        return Ok(());
    };
    let how = if target == source {
        "it is the source"
    } else if target.starts_with(&source) {
        "it would lie inside of the source"
    } else if source.starts_with(&target) {
        "the source lies inside of it"
    } else {
        return Ok(());
    };
    let help = "Name a folder beside the source: a source is never changed.";
    Err(Problem::new(destination, how).help(help))
}

/// Whether writing to a destination leaves a folder whole that files are taken from beside the source.
///
/// # Errors
/// The folder is the destination, or lies inside of it.
pub fn spared(folder: &Path, destination: &Path) -> Result<(), Problem> {
    let (Ok(folder), Some(target)) = (folder.canonicalize(), resolved(destination)) else {
        return Ok(());
    };
    let how = if target == folder {
        "its config is taken from there"
    } else if folder.starts_with(&target) {
        "the folder that its config is taken from lies inside of it"
    } else {
        return Ok(());
    };
    Err(Problem::new(destination, how).help("Name another folder: this one would be replaced."))
}

/// The path without links, also if it does not exist yet in a folder that does.
fn resolved(path: &Path) -> Option<PathBuf> {
    if let Ok(whole) = path.canonicalize() {
        return Some(whole);
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new(".")).canonicalize().ok()?;
    Some(parent.join(path.file_name()?))
}
