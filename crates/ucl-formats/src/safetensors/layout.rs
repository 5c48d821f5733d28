//! Where everything in a file will be, before a byte of data is known.

use super::MAX_HEADER;
use indexmap::IndexMap;
use safetensors::tensor::Dtype;
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::Error;
use serde_json::{Map, Value, json};
use std::cmp::Reverse;
use ucl_tensor::DType;

/// The data begins at a multiple of this many bytes, so that it can be written around the page cache.
/// The format allows spaces after the JSON.
const ALIGNMENT: u64 = 4096;

/// Where the reference writer lets the data begin.
const REFERENCE_ALIGNMENT: u64 = 8;

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
    aligned(tensors, metadata, ALIGNMENT)
}

/// Lays a file out as the reference writer does: tensors by type, the widest first, then by name. The
/// offsets are in the order given.
///
/// # Errors
/// See [`layout`].
pub fn reference_layout(
    tensors: &[(String, DType, Vec<u64>)],
    metadata: &IndexMap<String, String>,
) -> Result<Layout, Unwritable> {
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by_key(|at| (Reverse(rank(tensors[*at].1)), &tensors[*at].0));
    let sorted: Vec<_> = order.iter().map(|at| tensors[*at].clone()).collect();
    let laid = aligned(&sorted, metadata, REFERENCE_ALIGNMENT)?;
    let mut offsets = vec![0; tensors.len()];
    order.iter().zip(laid.offsets).for_each(|(at, offset)| offsets[*at] = offset);
    Ok(Layout { offsets, ..laid })
}

/// The type as the reference library orders it.
fn rank(dtype: DType) -> Option<Dtype> {
    let name: serde::de::value::StrDeserializer<'_, Error> = dtype.name().into_deserializer();
    Dtype::deserialize(name).ok()
}

fn aligned(
    tensors: &[(String, DType, Vec<u64>)],
    metadata: &IndexMap<String, String>,
    alignment: u64,
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
    let data = (8 + text.len() as u64).next_multiple_of(alignment);
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
    fn the_reference_writer_makes_the_same_header() {
        use safetensors::tensor::{TensorView, serialize};
        let types = "BOOL U8 I8 F8_E5M2 F8_E4M3 F8_E8M0 F8_E4M3FNUZ F8_E5M2FNUZ I16 U16 F16 BF16 I32 U32 \
                     F32 C64 F64 I64 U64";
        let of = |text: &str| DType::parse(text).unwrap();
        let tensors: Vec<_> = types
            .split_whitespace()
            .flat_map(|text| {
                ["b \"ü", "a"].map(|name| tensor(&format!("{name}{text}"), of(text), &[3]))
            })
            .collect();
        let laid = reference_layout(&tensors, &IndexMap::new()).unwrap();
        let bytes = [0; 24];
        let views = tensors.iter().map(|(name, dtype, shape)| {
            let shape: Vec<usize> = shape.iter().map(|size| *size as usize).collect();
            let len = dtype.size_bytes() as usize * 3;
            (name.as_str(), TensorView::new(rank(*dtype).unwrap(), shape, &bytes[..len]).unwrap())
        });
        let written = serialize(views, None).unwrap();
        assert_eq!(laid.len, written.len() as u64);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert_eq!(text(&laid.header), text(&written[..laid.header.len()]));
        assert!(laid.offsets[0] > laid.offsets[37]);
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
