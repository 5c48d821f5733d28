//! One folder of a distributed checkpoint: whole tensors in chunks, and objects.

use super::items::{Found, Wanted, locate};
use super::metadata::{METADATA, Metadata, Place};
use crate::grid::{self, Uneven};
use crate::inventory::{Carried, Chunk, Data, FileId, Inventory, Problem, SourceFile};
use crate::listed::listed;
use crate::torch::TorchFile;
use indexmap::IndexMap;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use ucl_tensor::DType;

/// What a folder holds, under the names that it was saved with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sharded {
    /// The folder.
    pub(crate) root: PathBuf,
    /// Tensors by name, in the order of `.metadata`, their chunks checked to tile them.
    pub(crate) tensors: IndexMap<String, Whole>,
    /// Objects by name.
    pub(crate) objects: IndexMap<String, Object>,
    /// The keys of nested dicts and lists that lead to an entry, by its name, in the order of the dicts.
    pub(crate) paths: IndexMap<String, Vec<String>>,
    /// Megatron-core: the shape of a whole tensor of which flat ranges were saved.
    pub(crate) unflattened: HashMap<String, Vec<u64>>,
}

/// A tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Whole {
    /// Its element type.
    pub(crate) dtype: DType,
    /// Its shape.
    pub(crate) shape: Vec<u64>,
    /// Its chunks that have elements.
    pub(crate) chunks: Vec<Chunk>,
    /// The torch file that it is, if it is in one piece.
    pub(crate) item: Option<Object>,
}

impl Whole {
    /// Where its elements are.
    pub(crate) fn data(&self) -> Data {
        Data::of_chunks(&self.shape, self.chunks.clone())
    }
}

/// A pickled object in a file of the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Object {
    /// The file.
    pub(crate) path: PathBuf,
    /// First byte.
    pub(crate) offset: u64,
    /// Bytes.
    pub(crate) len: u64,
}

impl Object {
    /// Reads it, as data.
    pub(crate) fn open(&self) -> Result<TorchFile, Problem> {
        TorchFile::open_slice(&self.path, self.offset, self.len).map_err(crate::named::unreadable)
    }
}

impl Sharded {
    /// Reads folders that belong together, most often one: Accelerate keeps model and optimizer in one
    /// each.
    pub(crate) fn read_all(
        roots: &[&Path],
        files: &mut Vec<SourceFile>,
        problems: &mut Vec<Problem>,
    ) -> Option<Sharded> {
        let mut whole: Option<Sharded> = None;
        for root in roots {
            let Some(folder) = Sharded::read(root, files, problems) else { continue };
            match &mut whole {
                Some(first) => first.join(folder, problems),
                None => whole = Some(folder),
            }
        }
        whole
    }

    /// Reads `.metadata` and the headers of all items of a folder. Its files become the inventory's.
    fn read(
        root: &Path,
        files: &mut Vec<SourceFile>,
        problems: &mut Vec<Problem>,
    ) -> Option<Sharded> {
        let path = root.join(METADATA);
        let metadata = match Metadata::read(&path, problems) {
            Ok(metadata) => metadata,
            Err(problem) => {
                problems.push(problem);
                return None;
            }
        };
        let bytes = path.metadata().map_or(0, |metadata| metadata.len());
        files.push(SourceFile { path, bytes, header_bytes: bytes });
        let mut folder = Sharded {
            root: root.to_owned(),
            paths: metadata.paths.clone(),
            unflattened: metadata.unflattened.clone(),
            ..Sharded::default()
        };
        folder.tensors(&metadata, files, problems);
        folder.objects(metadata.objects, problems);
        Some(folder)
    }

    fn tensors(
        &mut self,
        metadata: &Metadata,
        files: &mut Vec<SourceFile>,
        problems: &mut Vec<Problem>,
    ) {
        let mut wanted = Vec::new();
        for (name, listed) in &metadata.tensors {
            for chunk in &listed.chunks {
                let Some(place) = chunk.place.as_ref().filter(|_| !chunk.shape.contains(&0)) else {
                    continue;
                };
                let (offset, len) = (place.offset, place.len);
                let (dtype, shape) = (listed.dtype, chunk.shape.as_slice());
                wanted.push((place.file.as_str(), Wanted { name, dtype, shape, offset, len }));
            }
        }
        let mut holders: HashMap<(FileId, u64), &str> = HashMap::new();
        let mut located = locate(&self.root, &wanted, files, problems).into_iter();
        for (name, listed) in &metadata.tensors {
            let mut chunks = Vec::new();
            let mut dtypes = Vec::new();
            let (mut whole, mut item) = (true, None);
            for chunk in &listed.chunks {
                if chunk.shape.contains(&0) {
                    continue;
                }
                let found = chunk.place.as_ref().and_then(|_| located.next().flatten());
                let Some((file, Found { dtype, offset, strides, torch })) = found else {
                    whole = false;
                    continue;
                };
                if let Some(other) = holders.insert((file, offset), name) {
                    let message = format!("`{name}` and `{other}` lie at the same byte, {offset}");
                    problems.push(Problem::new(path_of(files, file), message).help(
                        "Copy .metadata again: it is damaged, or of another save than the files.",
                    ));
                }
                dtypes.push(dtype);
                let place = chunk.place.as_ref().filter(|_| torch && chunk.shape == listed.shape);
                item = place.map(|place| Object {
                    path: path_of(files, file),
                    offset: place.offset,
                    len: place.len,
                });
                let (offsets, shape) = (chunk.offsets.clone(), chunk.shape.clone());
                chunks.push(Chunk { offsets, shape, file, offset, strides });
            }
            let boxes: Vec<_> =
                listed.chunks.iter().map(|c| (c.offsets.as_slice(), c.shape.as_slice())).collect();
            if let Err(uneven) = grid::check(&listed.shape, &boxes) {
                problems.push(self.uneven(name, &listed.shape, &boxes, uneven));
                continue;
            }
            // What can't be found was told.
            if !whole {
                continue;
            }
            let Some(dtype) = dtypes.first().copied().or(listed.dtype) else { continue };
            if dtypes.iter().any(|other| *other != dtype) {
                let message = format!("the chunks of `{name}` are of different element types");
                problems.push(Problem::new(self.root.join(METADATA), message));
                continue;
            }
            let shape = listed.shape.clone();
            self.tensors.insert(name.clone(), Whole { dtype, shape, chunks, item });
        }
    }

    fn uneven(&self, name: &str, shape: &[u64], chunks: &[grid::Box<'_>], what: Uneven) -> Problem {
        let told = |one: usize| {
            chunks.get(one).map_or(String::new(), |(at, size)| format!("{size:?} at {at:?}"))
        };
        let message = match what {
            Uneven::Outside(one) => {
                format!("a chunk of `{name}`, {}, lies outside of its shape {shape:?}", told(one))
            }
            Uneven::Overlap(one, two) => format!(
                "two chunks of `{name}` overlap: {} and {}; which of them counts is not known",
                told(one),
                told(two)
            ),
            Uneven::Gap(missing) => {
                format!(
                    "`{name}` of shape {shape:?} is not whole: {missing} elements are in no chunk"
                )
            }
            Uneven::Irregular => {
                format!(
                    "the chunks of `{name}` lie too irregularly to check that they do not overlap"
                )
            }
        };
        Problem::new(self.root.join(METADATA), message)
            .help("The save was not finished or is damaged; take another step.")
    }

    fn objects(&mut self, places: IndexMap<String, Place>, problems: &mut Vec<Problem>) {
        for (name, place) in places {
            match super::items::path_in(&self.root, &place.file) {
                Ok(path) => {
                    let object = Object { path, offset: place.offset, len: place.len };
                    self.objects.insert(name, object);
                }
                Err(problem) => problems.push(problem),
            }
        }
    }

    /// Takes in another folder of the same save.
    fn join(&mut self, other: Sharded, problems: &mut Vec<Problem>) {
        let ours =
            |name: &&String| self.tensors.contains_key(*name) || self.objects.contains_key(*name);
        if let Some(name) = other.tensors.keys().chain(other.objects.keys()).find(ours) {
            let message = format!("`{name}` is in {} too", self.root.display());
            problems.push(Problem::new(&other.root, message));
        }
        self.tensors.extend(other.tensors);
        self.objects.extend(other.objects);
        self.paths.extend(other.paths);
        self.unflattened.extend(other.unflattened);
    }

    /// Lets entries that are no tensors of the model or its optimizer go along, and tells of those that can't.
    pub(crate) fn carry<'a>(
        &self,
        names: impl Iterator<Item = &'a str>,
        inventory: &mut Inventory,
    ) {
        let (carried, left) = self.carried(names);
        inventory.carried.extend(carried);
        if !left.is_empty() {
            let all = listed(&left, ", ");
            inventory
                .notes
                .push(format!("Left out, as no tensor of the model or its optimizer: {all}."));
        }
    }

    /// Entries that go along, each as a torch file; and those that can't, as they are in pieces.
    fn carried<'a>(&self, names: impl Iterator<Item = &'a str>) -> (Vec<Carried>, Vec<&'a str>) {
        let (mut carried, mut left): (Vec<Carried>, _) = (Vec::new(), Vec::new());
        let mut taken = HashSet::new();
        for name in names {
            let of_tensor = self.tensors.get(name).and_then(|whole| whole.item.as_ref());
            let Some(object) = self.objects.get(name).or(of_tensor) else {
                left.push(name);
                continue;
            };
            let mut file = file_name(name);
            if !taken.insert(file.to_lowercase()) {
                file = format!("{file}.{}", taken.len());
                taken.insert(file.to_lowercase());
            }
            carried.push(Carried {
                name: format!("{file}.pt"),
                source: object.path.clone(),
                slice: Some((object.offset, object.len)),
                without: Vec::new(),
            });
        }
        (carried, left)
    }

    /// The keys that lead to an entry; its name alone if none are recorded.
    pub(crate) fn keys<'a>(&'a self, name: &'a str) -> Vec<&'a str> {
        match self.paths.get(name) {
            Some(keys) => keys.iter().map(String::as_str).collect(),
            None => vec![name],
        }
    }

    /// A tensor of one element as JSON, read from its file.
    pub(crate) fn scalar(&self, name: &str, files: &[SourceFile]) -> Option<serde_json::Value> {
        let whole = self.tensors.get(name)?;
        let [chunk] = whole.chunks.as_slice() else { return None };
        if chunk.shape.iter().any(|size| *size != 1) {
            return None;
        }
        let path = &files.get(chunk.file as usize)?.path;
        crate::torch::json::number(path, chunk.offset, whole.dtype)
    }
}

/// A name that is safe as a file's.
fn file_name(name: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let text: String = name.chars().take(150).map(safe).collect();
    format!("{}{text}", if text.starts_with('.') || text.is_empty() { "_" } else { "" })
}

fn path_of(files: &[SourceFile], file: FileId) -> PathBuf {
    files.get(file as usize).map(|file| file.path.clone()).unwrap_or_default()
}
