//! What the executor sees of a plan: files to write, and for any window of any tensor the moves that
//! fill it.

use smallvec::SmallVec;
use std::ops::Range;
use std::path::PathBuf;
use ucl_tensor::DType;

/// A file to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetFile {
    /// Its path under the destination.
    pub path: String,
    /// Its length in bytes.
    pub len: u64,
    /// Bytes that are known already, by offset: headers.
    pub fixed: Vec<(u64, Vec<u8>)>,
    /// Whether the rest of its bytes follow from the sums of its tensors: [`Work::seal`] has them.
    pub sealed: bool,
}

/// A tensor to write: dense, row-major.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetTensor {
    /// Its name.
    pub name: String,
    /// Its state (`fp32`, `exp_avg`, …).
    pub state: String,
    /// Its element type.
    pub dtype: DType,
    /// Its shape.
    pub shape: Vec<u64>,
    /// Index into [`Work::files`].
    pub file: usize,
    /// The byte offset of its first element in that file.
    pub offset: u64,
}

impl TargetTensor {
    /// Its number of elements.
    pub fn len(&self) -> u64 {
        self.shape.iter().product()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A strided copy between a source file and a window of a target tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Move {
    /// What is done with the values.
    pub role: MoveRole,
    /// Index into [`Work::sources`].
    pub source: usize,
    /// The element type in the source.
    pub dtype: DType,
    /// The byte offset in the source file of the element at index 0 of every dim.
    pub from: u64,
    /// The element offset in the window of the element at index 0 of every dim.
    pub to: u64,
    /// The loops, outermost in the target first; adjacent dims that are dense on both sides are one.
    pub loops: SmallVec<[Loop; 6]>,
    /// stored = universal * scale + shift in the source; applied inverted. 1 and 0 leave bytes alone.
    pub scale: f64,
    /// See `scale`.
    pub shift: f64,
}

/// One loop of a [`Move`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loop {
    /// How often.
    pub count: u64,
    /// Bytes from one element to the next in the source.
    pub from: i64,
    /// Elements from one to the next in the window.
    pub to: i64,
}

/// What a move does with the values it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveRole {
    /// They are the window's values.
    Write,
    /// They must be the values that [`MoveRole::Write`] put there: a replica. Index into
    /// [`Work::checks`].
    Equal(usize),
    /// The window's values, rounded to the source's type, must be they: the 16-bit copy of a master.
    Rounded(usize),
    /// One of this many sources whose mean is the window's value; the index is of the check that
    /// reports their spread.
    Average(u32, usize),
    /// One of several sources whose sum is the window's value.
    Sum,
    /// There is no source: elements of a product are added to the window's values in F32, before these
    /// are rounded to the target's type. `from` and the loops' `from` count elements of the product,
    /// row-major; the index is into [`Work::products`].
    Product(usize),
    /// There is no source: values are made from addresses. `from` and the loops' `from` count
    /// addresses (row-major numbers of the universal parameter), not bytes; this is the seed of the
    /// parameter and state.
    Synth(u64),
}

/// A check of values that the executor makes as it copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The parameter, and the replica or copy that is compared, for a person.
    pub label: String,
    /// Whether a difference stops the run, or is only reported.
    pub fatal: bool,
}

/// A scaled product of two small matrices, to be added to a weight.
///
/// Element `[i, j]` is `scale * (Σ rows[r, i] * columns[r, j])`: in F32, the sum begun at 0 and taken in
/// the order of `r`, each step rounded.
#[derive(Clone, Debug, PartialEq)]
pub struct Product {
    /// The weight, for a person.
    pub label: String,
    /// The rank: the number of `r`.
    pub rank: u64,
    /// What the sum is multiplied by.
    pub scale: f32,
    /// The matrix that gives the product its rows.
    pub rows: Factor,
    /// The matrix that gives it its columns.
    pub columns: Factor,
}

/// One of the matrices of a [`Product`], `[rank, len]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Factor {
    /// Its second extent.
    pub len: u64,
    /// What puts it together, as a window in F32: `Write` moves before `Equal` and `Rounded` ones, whose
    /// checks are fatal.
    pub moves: Vec<Move>,
}

/// A plan that can be run.
pub trait Work: Sync {
    /// The files that moves read, by absolute or relative path.
    fn sources(&self) -> &[PathBuf];
    /// The files to write.
    fn files(&self) -> &[TargetFile];
    /// The tensors to write, in the order of their files and offsets.
    fn tensors(&self) -> &[TargetTensor];
    /// The checks that moves name.
    fn checks(&self) -> &[Check];
    /// The products that moves name.
    fn products(&self) -> &[Product] {
        &[]
    }
    /// What closes a sealed file, by offset: all that is neither fixed nor a tensor's. `sums` has the
    /// CRC-32 of the bytes of each of its tensors, in their order.
    fn seal(&self, file: usize, sums: &[u32]) -> Vec<(u64, Vec<u8>)> {
        let _ = (file, sums);
        Vec::new()
    }
    /// The moves that fill `elements` of a tensor (row-major numbers), `Write`, `Average`, `Sum` and
    /// `Product` moves before the checks of the same window. Elements that no move writes are zero.
    fn window(&self, tensor: usize, elements: Range<u64>) -> Vec<Move>;
}
