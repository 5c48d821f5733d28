//! The items of `.distcp` files: where the elements of each chunk lie.
//!
//! An item is a whole file of `torch.save` at an offset. Where a file was written as safetensors, its
//! tensors are one safetensors file behind the objects, and the length of an item is that of its data.

use super::metadata::{METADATA, Metadata, Place};
use crate::inventory::{FileId, Problem, SourceFile};
use crate::safetensors::{Header, read_header_at};
use crate::torch::TorchFile;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};
use std::thread;
use ucl_tensor::DType;

/// A chunk that is wanted: the tensor's name, what is listed of it, and where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    /// The name of the tensor.
    pub(super) name: &'a str,
    /// The listed element type.
    pub(super) dtype: Option<DType>,
    /// The listed extents.
    pub(super) shape: &'a [u64],
    /// The slice of the file.
    pub(super) offset: u64,
    /// Its length in bytes.
    pub(super) len: u64,
}

/// Where the elements of a chunk lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Element type.
    pub(super) dtype: DType,
    /// Byte of the first element in the file.
    pub(super) offset: u64,
    /// Elements from one index to the next, per dim.
    pub(super) strides: Vec<i64>,
    /// Whether the item is a torch file by itself.
    pub(super) torch: bool,
}

/// What the items of one file are.
#[derive(Debug)]
struct Opened {
    source: SourceFile,
    found: Vec<(usize, Found)>,
    problems: Vec<Problem>,
}

/// Files are read on a few threads: they wait for the disk.
const THREADS: usize = 8;

/// How many wrong chunks of a file are told one by one.
const TOLD: usize = 4;

/// With fewer items than this one thread is quick enough.
const MANY: usize = 256;

/// Looks up chunks in their files, each opened once and read in order. Gives, per chunk, its file and
/// where it lies, and `None` for one that is wrong; `files` become those of the inventory.
pub(super) fn locate(
    root: &Path,
    wanted: &[(&str, Wanted<'_>)],
    files: &mut Vec<SourceFile>,
    problems: &mut Vec<Problem>,
) -> Vec<Option<(FileId, Found)>> {
    let mut by_file: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, (file, _)) in wanted.iter().enumerate() {
        by_file.entry(file).or_default().push(index);
    }
    let mut jobs: Vec<(PathBuf, Vec<usize>)> = Vec::new();
    for (file, mut items) in by_file {
        match path_in(root, file) {
            Ok(path) => {
                items.sort_by_key(|item| wanted[*item].1.offset);
                jobs.push((path, items));
            }
            Err(problem) => problems.push(problem),
        }
    }
    let open = |(path, items): &(PathBuf, Vec<usize>)| file(path, items, wanted);
    let opened: Vec<_> = if wanted.len() < MANY || jobs.len() < 2 {
        jobs.iter().map(open).collect()
    } else {
        let part = jobs.len().div_ceil(THREADS);
        thread::scope(|scope| {
            let parts: Vec<_> = jobs
                .chunks(part)
                .map(|part| scope.spawn(move || part.iter().map(open).collect::<Vec<_>>()))
                .collect();
            let join = |part: thread::ScopedJoinHandle<'_, Vec<_>>| {
                part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            parts.into_iter().flat_map(join).collect()
        })
    };
    let mut located = vec![None; wanted.len()];
    for result in opened {
        match result {
            Ok(opened) => {
                let id = files.len() as FileId;
                files.push(opened.source);
                problems.extend(opened.problems);
                for (index, found) in opened.found {
                    located[index] = Some((id, found));
                }
            }
            Err(problem) => problems.push(problem),
        }
    }
    located
}

/// The path of a file that `.metadata` names; it stays in the folder.
pub(super) fn path_in(root: &Path, name: &str) -> Result<PathBuf, Problem> {
    let inside = |part| matches!(part, Component::Normal(_));
    let path = Path::new(name);
    if name.contains('\0') || name.is_empty() || !path.components().all(inside) {
        let message =
            format!("it says that data lies in {name:?}, which is outside of this folder");
        return Err(Problem::new(root.join(METADATA), message)
            .help("A checkpoint keeps its files in its own folder; where is this one from?"));
    }
    Ok(root.join(path))
}

/// The items of one file.
fn file(path: &Path, items: &[usize], wanted: &[(&str, Wanted<'_>)]) -> Result<Opened, Problem> {
    let missing = |error: std::io::Error| {
        let message = match error.kind() {
            std::io::ErrorKind::NotFound => {
                format!("it is missing; .metadata says that chunks lie in it: {}", items.len())
            }
            _ => format!("it can't be read: {error}"),
        };
        Problem::new(path, message).help("Bring the files of all ranks into one folder.")
    };
    if !std::fs::metadata(path).map_err(missing)?.is_file() {
        return Err(Problem::new(path, "it is no regular file"));
    }
    let file = File::open(path).map_err(missing)?;
    let bytes = file.metadata().map_err(missing)?.len();
    let mut reader = Items { path, file, bytes, header_bytes: 0, blocks: HashMap::new() };
    let (mut found, mut problems, mut wrong) = (Vec::with_capacity(items.len()), Vec::new(), 0);
    let mut tell = |message: String| {
        problems.push(
            Problem::new(path, message)
                .help("The file is cut short or of another save: copy the folder again."),
        );
    };
    for index in items {
        let (_, item) = &wanted[*index];
        match reader.item(item) {
            Ok(place) => found.push((*index, place)),
            Err(message) => {
                wrong += 1;
                if wrong <= TOLD {
                    let (name, at) = (item.name, item.offset);
                    tell(format!("the chunk of `{name}` at byte {at}: {message}"));
                }
            }
        }
    }
    if wrong > TOLD {
        tell(format!("so are chunks after these, {} in all", wrong - TOLD));
    }
    let source = SourceFile { path: path.to_owned(), bytes, header_bytes: reader.header_bytes };
    Ok(Opened { source, found, problems })
}

/// The tensors of a safetensors file: type, shape, and where they begin.
type Block = HashMap<String, (DType, Vec<u64>, u64)>;

/// A file whose items are looked at.
struct Items<'a> {
    path: &'a Path,
    file: File,
    bytes: u64,
    header_bytes: u64,
    /// Safetensors by where they begin.
    blocks: HashMap<u64, Block>,
}

impl Items<'_> {
    fn item(&mut self, item: &Wanted<'_>) -> Result<Found, String> {
        let mut start = [0; 2];
        let zipped = match self.file.read_exact_at(&mut start, item.offset) {
            Ok(()) => start == *b"PK",
            Err(_) => true,
        };
        let (dtype, shape, offset, strides) =
            if zipped { self.torch(item)? } else { self.safetensors(item)? };
        if shape != item.shape {
            return Err(format!("its shape is {shape:?}, .metadata says {:?}", item.shape));
        }
        if item.dtype.is_some_and(|listed| listed != dtype) {
            let listed = item.dtype.map_or("", DType::name);
            return Err(format!("its elements are {}, .metadata says {listed}", dtype.name()));
        }
        Ok(Found { dtype, offset, strides, torch: zipped })
    }

    fn torch(&mut self, item: &Wanted<'_>) -> Result<(DType, Vec<u64>, u64, Vec<i64>), String> {
        let torch =
            TorchFile::open_slice_of(&self.file, (self.path, self.bytes), item.offset, item.len)
                .map_err(|error| error.kind.to_string())?;
        self.header_bytes += torch.header_bytes_read;
        let root = torch.value.root();
        let tensor =
            root.as_tensor().ok_or_else(|| format!("it holds {}, not a tensor", root.kind()))?;
        let extent = torch.extent(tensor).map_err(|error| error.kind.to_string())?;
        Ok((extent.dtype, extent.shape, extent.file_offset, extent.strides))
    }

    fn safetensors(
        &mut self,
        item: &Wanted<'_>,
    ) -> Result<(DType, Vec<u64>, u64, Vec<i64>), String> {
        if !self.blocks.contains_key(&item.offset) {
            let header =
                read_header_at(self.path, item.offset).map_err(|problem| problem.message)?;
            self.header_bytes += header.data - item.offset;
            self.blocks.insert(item.offset, by_name(header));
        }
        let block = self.blocks.get(&item.offset);
        let (dtype, shape, offset) = block
            .and_then(|block| block.get(item.name))
            .ok_or_else(|| "the safetensors there have no tensor of that name".to_owned())?;
        Ok((*dtype, shape.clone(), *offset, crate::inventory::row_major(shape)))
    }
}

fn by_name(header: Header) -> HashMap<String, (DType, Vec<u64>, u64)> {
    let entry = |tensor: crate::safetensors::Tensor| {
        (tensor.name, (tensor.dtype, tensor.shape, tensor.offset))
    };
    header.tensors.into_iter().map(entry).collect()
}

/// The items of a `.distcp` file that are torch files by themselves, as `.metadata` beside it lists
/// them: where they begin and how long they are. That itself has none; other files are none of these.
pub(crate) fn items_of(path: &Path) -> Option<Result<Vec<(u64, u64)>, Problem>> {
    let name = path.file_name()?.to_str()?;
    if name == METADATA {
        return Some(Ok(Vec::new()));
    }
    if !name.ends_with(".distcp") {
        return None;
    }
    let list = || {
        let metadata = Metadata::read(&path.with_file_name(METADATA), &mut Vec::new())?;
        let chunks = metadata.tensors.values().flat_map(|listed| &listed.chunks);
        let places = chunks.filter_map(|chunk| chunk.place.as_ref());
        let places = places.chain(metadata.objects.values()).filter(|place| place.file == name);
        let unread = |error| Problem::new(path, format!("it can't be read: {error}"));
        let file = File::open(path).map_err(unread)?;
        let zipped = |place: &&Place| {
            let mut start = [0; 2];
            file.read_exact_at(&mut start, place.offset).is_err() || start == *b"PK"
        };
        Ok(places.filter(zipped).map(|place| (place.offset, place.len)).collect())
    };
    Some(list())
}
