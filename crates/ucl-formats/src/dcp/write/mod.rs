//! Lays out a sharded save before any value is known: `.distcp` files of items, and their `.metadata`.
//!
//! What PyTorch's own saves (DCP) and Megatron-core's `torch_dist` share. An item is a whole torch file
//! with the root folder `archive`, as `torch.save` into a stream writes it.

mod fsdp;
mod metadata;
mod rows;

use super::metadata::{METADATA, Place};
use crate::target::{Buffer, Draft, RunFile, Seal, WriteError};
use indexmap::IndexMap;
use serde_json::Value as Json;
use ucl_tensor::DType;

pub(crate) use fsdp::lay_out;
pub(crate) use rows::{chunked, rows};

/// The root folder of an item's zip.
const ITEM: &str = "archive";

/// A sharded save in the making.
#[derive(Default)]
pub(crate) struct Save {
    files: Vec<(RunFile, Seal)>,
    entries: IndexMap<String, Entry>,
    /// The keys of nested dicts and lists that lead to an entry, by its name.
    paths: IndexMap<String, Vec<Json>>,
}

/// What `.metadata` lists.
enum Entry {
    Tensor { dtype: DType, shape: Vec<u64>, chunks: Vec<Piece> },
    Object(Place),
}

/// A chunk of a tensor.
struct Piece {
    offsets: Vec<u64>,
    shape: Vec<u64>,
    place: Place,
}

impl Save {
    /// Adds a file by its path in the folder, `__0_0.distcp`; gives its number.
    pub(crate) fn file(&mut self, path: impl Into<String>) -> usize {
        let file =
            RunFile { path: path.into(), len: 0, fixed: vec![], buffers: vec![], seal: None };
        self.files.push((file, Seal::default()));
        self.files.len() - 1
    }

    /// The file with the fewest bytes so far, the first of these. There has to be one.
    pub(crate) fn emptiest(&self) -> usize {
        let sizes = self.files.iter().map(|(file, _)| file.len).enumerate();
        sizes.min_by_key(|(_, len)| *len).map_or(0, |(number, _)| number)
    }

    /// Lists a tensor by its whole shape; its chunks follow and have to tile it.
    pub(crate) fn tensor(&mut self, name: &str, dtype: DType, shape: &[u64]) {
        let entry = Entry::Tensor { dtype, shape: shape.to_vec(), chunks: Vec::new() };
        self.entries.insert(name.to_owned(), entry);
    }

    /// Adds a chunk of a listed tensor to a file; `offsets` say where in the tensor the buffer begins.
    pub(crate) fn chunk(
        &mut self,
        name: &str,
        file: usize,
        offsets: Vec<u64>,
        buffer: Buffer,
    ) -> Result<(), WriteError> {
        let mut draft = Draft::default();
        let shape = buffer.shape.clone();
        let root = draft.tensor(buffer)?;
        draft.pickle.set_root(root);
        self.piece(name, file, offsets, shape, draft)
    }

    /// Adds a tensor of bytes that are known, whole: a step.
    pub(crate) fn known(
        &mut self,
        name: &str,
        file: usize,
        (dtype, shape): (DType, &[u64]),
        bytes: Vec<u8>,
    ) -> Result<(), WriteError> {
        self.tensor(name, dtype, shape);
        let mut draft = Draft::default();
        let root = draft.known(dtype, shape, bytes)?;
        draft.pickle.set_root(root);
        self.piece(name, file, vec![0; shape.len()], shape.to_vec(), draft)
    }

    fn piece(
        &mut self,
        name: &str,
        file: usize,
        offsets: Vec<u64>,
        shape: Vec<u64>,
        draft: Draft,
    ) -> Result<(), WriteError> {
        let place = self.item(file, draft)?;
        if let Some(Entry::Tensor { chunks, .. }) = self.entries.get_mut(name) {
            chunks.push(Piece { offsets, shape, place });
        }
        Ok(())
    }

    /// Adds an object, which is the root of the draft, to a file.
    pub(crate) fn object(
        &mut self,
        name: &str,
        file: usize,
        draft: Draft,
    ) -> Result<(), WriteError> {
        let place = self.item(file, draft)?;
        self.entries.insert(name.to_owned(), Entry::Object(place));
        Ok(())
    }

    /// Says which keys of nested dicts (texts) and lists (numbers) lead to an entry. Where no entry has
    /// any, none are recorded, as Megatron-core does.
    pub(crate) fn lead(&mut self, name: &str, keys: Vec<Json>) {
        self.paths.insert(name.to_owned(), keys);
    }

    fn item(&mut self, file: usize, draft: Draft) -> Result<Place, WriteError> {
        let (file, seal) = &mut self.files[file];
        let offset = draft.append(ITEM, file, seal)?;
        Ok(Place { file: file.path.clone(), offset, len: file.len - offset })
    }

    /// All files: those with items in them, and `.metadata`, in a folder (`""` for the root).
    pub(crate) fn finish(self, folder: &str) -> Result<Vec<RunFile>, WriteError> {
        let metadata = metadata::bytes(&self.entries, &self.paths)?;
        let path = |name: &str| match folder {
            "" => name.to_owned(),
            folder => format!("{folder}/{name}"),
        };
        let files = self.files.into_iter().filter(|(file, _)| file.len > 0);
        let mut files: Vec<RunFile> = files
            .map(|(mut file, seal)| {
                file.path = path(&file.path);
                file.close(seal);
                file
            })
            .collect();
        files.push(RunFile::text(path(METADATA), metadata));
        Ok(files)
    }
}
