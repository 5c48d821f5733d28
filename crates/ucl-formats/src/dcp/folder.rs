//! One folder of a distributed checkpoint: whole tensors in chunks, and objects.

use super::grid::{self, Uneven};
use super::items::{Found, Wanted, locate};
use super::metadata::{METADATA, Metadata, Place};
use crate::inventory::{Chunk, Data, FileId, Problem, SourceFile};
use crate::torch::TorchFile;
use indexmap::IndexMap;
use std::collections::HashMap;
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
    /// The keys of nested dicts and lists that lead to an entry, by its name.
    pub(crate) paths: HashMap<String, Vec<String>>,
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
}

impl Whole {
    /// Where its elements are.
    pub(crate) fn data(&self) -> Data {
        match self.chunks.as_slice() {
            [one] if one.shape == self.shape => Data::Strided {
                file: one.file,
                offset: one.offset,
                strides: one.strides.clone(),
            },
            chunks => Data::Boxes(chunks.to_vec()),
        }
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
        TorchFile::open_slice(&self.path, self.offset, self.len)
            .map_err(crate::named::unreadable)
    }
}

impl Sharded {
    /// Reads `.metadata` and the headers of all items of a folder. Its files become the inventory's.
    pub(crate) fn read(
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
        let mut located = locate(&self.root, &wanted, files, problems).into_iter();
        for (name, listed) in &metadata.tensors {
            let mut chunks = Vec::new();
            let mut dtypes = Vec::new();
            let mut whole = true;
            for chunk in &listed.chunks {
                if chunk.shape.contains(&0) {
                    continue;
                }
                let found = chunk.place.as_ref().and_then(|_| located.next().flatten());
                let Some((file, Found { dtype, offset, strides })) = found else {
                    whole = false;
                    continue;
                };
                dtypes.push(dtype);
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
            self.tensors.insert(name.clone(), Whole { dtype, shape: listed.shape.clone(), chunks });
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
                format!("`{name}` of shape {shape:?} is not whole: {missing} elements are in no chunk")
            }
            Uneven::Irregular => {
                format!("the chunks of `{name}` lie too irregularly to check that they do not overlap")
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
        crate::deepspeed::plain::number(path, chunk.offset, whole.dtype)
    }
}

/// For messages about a file of the inventory.
pub(crate) fn path_of(files: &[SourceFile], file: FileId) -> PathBuf {
    files.get(file as usize).map(|file| file.path.clone()).unwrap_or_default()
}
