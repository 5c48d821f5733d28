//! A folder of weights: one file, or shards with or without an index.

use super::index::{Index, misplaced, read_index};
use super::{forget_format, optimizer, read, ungathered};
use crate::consolidated::is_consolidated;
use crate::huggingface::take_states;
use crate::inventory::{ADAPTER, Data, Framework, HUGGING_FACE, Problem, Survey};
use crate::listed::listed;
use indexmap::{IndexMap, IndexSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Whether a name is that of a file of weights, or of an index of some.
pub fn is_weight_file(name: &str) -> bool {
    name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json") || is_torch(name)
}

fn is_safe(name: &str) -> bool {
    name.contains(".safetensors")
}

/// What transformers calls its torch files; other `.bin` and `.pt` files may be anything.
fn is_torch(name: &str) -> bool {
    name.starts_with("pytorch_model")
        && (name.ends_with(".bin") || name.ends_with(".bin.index.json") || name.ends_with(".pt"))
}

/// Reads the headers of a folder of weights. Safetensors count before torch files.
pub fn survey_folder(root: &Path) -> Survey {
    let mut survey = Survey::default();
    survey.inventory.root = root.to_owned();
    let names = match names(root) {
        Ok(names) => names,
        Err(problem) => {
            survey.problems.push(problem);
            return survey;
        }
    };
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    let adapter = has("adapter_config.json") && !has("config.json");
    let hugging_face = has("config.json") || adapter;
    survey.inventory.framework =
        if hugging_face { Framework::HuggingFace } else { Framework::Files };
    let safe = names.iter().any(|name| is_safe(name));
    let (files, index) = format_files(root, &names, safe, &mut survey);
    for name in &files {
        read(&root.join(name), &mut survey.inventory, &mut survey.problems);
    }
    forget_format(&mut survey.inventory);
    twice(&mut survey);
    survey.problems.extend(ungathered(&survey.inventory));
    // Problems that are known explain what the index would say.
    if let Some((path, index)) = index.filter(|_| survey.problems.is_empty()) {
        survey.problems.extend(misplaced(&path, &index, &survey.inventory));
    }
    optimizer::take(root, !safe, &mut survey);
    take_states(root, &mut survey);
    let format = if safe { "safetensors" } else { "torch files" };
    let framework = match (adapter, hugging_face) {
        (true, _) => ADAPTER,
        (false, true) => HUGGING_FACE,
        (false, false) => "",
    };
    survey.inventory.kind = match files.len() {
        1 => format!("{framework}{format}"),
        count => format!("{framework}{format}, {count} files"),
    };
    survey
}

/// The files to read, sorted; the index decides if there is one.
fn format_files(
    root: &Path,
    names: &[String],
    safe: bool,
    survey: &mut Survey,
) -> (Vec<String>, Option<(PathBuf, Index)>) {
    // Mistral's own files lie beside those for transformers.
    let twin = safe && names.iter().any(|name| is_safe(name) && !is_consolidated(name));
    let ours = |name: &&String| match safe {
        true => is_safe(name) && !(twin && is_consolidated(name)),
        false => is_torch(name),
    };
    if safe {
        let others = names.iter().filter(|name| is_weight_file(name) && !ours(name));
        left_out(&others.cloned().collect::<Vec<_>>(), &[], survey);
    }
    let (indices, files): (Vec<_>, Vec<_>) =
        names.iter().filter(ours).cloned().partition(|name| name.ends_with(".index.json"));
    // A whole model beside its shards: transformers looks for the whole one first.
    let whole = ["model.safetensors", "pytorch_model.bin"];
    if let Some(one) = files.iter().find(|name| whole.contains(&name.as_str())) {
        left_out(&files, std::slice::from_ref(one), survey);
        return (vec![one.clone()], None);
    }
    match indices.as_slice() {
        [] => {
            missing_shards(root, &files, &mut survey.problems);
            (files, None)
        }
        [index] => {
            let path = root.join(index);
            match read_index(&path) {
                Ok(index) => (indexed(&path, &index, root, &files, survey), Some((path, index))),
                Err(problem) => {
                    survey.problems.push(problem);
                    (files, None)
                }
            }
        }
        many => {
            let message = format!("there are {} indices: {}", many.len(), many.join(", "));
            let problem = Problem::new(root, message).help("Keep the one that is meant.");
            survey.problems.push(problem);
            (Vec::new(), None)
        }
    }
}

/// The files that an index names, if all is as it says.
fn indexed(
    path: &Path,
    index: &Index,
    root: &Path,
    files: &[String],
    survey: &mut Survey,
) -> Vec<String> {
    let mut named: IndexSet<String> = index.weight_map.values().cloned().collect();
    let outside = |name: &String| {
        let mut parts = Path::new(name).components();
        !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
    };
    for name in named.iter().filter(|name| outside(name)) {
        let message = format!("it names {name:?}, which is outside of this folder");
        let help = "An index names files beside it; download or copy it again.";
        survey.problems.push(Problem::new(path, message).help(help));
    }
    named.retain(|name| !outside(name));
    let missing: Vec<_> = named.iter().filter(|name| !root.join(name).is_file()).cloned().collect();
    if !missing.is_empty() {
        let message = format!("the index names files that are missing: {}", listed(&missing, ", "));
        survey.problems.push(Problem::new(root, message).help("Download or copy them again."));
    }
    named.retain(|name| !missing.contains(name));
    named.sort();
    let named: Vec<_> = named.into_iter().collect();
    left_out(files, &named, survey);
    named
}

fn left_out(files: &[String], named: &[String], survey: &mut Survey) {
    let out: Vec<_> = files.iter().filter(|name| !named.contains(name)).cloned().collect();
    if !out.is_empty() {
        survey
            .inventory
            .notes
            .push(format!("Not read, since the model is in other files: {}.", listed(&out, ", ")));
    }
}

/// `model-00002-of-00005.safetensors` says how many there should be.
fn missing_shards(root: &Path, files: &[String], problems: &mut Vec<Problem>) {
    let mut series: IndexMap<(&str, &str, &str), IndexSet<u64>> = IndexMap::new();
    for name in files {
        let Some((stem, suffix)) = name.split_once('.') else { continue };
        let Some((stem, count)) = stem.rsplit_once("-of-") else { continue };
        let Some((stem, number)) = stem.rsplit_once('-') else { continue };
        let numbers = series.entry((stem, count, suffix)).or_default();
        numbers.extend(number.parse::<u64>());
    }
    for ((stem, count, suffix), here) in series {
        let Ok(expected) = count.parse::<u64>() else { continue };
        let width = count.len();
        let absent: Vec<_> = (1..=expected.min(1 << 16))
            .filter(|number| !here.contains(number))
            .map(|number| format!("{stem}-{number:0width$}-of-{count}.{suffix}"))
            .collect();
        if !absent.is_empty() {
            let message =
                format!("of {expected} shards some are missing: {}", listed(&absent, ", "));
            problems.push(Problem::new(root, message).help("Download or copy them again."));
        }
    }
}

/// No tensor stands in two files.
fn twice(survey: &mut Survey) {
    let mut seen = IndexMap::new();
    for tensor in &survey.inventory.tensors {
        let Data::Strided { file, .. } = &tensor.data else { continue };
        if let Some(other) = seen.insert(&tensor.name, *file) {
            let [here, there] =
                [*file, other].map(|file| &survey.inventory.files[file as usize].path);
            let there = there.file_name().unwrap_or_default().to_string_lossy();
            let message = format!("`{}` is in {there} too", tensor.name);
            survey.problems.push(Problem::new(here, message).help("Keep the files of one model."));
        }
    }
}

fn names(root: &Path) -> Result<Vec<String>, Problem> {
    let unread = |error| Problem::new(root, format!("the folder can't be read: {error}"));
    let mut names = Vec::new();
    for entry in fs::read_dir(root).map_err(unread)? {
        names.push(entry.map_err(unread)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}
