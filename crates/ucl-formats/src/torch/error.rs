//! What can be wrong with a torch file.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// A torch file that could not be read: which file, and why.
#[derive(Debug, Error)]
#[error("{}: {kind}", path.display())]
pub struct TorchError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub kind: Box<TorchErrorKind>,
}

/// One variant per kind of damage. Offsets are bytes from the start of the file.
#[derive(Debug, Error)]
pub enum TorchErrorKind {
    /// The operating system refused.
    #[error("cannot read: {0}")]
    Io(#[from] io::Error),
    /// A folder, pipe or device.
    #[error("not a regular file")]
    NotAFile,
    /// No bytes at all: a save that was cut short.
    #[error("the file is empty")]
    Empty,
    /// The first bytes belong to no torch format.
    #[error("not a file written by torch.save: it starts with {start:02x?}")]
    NotTorch {
        /// The first bytes.
        start: Vec<u8>,
    },
    /// A pickle, but without the numbers torch puts in front.
    #[error(
        "a plain pickle, not a file written by torch.save; \
         read it as a pickle if it is a `.metadata` file"
    )]
    PlainPickle,
    /// The form torch 0.1 wrote.
    #[error("a tar archive as torch 0.1 wrote it; load and save it with a newer torch")]
    Tar,
    /// The slice asked for leaves the file.
    #[error("bytes {offset}..+{len} lie outside a file of {file_len} bytes")]
    OutsideFile {
        /// First byte asked for.
        offset: u64,
        /// Bytes asked for.
        len: u64,
        /// Bytes there are.
        file_len: u64,
    },
    /// The zip directory is missing or wrong: a truncated file, most often.
    #[error("the zip directory cannot be read ({0}); the file is damaged or incomplete")]
    Directory(rawzip::Error),
    /// The zip directory contradicts itself or the file.
    #[error("the zip directory is wrong: {what}; the file is damaged or incomplete")]
    DirectoryWrong {
        /// What does not fit.
        what: &'static str,
    },
    /// Something is wrong with one member of the zip.
    #[error("zip member {entry:?} {problem}")]
    Entry {
        /// Its name.
        entry: String,
        /// What is wrong with it.
        problem: EntryProblem,
    },
    /// No `*/data.pkl`.
    #[error("a zip without a */data.pkl: not written by torch.save")]
    NoPickle,
    /// Two or more `*/data.pkl`.
    #[error("a zip with more than one data.pkl: {first:?} and {second:?}")]
    TwoPickles {
        /// The first.
        first: String,
        /// The second.
        second: String,
    },
    /// `byteorder` is not `little`, or sys_info says so.
    #[error("written on a big-endian machine ({0:?}); only little-endian files are read")]
    ByteOrder(String),
    /// The pickle inside is damaged or refused.
    #[error("{entry}: {error}")]
    Pickle {
        /// The member, or the part of a legacy file.
        entry: String,
        /// What is wrong, and where in that member.
        error: PickleError,
    },
    /// The list of storages at the end of a legacy file does not fit its pickle.
    #[error("legacy torch file, storage {key:?}: {what}")]
    Legacy {
        /// The key.
        key: String,
        /// What does not fit.
        what: &'static str,
    },
    /// A tensor does not fit its storage.
    #[error("tensor in storage {key:?}: {problem}")]
    Tensor {
        /// The key of the storage.
        key: String,
        /// What is wrong.
        problem: TensorProblem,
    },
}

/// What can be wrong with a zip member.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum EntryProblem {
    /// Compressed; torch stores.
    #[error("is compressed (method {0}); torch stores members uncompressed")]
    Compressed(u16),
    /// Encrypted.
    #[error("is encrypted")]
    Encrypted,
    /// Twice in the directory.
    #[error("is in the directory twice")]
    Duplicate,
    /// The name is not UTF-8.
    #[error("has a name that is not UTF-8")]
    Name,
    /// The local header has another name, method or size.
    #[error("has a local header that disagrees with the directory: {0}")]
    Local(&'static str),
    /// Outside the file.
    #[error("lies outside the file")]
    Outside,
    /// Shares bytes with another.
    #[error("overlaps {0:?}")]
    Overlap(String),
    /// Too large for what it is.
    #[error("has {len} bytes; at most {limit} are read")]
    TooLong {
        /// Bytes.
        len: u64,
        /// Limit.
        limit: u64,
    },
    /// The bytes are not those that were written.
    #[error("is damaged: CRC-32 is {actual:08x}, the directory says {expected:08x}")]
    Crc {
        /// In the directory.
        expected: u32,
        /// Of the bytes.
        actual: u32,
    },
}

/// A pickle that could not be read.
#[derive(Debug, Error)]
#[error("{kind} (opcode {op} at byte {offset} of the pickle)")]
pub struct PickleError {
    /// Byte of the opcode, from the start of the pickle.
    pub offset: u64,
    /// Its name.
    pub op: &'static str,
    /// What is wrong.
    pub kind: PickleProblem,
}

/// What can be wrong with a pickle.
#[derive(Debug, Error)]
pub enum PickleProblem {
    /// It ends in the middle.
    #[error("the pickle ends too early: {needed} bytes needed, {left} left")]
    End {
        /// Bytes declared.
        needed: u64,
        /// Bytes left.
        left: u64,
    },
    /// The bytes could not be read.
    #[error("cannot read: {0}")]
    Io(io::Error),
    /// No such opcode.
    #[error("unknown opcode 0x{0:02x}")]
    UnknownOpcode(u8),
    /// Known, but not read on purpose.
    #[error("{0} are not supported")]
    Refused(&'static str),
    /// A protocol newer than 5.
    #[error("pickle protocol {0} is not supported, only 0 to 5")]
    Protocol(u8),
    /// The stack is empty, or a mark is missing.
    #[error("the stack does not hold what the opcode needs")]
    Stack,
    /// An operand has the wrong type.
    #[error("expected {expected}, found {found}")]
    Type {
        /// What the opcode needs.
        expected: &'static str,
        /// What was there.
        found: &'static str,
    },
    /// A memo number that was never stored.
    #[error("memo entry {0} was never stored")]
    Memo(u64),
    /// A number or text that does not parse.
    #[error("not a valid {0}")]
    Text(&'static str),
    /// More than a fixed limit.
    #[error("more than {limit} {what}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The same key twice in a dict.
    #[error("the key {0} is in a dict twice")]
    DuplicateKey(String),
    /// A persistent id that is not a storage.
    #[error("a persistent id that is not a torch storage: {0}")]
    PersistentId(&'static str),
    /// A tensor whose arguments make no sense.
    #[error("a tensor with wrong arguments: {0}")]
    Tensor(&'static str),
    /// Bytes follow the end.
    #[error("{0} bytes follow the end of the pickle")]
    Trailing(u64),
}

/// Why a tensor cannot be read from its storage.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TensorProblem {
    /// No such storage in the file.
    #[error("the file has no such storage")]
    NoStorage,
    /// A type without a name here.
    #[error("element type {0} is not supported")]
    Dtype(String),
    /// Torch's lazy `conj()` or `neg` of a view: the values are not the stored ones.
    #[error(
        "a flag beside it says that its values are the conjugate or negative of the stored ones; \
         save `tensor.resolve_conj().resolve_neg()` instead"
    )]
    Flagged,
    /// The storage is longer or shorter than the pickle says.
    #[error("the storage has {actual} bytes, the pickle says {expected}")]
    Length {
        /// Bytes by the persistent id.
        expected: u64,
        /// Bytes in the file.
        actual: u64,
    },
    /// A negative stride.
    #[error("stride {0} is negative")]
    NegativeStride(i64),
    /// Some element lies behind the end.
    #[error("its elements reach byte {end}, the storage ends at {len}")]
    Outside {
        /// End of the last element.
        end: i128,
        /// Length of the storage or of its view.
        len: u64,
    },
    /// The number of elements does not fit 64 bits.
    #[error("its shape has too many elements")]
    TooLarge,
}
