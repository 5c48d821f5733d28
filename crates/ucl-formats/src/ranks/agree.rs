//! What the files of a step agree on, and which of them differ.

use crate::inventory::Problem;
use indexmap::IndexMap;
use serde_json::Value as Json;
use std::path::{Path, PathBuf};

/// What to do about files that differ.
pub(crate) const MIXED: &str =
    "The files are of different runs or steps: bring those of one together.";

/// What most files say, the earlier of two that are equally frequent; those that say something else
/// are problems, told as `differs(theirs, witness, usual)`.
pub(crate) fn agreed<'a, T: Copy + PartialEq>(
    said: impl Iterator<Item = (T, &'a PathBuf)>,
    problems: &mut Vec<Problem>,
    differs: impl Fn(T, &str, T) -> String,
) -> Option<T> {
    let mut by_value: Vec<(T, Vec<&PathBuf>)> = Vec::new();
    for (value, path) in said {
        let known = by_value.iter().position(|(other, _)| *other == value);
        let index = known.unwrap_or_else(|| {
            by_value.push((value, Vec::new()));
            by_value.len() - 1
        });
        let paths = &mut by_value[index].1;
        if paths.last() != Some(&path) {
            paths.push(path);
        }
    }
    let (usual, paths) = by_value.iter().rev().max_by_key(|(_, paths)| paths.len())?;
    let witness = name_of(paths.first()?);
    for (value, paths) in by_value.iter().filter(|(value, _)| value != usual) {
        for path in paths {
            let problem = Problem::new(*path, differs(*value, &witness, *usual));
            problems.push(problem.help(MIXED));
        }
    }
    Some(*usual)
}

/// The value that is most frequent, the first of those that are equally so.
pub(crate) fn usual<'a>(values: impl Iterator<Item = &'a Json>) -> Option<&'a Json> {
    let mut times: IndexMap<String, (usize, &Json)> = IndexMap::new();
    for value in values {
        times.entry(value.to_string()).or_insert((0, value)).0 += 1;
    }
    // `max_by_key` takes the last of several.
    times.values().rev().max_by_key(|(count, _)| *count).map(|(_, value)| *value)
}

/// The last part of a path, printable.
pub(crate) fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// `1 data rank`, `2 data ranks`.
pub(crate) fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
