//! Where everything in a file will be, before a byte of data is known.

use super::MAX_HEADER;
use indexmap::IndexMap;
use serde_json::{Map, Value, json};
use ucl_tensor::DType;

/// The data begins at a multiple of this many bytes, so that it can be written around the page cache.
/// The format allows spaces after the JSON.
const ALIGNMENT: u64 = 4096;

/// A file laid out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Its first bytes: the length of the JSON, the JSON, spaces. The data follows at once.
    pub header: Vec<u8>,
    /// The absolute byte offset of each tensor, in the order they were given.
    pub offsets: Vec<u64>,
    /// The length of the whole file in bytes.
    pub len: u64,
}

/// Why tensors cannot stand in a safetensors file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unwritable {
    /// A type that the format has no name for: complex doubles.
    #[error("safetensors has no type for the {dtype} elements of {name:?}")]
    DType {
        /// The tensor.
        name: String,
        /// Its type.
        dtype: DType,
    },
    /// One name for two tensors, or the name that is kept for the metadata.
    #[error("{0:?} can't be the name of a tensor: it stands twice or is reserved")]
    Name(String),
    /// Sizes beyond 64 bits.
    #[error("{0:?} is too large to be addressed")]
    TooLarge(String),
    /// More names than the reference reader accepts.
    #[error("the header would have {0} bytes, readers accept {MAX_HEADER}")]
    Header(u64),
}

/// Lays a file out: tensors follow each other in the order given, without gaps. The same input gives
/// the same bytes.
///
/// Elements are aligned if the given order is: sort by falling element size where types are mixed.
///
/// # Errors
/// If the format cannot hold the tensors; see [`Unwritable`].
pub fn layout(
    tensors: &[(String, DType, Vec<u64>)],
    metadata: &IndexMap<String, String>,
) -> Result<Layout, Unwritable> {
    let mut entries = Map::new();
    if !metadata.is_empty() {
        entries.insert("__metadata__".to_owned(), json!(metadata));
    }
    let mut ends = Vec::with_capacity(tensors.len());
    let mut end = 0u64;
    for (name, dtype, shape) in tensors {
        if *dtype == DType::C128 {
            return Err(Unwritable::DType { name: name.clone(), dtype: *dtype });
        }
        let start = end;
        end = size_bytes(*dtype, shape)
            .and_then(|size| start.checked_add(size))
            .ok_or_else(|| Unwritable::TooLarge(name.clone()))?;
        ends.push(start);
        let entry = json!({ "dtype": dtype.name(), "shape": shape, "data_offsets": [start, end] });
        if name == "__metadata__" || entries.insert(name.clone(), entry).is_some() {
            return Err(Unwritable::Name(name.clone()));
        }
    }
    let mut text = Value::Object(entries).to_string().into_bytes();
    let data = (8 + text.len() as u64).next_multiple_of(ALIGNMENT);
    if data - 8 > MAX_HEADER {
        return Err(Unwritable::Header(data - 8));
    }
    text.resize((data - 8) as usize, b' ');
    let mut header = (data - 8).to_le_bytes().to_vec();
    header.append(&mut text);
    let len = data.checked_add(end).ok_or_else(|| Unwritable::TooLarge(String::new()))?;
    Ok(Layout { header, offsets: ends.into_iter().map(|start| data + start).collect(), len })
}

/// Bytes of a row-major tensor, if they can be counted.
fn size_bytes(dtype: DType, shape: &[u64]) -> Option<u64> {
    if shape.contains(&0) {
        return Some(0);
    }
    shape.iter().try_fold(dtype.size_bytes(), |size, dim| size.checked_mul(*dim))
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::SafeTensors;

    fn tensor(name: &str, dtype: DType, shape: &[u64]) -> (String, DType, Vec<u64>) {
        (name.to_owned(), dtype, shape.to_vec())
    }

    #[test]
    fn what_is_laid_out_opens_again() {
        let tensors = [
            tensor("z \"quoted\" ü", DType::F32, &[2, 3]),
            tensor("a", DType::F8E4M3Fnuz, &[5]),
            tensor("none", DType::I64, &[0, 7]),
            tensor("one", DType::BF16, &[]),
        ];
        let metadata = IndexMap::from([("format".to_owned(), "pt".to_owned())]);
        let laid = layout(&tensors, &metadata).unwrap();
        assert_eq!(laid.header.len() as u64 % ALIGNMENT, 0);
        assert_eq!(laid.len, laid.header.len() as u64 + 24 + 5 + 2);
        assert_eq!(laid, layout(&tensors, &metadata).unwrap());
        let mut file = laid.header.clone();
        file.resize(laid.len as usize, 0);
        file[laid.offsets[1] as usize] = 9;
        let opened = SafeTensors::deserialize(&file).unwrap();
        assert_eq!(opened.len(), 4);
        assert_eq!(opened.tensor("a").unwrap().data(), [9, 0, 0, 0, 0]);
        assert_eq!(opened.tensor("z \"quoted\" ü").unwrap().shape(), [2, 3]);

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, &file).unwrap();
        let header = super::super::read_header(&path).unwrap();
        let names: Vec<_> = header.tensors.iter().map(|t| (t.name.as_str(), t.offset)).collect();
        let given: Vec<_> = tensors.iter().map(|t| t.0.as_str()).zip(laid.offsets).collect();
        assert_eq!(names, given);
        assert_eq!(header.metadata, metadata);
    }

    #[test]
    fn nothing_at_all_is_a_file_too() {
        let laid = layout(&[], &IndexMap::new()).unwrap();
        assert_eq!(SafeTensors::deserialize(&laid.header).unwrap().len(), 0);
    }

    #[test]
    fn what_the_format_cannot_hold_is_refused() {
        let none = IndexMap::new();
        let refused = |tensors: &[_]| layout(tensors, &none).unwrap_err().to_string();
        assert_eq!(
            refused(&[tensor("c", DType::C128, &[1])]),
            "safetensors has no type for the C128 elements of \"c\""
        );
        let twice = [tensor("a", DType::U8, &[1]), tensor("a", DType::U8, &[1])];
        assert!(refused(&twice).contains("twice"));
        assert!(refused(&[tensor("__metadata__", DType::U8, &[1])]).contains("reserved"));
        let huge = tensor("h", DType::F32, &[1 << 32, 1 << 32]);
        assert!(refused(&[huge]).contains("too large"));
    }
}
