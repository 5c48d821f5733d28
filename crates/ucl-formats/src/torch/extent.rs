//! Where a tensor's elements lie in a file, with every address checked.

use std::ops::Range;

use indexmap::IndexMap;
use ucl_tensor::DType;

use super::error::{EntryProblem, TensorProblem};
use super::node::{Element, Tensor};

/// Where a storage lies in the file, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StorageExtent {
    /// First byte, from the start of the file.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
    /// The CRC-32 of its bytes, if the file has one.
    pub crc32: Option<u32>,
}

impl StorageExtent {
    /// Compares the CRC-32 of all bytes of the storage, computed by the caller as they pass by.
    ///
    /// # Errors
    /// If the file has another. Files without a CRC pass.
    pub fn verify(&self, actual: u32) -> Result<(), EntryProblem> {
        match self.crc32 {
            Some(expected) if expected != actual => Err(EntryProblem::Crc { expected, actual }),
            _ => Ok(()),
        }
    }

    /// First byte and the one after the last.
    pub fn range(&self) -> Range<u64> {
        self.offset..self.offset + self.len
    }
}

/// A tensor in a file. Every element is known to lie in the storage's range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorExtent {
    /// Element type.
    pub dtype: DType,
    /// Sizes in elements.
    pub shape: Vec<u64>,
    /// Strides in elements, none negative; 0 where a dim is expanded.
    pub strides: Vec<i64>,
    /// Elements in all, counting expanded ones.
    pub numel: u64,
    /// Byte of element `[0, 0, …]` from the start of the file.
    pub file_offset: u64,
    /// Which storage; equal for tensors that share bytes.
    pub storage_key: String,
    /// Element `[0, 0, …]` in elements from the start of the storage.
    pub storage_offset: u64,
    /// The bytes of the whole storage in the file.
    pub storage_file_range: Range<u64>,
}

impl TensorExtent {
    /// Whether the elements lie without gaps in row-major order.
    pub fn is_contiguous(&self) -> bool {
        let mut expected: u64 = 1;
        for (&length, &stride) in self.shape.iter().zip(&self.strides).rev() {
            if length != 1 && u64::try_from(stride) != Ok(expected) {
                return self.numel == 0;
            }
            expected = expected.saturating_mul(length);
        }
        true
    }

    /// Bytes of the elements, counting expanded ones. Fits: checked when the extent was made.
    pub fn byte_len(&self) -> u64 {
        self.numel * self.dtype.size_bytes()
    }
}

pub(super) fn resolve(
    tensor: &Tensor,
    storages: &IndexMap<String, StorageExtent>,
) -> Result<TensorExtent, TensorProblem> {
    let storage = &tensor.storage;
    let unsupported = || TensorProblem::Dtype(format!("of {:?}", storage.class.name));
    let dtype = tensor.dtype.ok_or_else(|| match storage.element {
        Element::Typed(_) => TensorProblem::Flagged,
        Element::Untyped | Element::Unsupported(_) => unsupported(),
    })?;
    let extent = storages.get(&*storage.key).ok_or(TensorProblem::NoStorage)?;
    let unit = storage.element.size_bytes().ok_or_else(unsupported)?;
    let expected = storage.numel.checked_mul(unit).ok_or(TensorProblem::TooLarge)?;
    if expected != extent.len {
        return Err(TensorProblem::Length { expected, actual: extent.len });
    }
    let (first, len) = match storage.view {
        None => (0, extent.len),
        Some((first, count)) => {
            let bytes = first.checked_mul(unit).zip(count.checked_mul(unit));
            let (first, len) = bytes.ok_or(TensorProblem::TooLarge)?;
            let end = i128::from(first) + i128::from(len);
            if end > i128::from(extent.len) {
                return Err(TensorProblem::Outside { end, len: extent.len });
            }
            (first, len)
        }
    };
    let numel = numel(&tensor.size, dtype)?;
    let inside = match numel {
        0 => 0,
        _ => check_inside(tensor, dtype, len)?,
    };
    Ok(TensorExtent {
        dtype,
        shape: tensor.size.to_vec(),
        strides: tensor.stride.to_vec(),
        numel,
        file_offset: extent.offset + first + inside,
        storage_key: storage.key.to_string(),
        storage_offset: tensor.offset.saturating_add(first / dtype.size_bytes()),
        storage_file_range: extent.range(),
    })
}

/// Elements in all; their bytes fit an `i64`.
fn numel(size: &[u64], dtype: DType) -> Result<u64, TensorProblem> {
    if size.contains(&0) {
        return Ok(0);
    }
    let numel = size.iter().try_fold(1u64, |product, &length| product.checked_mul(length));
    let bytes = numel.and_then(|numel| numel.checked_mul(dtype.size_bytes()));
    bytes.filter(|bytes| i64::try_from(*bytes).is_ok()).ok_or(TensorProblem::TooLarge)?;
    numel.ok_or(TensorProblem::TooLarge)
}

/// The byte of the first element in a storage of `len` bytes that holds all elements.
fn check_inside(tensor: &Tensor, dtype: DType, len: u64) -> Result<u64, TensorProblem> {
    let mut last = i128::from(tensor.offset);
    for (&length, &stride) in tensor.size.iter().zip(&tensor.stride) {
        if stride < 0 {
            return Err(TensorProblem::NegativeStride(stride));
        }
        // Fits: the product of all lengths is below 2^63, so the sum of `length - 1` is too.
        last += i128::from(length - 1) * i128::from(stride);
    }
    let unit = i128::from(dtype.size_bytes());
    let end = (last + 1).checked_mul(unit).ok_or(TensorProblem::TooLarge)?;
    if end > i128::from(len) {
        return Err(TensorProblem::Outside { end, len });
    }
    // Not above `end`.
    Ok(tensor.offset * dtype.size_bytes())
}
