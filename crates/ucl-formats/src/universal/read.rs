//! Reads a universal folder: its manifest, and the headers of the files that it names.

use super::{Entry, FORMAT, MANIFEST, Manifest, StateEntry, VERSION};
use crate::inventory::{
    Carried, Data, FileId, Framework, Inventory, Mesh, Problem, SourceFile, Stored, Survey,
    row_major,
};
use crate::safetensors::{Tensor, read_header};
use indexmap::{IndexMap, IndexSet};
use serde::de::DeserializeOwned;
use std::fs;
use std::path::{Component, Path};

/// A manifest is never larger, in bytes.
const LARGEST_MANIFEST: u64 = 512 << 20;

/// What helps a folder that is not as its manifest says.
pub(crate) const AGAIN: &str = "Copy the folder again, or make it again from the checkpoint.";

/// Reads a universal folder.
pub fn survey(root: &Path) -> Survey {
    let mut survey = Survey::default();
    survey.inventory.root = root.to_owned();
    survey.inventory.framework = Framework::Universal;
    survey.inventory.kind = "universal".to_owned();
    match manifest(&root.join(MANIFEST)) {
        Ok(manifest) => describe(root, manifest, &mut survey),
        Err(problem) => survey.problems.push(problem),
    }
    survey
}

/// Reads a manifest of a format and version that is known.
///
/// # Errors
/// Says what is wrong with it.
pub fn manifest(path: &Path) -> Result<Manifest, Problem> {
    read_manifest(path, FORMAT, VERSION)
}

/// Reads JSON that says its `format` and `version`.
pub(crate) fn read_manifest<M: DeserializeOwned>(
    path: &Path,
    format: &str,
    version: u64,
) -> Result<M, Problem> {
    let wrong = |error: String| {
        Problem::new(path, format!("the manifest can't be read: {error}")).help(AGAIN)
    };
    let bytes = fs::metadata(path).map_err(|error| wrong(error.to_string()))?.len();
    if bytes > LARGEST_MANIFEST {
        return Err(wrong(format!("it has {bytes} bytes, too many for a manifest")));
    }
    let text = fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let value: serde_json::Value =
        serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
    if value.get("format").and_then(|format| format.as_str()) != Some(format) {
        return Err(wrong(format!("its `format` is not `{format}`")));
    }
    match value.get("version").and_then(serde_json::Value::as_u64) {
        Some(found) if found == version => {}
        Some(found) => {
            let message = format!("it is of version {found}, this program knows {version}");
            return Err(wrong(message).help("Read it with a newer release of ucl."));
        }
        None => return Err(wrong("it has no `version`".to_owned())),
    }
    serde_json::from_value(value).map_err(|error| wrong(error.to_string()))
}

fn describe(root: &Path, manifest: Manifest, survey: &mut Survey) {
    let (inventory, problems) = (&mut survey.inventory, &mut survey.problems);
    inventory.version = manifest.source.version.clone();
    inventory.step = manifest.step;
    inventory.stages = manifest.source.stages.clone();
    inventory.optimizer = manifest.optimizer.clone();
    inventory.metadata = manifest.metadata.clone();
    inventory.tensors = hold(root, &root.join(MANIFEST), &manifest.tensors, inventory, problems);
    for entry in &manifest.tensors {
        for alias in &entry.aliases {
            inventory.aliases.insert(alias.clone(), entry.name.clone());
        }
    }
    inventory.carried = extra(root, &manifest, problems);
    inventory.universal = Some(manifest);
}

/// The tensors that a manifest describes, in its order, which is the model's; the files that it names are
/// opened, and hold nothing else.
pub(crate) fn hold(
    root: &Path,
    manifest: &Path,
    entries: &[Entry],
    inventory: &mut Inventory,
    problems: &mut Vec<Problem>,
) -> Vec<Stored> {
    let files = files(root, manifest, entries, inventory, problems);
    let mut tensors = Vec::new();
    let mut claimed: IndexMap<(&str, &str), ()> = IndexMap::new();
    for entry in entries {
        for (state, place) in &entry.states {
            if claimed.insert((&place.file, &entry.name), ()).is_some() {
                let message = format!("`{}` stands twice in {}", entry.name, place.file);
                problems.push(Problem::new(manifest, message).help(AGAIN));
            }
            let Some(opened) = files.get(place.file.as_str()) else { continue };
            match opened.held(root, entry, state, place) {
                Ok(stored) => tensors.push(stored),
                Err(problem) => problems.push(problem),
            }
        }
    }
    unclaimed(root, &files, &claimed, problems);
    tensors
}

/// A file of the folder, opened.
struct Opened {
    file: FileId,
    tensors: IndexMap<String, Tensor>,
}

/// Opens every file that the manifest names, each once.
fn files<'m>(
    root: &Path,
    manifest: &Path,
    entries: &'m [Entry],
    inventory: &mut Inventory,
    problems: &mut Vec<Problem>,
) -> IndexMap<&'m str, Opened> {
    let mut files: IndexMap<&str, Option<Opened>> = IndexMap::new();
    let places = entries.iter().flat_map(|entry| entry.states.values());
    for place in places {
        if files.contains_key(place.file.as_str()) {
            continue;
        }
        let opened = if inside(&place.file) {
            read_header(&root.join(&place.file))
        } else {
            let message = format!("it names {:?}, which is outside of this folder", place.file);
            Err(Problem::new(manifest, message).help(AGAIN))
        };
        let opened = opened.map(|header| {
            let file = inventory.files.len() as FileId;
            let path = root.join(&place.file);
            inventory.files.push(SourceFile {
                path,
                bytes: header.bytes,
                header_bytes: header.data,
            });
            let named = header.tensors.into_iter().map(|tensor| (tensor.name.clone(), tensor));
            Opened { file, tensors: named.collect() }
        });
        files.insert(&place.file, opened.map_err(|problem| problems.push(problem)).ok());
    }
    files.into_iter().filter_map(|(name, opened)| Some((name, opened?))).collect()
}

impl Opened {
    /// The tensor that the manifest describes, if the file says the same.
    fn held(
        &self,
        root: &Path,
        entry: &Entry,
        state: &str,
        place: &StateEntry,
    ) -> Result<Stored, Problem> {
        let path = root.join(&place.file);
        let Some(tensor) = self.tensors.get(&entry.name) else {
            return Err(Problem::new(
                path,
                format!("it has no `{}`, which the manifest puts here", entry.name),
            )
            .help(AGAIN));
        };
        if tensor.shape != entry.shape || tensor.dtype != place.dtype {
            let message = format!(
                "`{}` is {} {:?}, the manifest says {} {:?}",
                entry.name, tensor.dtype, tensor.shape, place.dtype, entry.shape
            );
            return Err(Problem::new(path, message).help(AGAIN));
        }
        Ok(Stored {
            name: entry.name.clone(),
            state: state.to_owned(),
            dtype: tensor.dtype,
            shape: tensor.shape.clone(),
            at: Mesh::new(),
            role: entry.role,
            data: Data::Strided {
                file: self.file,
                offset: tensor.offset,
                strides: row_major(&tensor.shape),
            },
        })
    }
}

/// Tensors that are in a file and not in the manifest.
fn unclaimed(
    root: &Path,
    files: &IndexMap<&str, Opened>,
    claimed: &IndexMap<(&str, &str), ()>,
    problems: &mut Vec<Problem>,
) {
    for (name, opened) in files {
        for tensor in opened.tensors.keys() {
            if !claimed.contains_key(&(*name, tensor.as_str())) {
                let message = format!("it has `{tensor}`, which the manifest does not know");
                problems.push(Problem::new(root.join(name), message).help(AGAIN));
            }
        }
    }
}

/// The carried files, which are copied whole.
fn extra(root: &Path, manifest: &Manifest, problems: &mut Vec<Problem>) -> Vec<Carried> {
    let mut carried = Vec::new();
    let mut seen = IndexSet::new();
    for name in &manifest.extra {
        let name = name.strip_prefix("extra/").unwrap_or(name);
        if !seen.insert(name) {
            let message = format!("it names {name:?} twice among its files");
            problems.push(Problem::new(root.join(MANIFEST), message).help(AGAIN));
            continue;
        }
        let source = root.join("extra").join(name);
        if !inside(name) {
            let message = format!("it names {name:?}, which is outside of this folder");
            problems.push(Problem::new(root.join(MANIFEST), message).help(AGAIN));
        } else if !source.is_file() {
            let message = "the manifest names it, but it is missing";
            problems.push(Problem::new(source, message).help(AGAIN));
        } else {
            carried.push(Carried {
                name: name.to_owned(),
                source,
                slice: None,
                without: Vec::new(),
            });
        }
    }
    carried
}

/// Whether a name stays inside of the folder.
fn inside(name: &str) -> bool {
    !name.is_empty()
        && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
}
