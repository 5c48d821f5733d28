//! `.metadata`: which tensors were saved, in which chunks, and where each chunk lies.
//!
//! A pickle of `torch.distributed.checkpoint.metadata.Metadata` (Megatron-core's `MCoreMetadata` is one
//! with more attributes). The properties of a tensor moved from `sharded_tensor.metadata` to
//! `checkpoint.metadata` in torch 2.3; their first item is the element type in both.

use crate::inventory::Problem;
use crate::torch::limits::MAX_PICKLE_BYTES;
use crate::torch::{Pickle, Value};
use indexmap::IndexMap;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use ucl_tensor::DType;

/// What a rank wrote last, so that it is there only if the save was finished.
pub(super) const METADATA: &str = ".metadata";

/// What `.metadata` says.
#[derive(Clone, Debug, Default)]
pub(super) struct Metadata {
    /// Saved tensors by name, in order.
    pub(super) tensors: IndexMap<String, Listed>,
    /// Saved objects by name, in order.
    pub(super) objects: IndexMap<String, Place>,
    /// The keys of nested dicts and lists that lead to an entry, by its name, in the order of the dicts.
    pub(super) paths: IndexMap<String, Vec<String>>,
    /// Megatron-core: the shape of a whole tensor of which flat ranges were saved.
    pub(super) unflattened: HashMap<String, Vec<u64>>,
}

/// A tensor as it is listed.
#[derive(Clone, Debug, Default)]
pub(super) struct Listed {
    /// Its element type; `None` for one that has no name here.
    pub(super) dtype: Option<DType>,
    /// Its whole shape.
    pub(super) shape: Vec<u64>,
    /// The chunks that it was saved in.
    pub(super) chunks: Vec<ListedChunk>,
}

/// A chunk of a tensor as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ListedChunk {
    /// Its first element, per dim.
    pub(super) offsets: Vec<u64>,
    /// Its extents.
    pub(super) shape: Vec<u64>,
    /// Where it lies; `None` for one without elements that was not written.
    pub(super) place: Option<Place>,
}

/// A slice of a file of the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The file's path relative to the folder.
    pub(super) file: String,
    /// First byte.
    pub(super) offset: u64,
    /// Bytes.
    pub(super) len: u64,
}

impl Metadata {
    /// Reads a `.metadata` file. What is wrong with single entries goes to `problems`.
    pub(super) fn read(path: &Path, problems: &mut Vec<Problem>) -> Result<Metadata, Problem> {
        let unread =
            |error: std::io::Error| Problem::new(path, format!("it can't be read: {error}"));
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(MAX_PICKLE_BYTES + 1).read_to_end(&mut bytes))
            .map_err(unread)?;
        if bytes.len() as u64 > MAX_PICKLE_BYTES {
            let message =
                format!("it has more than {MAX_PICKLE_BYTES} bytes; at most so many are read");
            return Err(Problem::new(path, message));
        }
        let pickle = Pickle::parse(&bytes).map_err(|error| {
            Problem::new(path, format!("it is not a pickle that can be read: {error}"))
                .help(DAMAGED)
        })?;
        let mut reader =
            Reader { path, out: Metadata::default(), problems, refused: HashSet::new() };
        reader.run(pickle.root())?;
        Ok(reader.out)
    }
}

/// What to do about a damaged `.metadata`.
const DAMAGED: &str =
    "Copy it again from where it was written; without it nothing says which bytes are which.";

struct Reader<'a> {
    path: &'a Path,
    out: Metadata,
    problems: &'a mut Vec<Problem>,
    /// Entries with a place that was told to be wrong.
    refused: HashSet<String>,
}

/// Places of an entry by the offsets of the chunk; objects have none.
type Places = HashMap<Option<Vec<u64>>, Place>;

impl Reader<'_> {
    fn run(&mut self, root: Value<'_>) -> Result<(), Problem> {
        let wrong = |what: &str| Problem::new(self.path, what.to_owned()).help(DAMAGED);
        let listed = root.attr("state_dict_metadata").filter(|listed| listed.as_dict().is_some());
        let listed = listed.ok_or_else(|| {
            wrong("it is a pickle, but not of a distributed checkpoint: it has no `state_dict_metadata`")
        })?;
        let stored = root.attr("storage_data").filter(|stored| stored.as_dict().is_some());
        let stored =
            stored.ok_or_else(|| wrong("it has no `storage_data`, which says where chunks lie"))?;
        let mut places = self.places(stored);
        for (name, entry) in listed.pairs().into_iter().flatten() {
            let Some(name) = name.as_str() else {
                self.wrong(format!("`state_dict_metadata` has {} for a name", name.kind()));
                continue;
            };
            let mut own = places.remove(name).unwrap_or_default();
            if class(entry) == "BytesStorageMetadata" {
                self.object(name, &mut own);
            } else {
                self.tensor(name, entry, &mut own);
            }
            if let Some(offsets) = own.into_keys().min() {
                let at = offsets.map_or("no offsets".to_owned(), |at| format!("offsets {at:?}"));
                self.wrong(format!(
                    "`storage_data` places a chunk of `{name}` at {at}, which is not listed"
                ));
            }
        }
        let mut unlisted: Vec<_> = places.into_keys().collect();
        unlisted.sort_unstable();
        for name in unlisted {
            self.wrong(format!("`storage_data` places `{name}`, which is not listed"));
        }
        self.paths(root);
        self.megatron(root);
        Ok(())
    }

    fn wrong(&mut self, message: String) {
        self.problems.push(Problem::new(self.path, message).help(DAMAGED));
    }

    /// `storage_data` by name and offsets.
    fn places(&mut self, stored: Value<'_>) -> HashMap<String, Places> {
        let mut places: HashMap<String, Places> = HashMap::new();
        for (key, info) in stored.pairs().into_iter().flatten() {
            let Some(name) = key.attr("fqn").and_then(Value::as_str) else {
                self.wrong(format!(
                    "`storage_data` has {} for a key, not a MetadataIndex",
                    key.kind()
                ));
                continue;
            };
            // Attributes that are None are left out.
            let offsets = key.attr("offset").filter(|offset| !offset.is_none());
            let at = offsets.and_then(Value::as_shape);
            if offsets.is_some() && at.is_none() {
                self.wrong(format!(
                    "`storage_data` has an offset of `{name}` that is no list of sizes"
                ));
                continue;
            }
            let Some(place) = self.place(name, info) else {
                self.refused.insert(name.to_owned());
                continue;
            };
            if places.entry(name.to_owned()).or_default().insert(at, place).is_some() {
                self.wrong(format!("`storage_data` places the same chunk of `{name}` twice"));
            }
        }
        places
    }

    fn place(&mut self, name: &str, info: Value<'_>) -> Option<Place> {
        let transforms = info.attr("transform_descriptors").and_then(Value::items);
        if let Some(transforms) = transforms.filter(|all| all.len() > 0) {
            let names: Vec<_> =
                transforms.map(|name| name.as_str().unwrap_or("?").to_owned()).collect();
            self.problems.push(
                Problem::new(
                    self.path,
                    format!(
                        "`{name}` was written through {}; this version reads what is stored as it is",
                        names.join(", ")
                    ),
                )
                .help("Load it with torch.distributed.checkpoint and save it without `_extensions`."),
            );
            return None;
        }
        let file = info.attr("relative_path").and_then(Value::as_str);
        let offset = info.attr("offset").and_then(Value::as_u64);
        let len = info.attr("length").and_then(Value::as_u64);
        let (Some(file), Some(offset), Some(len)) = (file, offset, len) else {
            self.wrong(format!(
                "`storage_data` does not say where `{name}` lies: {} instead of a _StorageInfo with a path, an offset and a length",
                info.kind()
            ));
            return None;
        };
        Some(Place { file: file.to_owned(), offset, len })
    }

    fn object(&mut self, name: &str, own: &mut Places) {
        match own.remove(&None) {
            Some(place) => drop(self.out.objects.insert(name.to_owned(), place)),
            None => self.wrong(format!("`storage_data` does not place the object `{name}`")),
        }
    }

    fn tensor(&mut self, name: &str, entry: Value<'_>, own: &mut Places) {
        let shape = entry.attr("size").and_then(Value::as_shape);
        let chunks = entry.attr("chunks").and_then(Value::items);
        let (Some(shape), Some(chunks)) = (shape, chunks) else {
            self.wrong(format!(
                "`{name}` is {}, not a tensor with a size and chunks",
                described(entry)
            ));
            return;
        };
        let mut listed =
            Listed { dtype: dtype(entry), shape, chunks: Vec::with_capacity(chunks.len()) };
        let mut lost = Vec::new();
        for chunk in chunks {
            let offsets = chunk.attr("offsets").and_then(Value::as_shape);
            let shape = chunk.attr("sizes").and_then(Value::as_shape);
            let (Some(offsets), Some(shape)) = (offsets, shape) else {
                self.wrong(format!(
                    "`{name}` has {} for a chunk, without offsets and sizes",
                    chunk.kind()
                ));
                continue;
            };
            let place = own.remove(&Some(offsets.clone()));
            if place.is_none() && !shape.contains(&0) && !self.refused.contains(name) {
                lost.push(format!("{offsets:?}"));
            }
            listed.chunks.push(ListedChunk { offsets, shape, place });
        }
        if !lost.is_empty() {
            self.wrong(format!(
                "`storage_data` does not say where chunks of `{name}` lie: those at {}",
                crate::listed::listed(&lost, ", ")
            ));
        }
        self.out.tensors.insert(name.to_owned(), listed);
    }

    /// `planner_data`: name to the keys that lead there. Megatron's keys are flat, so it has none.
    fn paths(&mut self, root: Value<'_>) {
        let pairs = root.attr("planner_data").and_then(Value::pairs);
        for (name, path) in pairs.into_iter().flatten() {
            let Some(name) = name.as_str() else { continue };
            let key = |key: Value<'_>| match key.as_str() {
                Some(text) => Some(text.to_owned()),
                None => key.as_i64().map(|number| number.to_string()),
            };
            let keys: Option<Vec<String>> = path.items().and_then(|keys| keys.map(key).collect());
            if let Some(keys) = keys {
                self.out.paths.insert(name.to_owned(), keys);
            }
        }
    }

    fn megatron(&mut self, root: Value<'_>) {
        let pairs = root.attr("mcore_data").and_then(Value::pairs);
        for (name, data) in pairs.into_iter().flatten() {
            let shape = data.get("nd_reformulated_orig_global_shape").and_then(Value::as_shape);
            if let (Some(name), Some(shape)) = (name.as_str(), shape) {
                self.out.unflattened.insert(name.to_owned(), shape);
            }
        }
    }
}

fn class<'a>(value: Value<'a>) -> &'a str {
    value.class().map_or("", |class| &*class.name)
}

fn described(value: Value<'_>) -> String {
    match class(value) {
        "" => value.kind().to_owned(),
        name => format!("a {name}"),
    }
}

/// The first item of the properties' state, or its attribute in versions that pickle attributes.
fn dtype(entry: Value<'_>) -> Option<DType> {
    let properties = entry.attr("properties")?;
    let first = properties.state().and_then(|state| state.as_tuple()?.next());
    first.and_then(Value::as_dtype).or_else(|| properties.attr("dtype")?.as_dtype())
}
