//! `zero/<parameter>/<state>.pt` and `zero/optimizer_state.pt`.

use crate::inventory::{Inventory, Problem};
use crate::ranks::{Opened, open_all};
use crate::torch::json;
use crate::torch::{TensorExtent, TorchFile, Value};
use indexmap::IndexMap;
use serde_json::Value as Json;
use std::fs;
use std::path::{Path, PathBuf};

/// Names are nested no deeper: one with a `/` is a folder in a folder.
const DEEPEST: usize = 16;

/// What one file holds.
#[derive(Debug)]
pub(super) enum Content {
    /// A state of a parameter.
    Tensor {
        extent: TensorExtent,
        /// Whether it is flat and without a dict around it.
        bare: bool,
        /// Whether it is a vocabulary's, without padding.
        vocabulary: bool,
        /// Whether it is said along which dim a load cuts it.
        placed: bool,
    },
    /// A number: the step.
    Scalar(Json),
}

/// All files below `zero`.
#[derive(Debug, Default)]
pub(super) struct Entries {
    pub(super) root: PathBuf,
    /// By parameter, by state; the step is one of them.
    pub(super) params: IndexMap<String, IndexMap<String, Opened<Content>>>,
    /// Tensor states that most parameters have.
    pub(super) usual: Vec<String>,
    /// The file of the optimizer's groups.
    pub(super) optimizer: Option<PathBuf>,
    /// Hyper-parameters of each group, and how many sub-groups of stage 3 it has.
    pub(super) groups: Vec<(IndexMap<String, Json>, usize)>,
    /// The step that the optimizer is at, where parameters have none of their own.
    pub(super) step: Option<Json>,
}

impl Entries {
    /// Opens all of them.
    pub(super) fn read(
        root: &Path,
        inventory: &mut Inventory,
        problems: &mut Vec<Problem>,
    ) -> Entries {
        let mut entries = Entries { root: root.to_owned(), ..Entries::default() };
        let mut found = Vec::new();
        walk(root, "", 0, &mut found, problems);
        found.sort();
        let names: Vec<(String, String)> =
            found.iter().map(|(name, state, _)| (name.clone(), state.clone())).collect();
        let paths: Vec<(usize, PathBuf)> =
            found.into_iter().map(|(_, _, path)| path).enumerate().collect();
        for (number, opened) in open_all(&paths, inventory, problems, content) {
            let Opened { file, path, saved_as, content: Some(content) } = opened else { continue };
            let (name, state) = &names[number];
            let states = entries.params.entry(name.clone()).or_default();
            states.insert(state.clone(), Opened { file, path, saved_as, content });
        }
        entries.optimizer(inventory, problems);
        entries.usual();
        if entries.params.is_empty() && problems.is_empty() {
            problems
                .push(Problem::new(root, "there are no parameters here").help(
                    "Each is a folder with fp32.pt. The conversion may have been cut short.",
                ));
        }
        entries
    }

    /// Whether tensors are flat, without shapes.
    pub(super) fn of_stage3(&self) -> bool {
        let all = self.params.values().flat_map(IndexMap::values);
        all.into_iter().any(|one| matches!(one.content, Content::Tensor { bare: true, .. }))
    }

    fn usual(&mut self) {
        let mut counts: IndexMap<&String, usize> = IndexMap::new();
        let trained = || self.params.values().filter(|states| states.len() > 1);
        for (state, opened) in trained().flatten() {
            if matches!(opened.content, Content::Tensor { .. }) {
                *counts.entry(state).or_default() += 1;
            }
        }
        let most = trained().count();
        // Optimizers may keep other states for some parameters; one that lacks what nearly all have was lost.
        let usual = counts.into_iter().filter(|(_, count)| *count * 10 > most * 9);
        self.usual = usual.map(|(state, _)| state.clone()).collect();
    }

    fn optimizer(&mut self, inventory: &mut Inventory, problems: &mut Vec<Problem>) {
        let path = self.root.join("optimizer_state.pt");
        if !path.is_file() {
            problems.push(
                Problem::new(&path, "it is missing: it holds the optimizer's groups")
                    .help("The conversion may have been cut short: make it again."),
            );
            return;
        }
        let read = open_all(&[((), path.clone())], inventory, problems, groups);
        for (_, opened) in read {
            (self.groups, self.step) = opened.content;
        }
        self.optimizer = Some(path);
    }
}

/// The files of all parameters: name, state, path.
fn walk(
    folder: &Path,
    name: &str,
    depth: usize,
    found: &mut Vec<(String, String, PathBuf)>,
    problems: &mut Vec<Problem>,
) {
    let listing = match fs::read_dir(folder) {
        Ok(listing) => listing,
        Err(error) => {
            return problems
                .push(Problem::new(folder, format!("the folder can't be read: {error}")));
        }
    };
    for entry in listing.flatten() {
        let (path, own) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_symlink() {
            let leads = "it is a link, which may lead out of the checkpoint";
            problems.push(Problem::new(path, leads).help("Copy what it points at in its place."));
        } else if kind.is_dir() && depth < DEEPEST {
            let below = if name.is_empty() { own } else { format!("{name}/{own}") };
            walk(&path, &below, depth + 1, found, problems);
        } else if kind.is_dir() {
            problems.push(Problem::new(path, "folders are nested too deep to be a name"));
        } else if let Some(state) = own.strip_suffix(".pt").filter(|_| !name.is_empty()) {
            found.push((name.to_owned(), state.to_owned(), path));
        }
    }
}

/// One state of a parameter; `None` with a problem where it is none.
fn content(file: &TorchFile, problems: &mut Vec<Problem>) -> Option<Content> {
    let root = file.value.root();
    let held = root.get("param").unwrap_or(root);
    let is_step = file.path.file_stem().is_some_and(|stem| stem == "step");
    let Some(tensor) = held.as_tensor().filter(|_| !is_step) else {
        let number = json::json(file, held);
        if number.is_number() {
            return Some(Content::Scalar(number));
        }
        let wrong = format!("it holds {}, and no tensor under `param`", root.kind());
        problems.push(Problem::new(&file.path, wrong));
        return None;
    };
    match file.extent(tensor) {
        Ok(extent) => {
            let bare = root.as_dict().is_none() && extent.shape.len() <= 1;
            if bare && !extent.is_contiguous() {
                problems.push(Problem::new(&file.path, "it is flat and has holes"));
                return None;
            }
            let vocabulary = root.get("vocab_tensor").is_some();
            let placed = root.get("cat_dim").is_some();
            Some(Content::Tensor { extent, bare, vocabulary, placed })
        }
        Err(error) => {
            problems.push(Problem::new(&file.path, format!("`param`: {}", error.kind)));
            None
        }
    }
}

type Groups = (Vec<(IndexMap<String, Json>, usize)>, Option<Json>);

/// The groups of `optimizer_state.pt`, in either of its forms.
fn groups(file: &TorchFile, problems: &mut Vec<Problem>) -> Groups {
    let root = file.value.root();
    let inner = root.get("optimizer_state_dict");
    let listed = root.get("param_groups").or_else(|| inner?.get("param_groups"));
    let Some(listed) = listed.and_then(Value::items) else {
        let wrong = "it has no `param_groups`, the optimizer's groups";
        problems.push(Problem::new(&file.path, wrong));
        return (Vec::new(), None);
    };
    let mut groups = Vec::new();
    for group in listed {
        let mut hyper = IndexMap::new();
        let mut parts = 1;
        for (key, value) in group.pairs().into_iter().flatten() {
            match key.as_str().unwrap_or_default() {
                "params" => parts = value.items().map_or(1, Iterator::count),
                "param_names" => {}
                key => {
                    hyper.insert(key.to_owned(), json::json(file, value));
                }
            }
        }
        groups.push((hyper, parts));
    }
    let states = inner.and_then(|inner| inner.get("state")).and_then(Value::pairs);
    let first = states.and_then(|mut pairs| pairs.next());
    let step = first.and_then(|(_, state)| state.get("step")).map(|step| json::json(file, step));
    (groups, step.filter(Json::is_number))
}
