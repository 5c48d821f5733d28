//! What Meta and Mistral publish: `consolidated.NN.pth` and `params.json`.
//!
//! Meta's files are tensor ranks: each holds the same names, and a part of what they name. Mistral's first
//! mixture of experts has files of the same names that cut nothing: each holds other tensors. Which of the
//! two it is, only the names inside tell.

use crate::huggingface::read_config;
use crate::inventory::{Carried, Data, Framework, Mesh, Problem, Role, SourceFile, Stored, Survey};
use crate::listed::listed;
use crate::named::{Weight, unreadable, weights};
use crate::plain::state_dict;
use crate::torch::TorchFile;
use indexmap::{IndexMap, IndexSet};
use serde_json::{Map, Value as Json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// How all names of these files begin.
const STEM: &str = "consolidated";

/// The sizes of the model.
const PARAMS: &str = "params.json";

/// No model was ever published in more files.
const MOST: u64 = 4096;

/// The number of a file `consolidated.NN.pth` or `.pt`.
pub(crate) fn rank_of(name: &str) -> Option<u64> {
    let rest = name.strip_prefix(STEM)?.strip_prefix('.')?;
    let digits = rest.strip_suffix(".pth").or_else(|| rest.strip_suffix(".pt"))?;
    let number = digits.len() >= 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| number)
}

/// Whether a name is one that Mistral gives to safetensors of its own, beside those for transformers.
pub(crate) fn is_consolidated(name: &str) -> bool {
    name.starts_with(STEM)
}

/// The names of such files in a folder, sorted; none if it can't be read.
pub(crate) fn rank_files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.filter(|name| rank_of(name).is_some()).collect();
    names.sort();
    names
}

/// Reads the headers of all files of a folder.
pub(crate) fn survey(root: &Path) -> Survey {
    let mut survey = Survey::default();
    survey.inventory.root = root.to_owned();
    survey.inventory.framework = Framework::Files;
    let paths = numbered(root, &mut survey.problems);
    let mut files = Vec::new();
    for path in paths {
        match open(&path, &mut survey) {
            Ok(file) => files.push(file),
            Err(problem) => survey.problems.push(problem),
        }
    }
    let (names, how) = names(&files);
    match how {
        How::Cut => cut(&files, &names, &mut survey),
        How::Apart => apart(&files, &names, &mut survey),
    }
    survey
}

/// The files by number, which count from 0 without a gap.
fn numbered(root: &Path, problems: &mut Vec<Problem>) -> Vec<PathBuf> {
    let mut by_number: BTreeMap<u64, String> = BTreeMap::new();
    for name in rank_files(root) {
        let Some(number) = rank_of(&name) else { continue };
        if let Some(other) = by_number.insert(number, name.clone()) {
            let message = format!("{other} has the same number");
            let help = "Keep the files of one model.";
            problems.push(Problem::new(root.join(name), message).help(help));
        }
    }
    let last = by_number.keys().next_back().copied().unwrap_or_default();
    if last >= MOST {
        let message = format!("its number is {last}; there are never so many files");
        let name = by_number.remove(&last).unwrap_or_default();
        problems.push(Problem::new(root.join(name), message).help("Rename or remove it."));
        return Vec::new();
    }
    let example = by_number.values().next().and_then(|name| name.rsplit_once('.'));
    let suffix = example.map_or("pth", |(_, suffix)| suffix);
    let absent: Vec<_> = (0..last)
        .filter(|number| !by_number.contains_key(number))
        .map(|number| format!("{STEM}.{number:02}.{suffix}"))
        .collect();
    if !absent.is_empty() {
        let message =
            format!("of at least {} files some are missing: {}", last + 1, listed(&absent, ", "));
        problems.push(Problem::new(root, message).help("Download or copy them again."));
    }
    by_number.into_values().map(|name| root.join(name)).collect()
}

/// A file's number among the files that were read, its path and its tensors.
struct Opened {
    file: u32,
    path: PathBuf,
    weights: Vec<Weight>,
}

fn open(path: &Path, survey: &mut Survey) -> Result<Opened, Problem> {
    let torch = TorchFile::open(path).map_err(unreadable)?;
    let bytes = path.metadata().map_or(0, |metadata| metadata.len());
    let header_bytes = torch.header_bytes_read;
    let file = survey.inventory.files.len() as u32;
    survey.inventory.files.push(SourceFile { path: path.to_owned(), bytes, header_bytes });
    let (mut wrapped, mut others) = (false, Vec::new());
    let under = state_dict(torch.value.root());
    let weights = weights(&torch, under, &mut wrapped, &mut others, &mut survey.problems);
    if !others.is_empty() {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let others = listed(&others, ", ");
        let note = format!("Left out of {name}, as it is no named tensor: {others}.");
        survey.inventory.notes.push(note);
    }
    if weights.is_empty() {
        return Err(Problem::new(path, "it holds no named tensors").help("Copy it again."));
    }
    Ok(Opened { file, path: path.to_owned(), weights })
}

/// Whether files cut the same tensors or hold different ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Cut,
    Apart,
}

/// In how many files each name is, and what that makes them.
fn names(files: &[Opened]) -> (IndexMap<String, usize>, How) {
    let mut names: IndexMap<String, usize> = IndexMap::new();
    for weight in files.iter().flat_map(|file| &file.weights) {
        *names.entry(weight.name.clone()).or_default() += 1;
    }
    let shared = names.values().filter(|count| **count == files.len()).count();
    let own = names.values().filter(|count| **count == 1).count();
    let how = if files.len() > 1 && own > shared { How::Apart } else { How::Cut };
    (names, how)
}

/// Tensor ranks: every name is in every file.
fn cut(files: &[Opened], names: &IndexMap<String, usize>, survey: &mut Survey) {
    let ranks = files.len() as u64;
    survey.inventory.kind = match ranks {
        1 => "consolidated file of Meta or Mistral".to_owned(),
        ranks => format!("consolidated files of Meta, {ranks} tensor ranks"),
    };
    survey.inventory.mesh.insert("tp".to_owned(), ranks.max(1));
    for file in files {
        let held: IndexSet<&str> = file.weights.iter().map(|weight| weight.name.as_str()).collect();
        let lacks: Vec<_> = names.keys().filter(|name| !held.contains(name.as_str())).collect();
        if !lacks.is_empty() {
            let message = format!("it lacks what others hold: {}", listed(&lacks, ", "));
            let help = "All files hold the same names; is it a file of another model?";
            survey.problems.push(Problem::new(&file.path, message).help(help));
        }
    }
    for (rank, file) in files.iter().enumerate() {
        for weight in &file.weights {
            let at = if ranks > 1 { at("tp", rank) } else { Mesh::new() };
            survey.inventory.tensors.push(stored(file, weight, at));
        }
    }
}

/// Files with names of their own. What is in several of them is the same in all; that is compared.
fn apart(files: &[Opened], names: &IndexMap<String, usize>, survey: &mut Survey) {
    survey.inventory.kind =
        format!("consolidated files of Mistral, {} with tensors of their own", files.len());
    for (number, file) in files.iter().enumerate() {
        for weight in &file.weights {
            let several = names.get(&weight.name).is_some_and(|count| *count > 1);
            let at = if several { at("file", number) } else { Mesh::new() };
            survey.inventory.tensors.push(stored(file, weight, at));
        }
    }
}

fn at(axis: &str, index: usize) -> Mesh {
    Mesh::from_iter([(axis.to_owned(), index as u64)])
}

fn stored(file: &Opened, weight: &Weight, at: Mesh) -> Stored {
    let extent = &weight.extent;
    let strides = extent.strides.clone();
    Stored {
        name: weight.name.clone(),
        state: "param".to_owned(),
        dtype: extent.dtype,
        shape: extent.shape.clone(),
        at,
        role: Role::Trained,
        data: Data::Strided { file: file.file, offset: extent.file_offset, strides },
    }
}

/// The sizes that lie beside consolidated files, of either kind.
pub(crate) fn describe(survey: &mut Survey) {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let read = survey.inventory.files.iter().find(|file| is_consolidated(&name(&file.path)));
    let Some(path) = read.and_then(|file| Some(file.path.parent()?.join(PARAMS))) else { return };
    if !path.is_file() {
        return;
    }
    match read_config(&path) {
        Ok(params) => {
            survey.inventory.documents.insert("params".to_owned(), flat(params));
            let (name, without) = (PARAMS.to_owned(), Vec::new());
            survey.inventory.carried.push(Carried { name, source: path, slice: None, without });
        }
        Err(problem) => {
            survey.problems.push(problem.help("Move it away if it is not the model's."));
        }
    }
}

/// The sizes themselves: some nest those of the model under a key of its own.
fn flat(params: Map<String, Json>) -> Map<String, Json> {
    let has_sizes = |object: &Map<String, Json>| object.contains_key("dim");
    if has_sizes(&params) {
        return params;
    }
    let nested = params.values().filter_map(Json::as_object).find(|object| has_sizes(object));
    nested.cloned().unwrap_or(params)
}

#[cfg(test)]
mod tests {
    use super::{flat, rank_of};
    use serde_json::{Value, json};

    #[test]
    fn names_of_files() {
        let names = ["consolidated.00.pth", "consolidated.15.pt", "consolidated.100.pth"];
        assert_eq!(names.map(rank_of), [Some(0), Some(15), Some(100)]);
        let others = [
            "consolidated.safetensors",
            "consolidated.+1.pth",
            "consolidated.0.pth",
            "consolidated.00.pth.index",
            "consolidated.99999999999999999999.pth",
            "consolidated..pth",
        ];
        assert!(others.iter().all(|name| rank_of(name).is_none()));
    }

    #[test]
    fn sizes_may_be_nested() {
        let object = |value: Value| value.as_object().cloned().unwrap_or_default();
        let sizes = object(json!({"dim": 4, "moe": {"dim": 1}}));
        assert_eq!(flat(sizes.clone()), sizes);
        assert_eq!(flat(object(json!({"a": 1, "model": {"dim": 3}}))), object(json!({"dim": 3})));
        assert_eq!(flat(object(json!({"a": 1}))), object(json!({"a": 1})));
    }
}
