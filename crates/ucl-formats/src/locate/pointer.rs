//! `latest` and its like: small text files that name the step to take.

use super::steps;
use crate::inventory::Problem;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// DeepSpeed's pointer; its content is the name of a folder beside it.
const LATEST: &str = "latest";

/// Megatron's pointer; its content is an iteration in decimals, or `release`.
const ITERATION: &str = "latest_checkpointed_iteration.txt";

/// What DeepSpeed's converter leaves beside the step; only where nothing else points at one.
const CONVERTED: &str = "latest_universal";

/// No name of a step is longer.
const LONGEST: u64 = 4096;

/// The folder that a pointer in `folder` names, and the pointer's own name.
pub(super) fn target(folder: &Path) -> Result<Option<(PathBuf, &'static str)>, Problem> {
    let pointers = [(LATEST, tagged as fn(&str) -> _), (ITERATION, iteration), (CONVERTED, tagged)];
    for (pointer, candidates) in pointers {
        let path = folder.join(pointer);
        // A run that is here without what was made of it is no worse.
        if !path.is_file() || pointer == CONVERTED && !steps(folder)?.is_empty() {
            continue;
        }
        let tag = read(&path)?;
        let help = |problem: Problem| problem.help(others(folder));
        if tag.is_empty() {
            return Err(help(Problem::new(path, "it is empty; it should name a step")));
        }
        let names: Vec<String> = candidates(&tag);
        if names.iter().any(|name| escapes(name)) {
            let message = format!("it names {tag:?}, which is outside of this folder");
            return Err(help(Problem::new(path, message)));
        }
        let below = names.iter().filter(|name| Path::new(name).file_name().is_some());
        let found = below.map(|name| folder.join(name)).find(|step| step.is_dir());
        return match found {
            Some(step) => Ok(Some((step, pointer))),
            None => Err(help(Problem::new(path, format!("it names {tag:?}, which is not here")))),
        };
    }
    Ok(None)
}

/// What is wrong with a pointer that was given itself; `None` for files of other names.
pub(super) fn alone(path: &Path) -> Option<Problem> {
    let name = path.file_name()?.to_str()?;
    if ![LATEST, ITERATION, CONVERTED].contains(&name) {
        return None;
    }
    let tag = match read(path) {
        Ok(tag) => tag,
        Err(problem) => return Some(problem),
    };
    let folder = path.parent().filter(|folder| folder != &Path::new(""));
    let folder = folder.unwrap_or(Path::new(".")).display();
    let message = format!("it only names the step to take, {tag:?}");
    let help = match name {
        CONVERTED => format!("Give the folder of that name beside it, in {folder}."),
        _ => format!("Give the folder that it is in: {folder}."),
    };
    Some(Problem::new(path, message).help(help))
}

fn tagged(tag: &str) -> Vec<String> {
    vec![tag.to_owned()]
}

/// Megatron-DeepSpeed writes `global_step4`, Megatron-LM `iter_0000004`.
fn iteration(tag: &str) -> Vec<String> {
    match tag.parse::<u64>() {
        Ok(step) => vec![format!("global_step{step}"), format!("iter_{step:07}")],
        Err(_) => vec![tag.to_owned()],
    }
}

fn read(path: &Path) -> Result<String, Problem> {
    let unread = |error| Problem::new(path, format!("it can't be read: {error}"));
    if fs::metadata(path).map_err(unread)?.len() > LONGEST {
        return Err(Problem::new(path, "it is too long to be the name of a step"));
    }
    let bytes = fs::read(path).map_err(unread)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Problem::new(path, "it is not text; it should name a step"))?;
    Ok(text.trim().to_owned())
}

fn escapes(name: &str) -> bool {
    let inside = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    name.contains('\0') || !Path::new(name).components().all(inside)
}

/// What could be given instead.
fn others(folder: &Path) -> String {
    let steps = steps(folder).unwrap_or_default();
    let names: Vec<_> = steps
        .iter()
        .filter_map(|step| Some(step.file_name()?.to_string_lossy().into_owned()))
        .collect();
    match names.as_slice() {
        [] => "There is no step beside it: copy the step's folder here as well.".to_owned(),
        [one] => format!("Give the step that is here instead: {one}."),
        many => format!("Give one of the steps that are here instead: {}.", many.join(", ")),
    }
}
