//! Opening a torch file: what form it has, and what it holds.

use std::fs::File;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;

use super::error::{TorchError, TorchErrorKind};
use super::extent::{self, StorageExtent, TensorExtent};
use super::node::Tensor;
use super::pickle::Pickle;
use super::source::Source;
use super::zip::Parts;
use super::{legacy, zip};

/// A file written by `torch.save`, opened: its pickle, and where its storages lie.
///
/// Storages are not read. Offsets are from the start of the file, also if the torch file is only a
/// slice of it.
#[derive(Clone, Debug)]
pub struct TorchFile {
    /// The file.
    pub path: PathBuf,
    /// What was saved.
    pub value: Pickle,
    /// Storages by key, in file order.
    pub storages: IndexMap<String, StorageExtent>,
    /// What the file was called when it was saved, without its ending, as torch writes it into the
    /// zip: `archive` if it was saved to a stream. The old form does not say.
    pub saved_as: Option<String>,
    /// Bytes read to open it.
    pub header_bytes_read: u64,
}

impl TorchFile {
    /// Opens a file. Its form is told from its bytes, not from its name.
    ///
    /// # Errors
    /// If it cannot be read, is no torch file, or is damaged outside its storages.
    pub fn open(path: &Path) -> Result<TorchFile, TorchError> {
        TorchFile::read(path, Source::open(path, None))
    }

    /// Opens a torch file that is a slice of a file: an entry of a `.distcp` file.
    ///
    /// # Errors
    /// As [`TorchFile::open`], or if the slice leaves the file.
    pub fn open_slice(path: &Path, offset: u64, len: u64) -> Result<TorchFile, TorchError> {
        TorchFile::read(path, Source::open(path, Some((offset, len))))
    }

    /// As [`TorchFile::open_slice`], of a file of `file_len` bytes that is open: one of many slices.
    ///
    /// # Errors
    /// As [`TorchFile::open_slice`].
    pub fn open_slice_of(
        file: &File,
        (path, file_len): (&Path, u64),
        offset: u64,
        len: u64,
    ) -> Result<TorchFile, TorchError> {
        TorchFile::read(path, Source::of(file, file_len, offset, len))
    }

    /// Opens a torch file in memory. The path is for messages only.
    ///
    /// # Errors
    /// As [`TorchFile::open`].
    pub fn from_bytes(path: &Path, bytes: &[u8]) -> Result<TorchFile, TorchError> {
        TorchFile::read(path, Ok(Source::bytes(bytes)))
    }

    /// Where the elements of a tensor lie in the file.
    ///
    /// # Errors
    /// If its storage is missing or of another length than the pickle says, if an element would lie
    /// outside, if a stride is negative, or if the type is one without a [`ucl_tensor::DType`].
    pub fn extent(&self, tensor: &Tensor) -> Result<TensorExtent, TorchError> {
        extent::resolve(tensor, &self.storages).map_err(|problem| {
            let key = tensor.storage.key.to_string();
            at(&self.path)(TorchErrorKind::Tensor { key, problem })
        })
    }

    fn read(
        path: &Path,
        source: Result<Source<'_>, TorchErrorKind>,
    ) -> Result<TorchFile, TorchError> {
        let source = source.map_err(at(path))?;
        let Parts { value, storages, saved_as } = sniff(&source).map_err(at(path))?;
        let header_bytes_read = source.bytes_read();
        Ok(TorchFile { path: path.to_owned(), value, storages, saved_as, header_bytes_read })
    }
}

fn at(path: &Path) -> impl Fn(TorchErrorKind) -> TorchError {
    move |kind| TorchError { path: path.to_owned(), kind: Box::new(kind) }
}

/// Bytes of the start that tell the forms apart; `ustar` is the last of them.
const START: u64 = 262;
/// Where a tar has its magic.
const TAR_MAGIC: usize = 257;

fn sniff(source: &Source<'_>) -> Result<Parts, TorchErrorKind> {
    let start = source.read(0, START.min(source.len()))?;
    if start.is_empty() {
        return Err(TorchErrorKind::Empty);
    }
    if start.starts_with(b"PK\x03\x04") {
        return zip::read(source);
    }
    if start.get(TAR_MAGIC..).is_some_and(|magic| magic == b"ustar") {
        return Err(TorchErrorKind::Tar);
    }
    let head = &start[..start.len().min(32)];
    if head.windows(legacy::MAGIC.len()).any(|window| window == legacy::MAGIC) {
        return legacy::read(source);
    }
    // PROTO 2 to 5.
    if matches!(head, [0x80, 2..=5, ..]) {
        return Err(TorchErrorKind::PlainPickle);
    }
    Err(TorchErrorKind::NotTorch { start: head[..head.len().min(8)].to_vec() })
}
