//! The header of one file, checked before anything is believed.

use super::MAX_HEADER;
use crate::inventory::Problem;
use indexmap::IndexMap;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::Deserialize;
use serde::de::{Error, MapAccess, Visitor};
use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use ucl_tensor::DType;

/// What a safetensors file says of itself.
#[derive(Clone, Debug, Default)]
pub struct Header {
    /// `__metadata__`.
    pub metadata: IndexMap<String, String>,
    /// The tensors in the order of the header.
    pub tensors: Vec<Tensor>,
    /// Where the data begins, in bytes from the start of the file.
    pub data: u64,
    /// The length of the file in bytes.
    pub bytes: u64,
}

/// One tensor, row-major.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub dtype: DType,
    /// Its shape.
    pub shape: Vec<u64>,
    /// Its first byte, from the start of the file.
    pub offset: u64,
}

/// Reads and checks the header of a file; no byte of the data is read.
///
/// # Errors
/// Says what is wrong with the header: too long for the file, not JSON, a name twice, a type that is
/// not known, tensors that do not tile the data.
pub fn read_header(path: &Path) -> Result<Header, Problem> {
    read_header_at(path, 0)
}

/// As [`read_header`], of the safetensors that begin at a byte of a file and end with it.
pub(crate) fn read_header_at(path: &Path, start: u64) -> Result<Header, Problem> {
    let damaged = |message: String| Problem::new(path, message);
    let unread = |error: std::io::Error| damaged(format!("it can't be read: {error}"));
    let file = File::open(path).map_err(unread)?;
    let whole = file.metadata().map_err(unread)?.len();
    let bytes = whole.saturating_sub(start);
    let mut length = [0; 8];
    if bytes < 8 {
        return Err(damaged(format!("a safetensors file has at least 8 bytes, this one {bytes}")));
    }
    file.read_exact_at(&mut length, start).map_err(unread)?;
    let length = u64::from_le_bytes(length);
    if length > bytes - 8 || length > MAX_HEADER {
        return Err(damaged(format!(
            "its first 8 bytes announce a header of {length} bytes, the file has {bytes}: it is cut \
             short or no safetensors file"
        )));
    }
    let mut text = vec![0; length as usize];
    file.read_exact_at(&mut text, start + 8).map_err(unread)?;
    let raw: Raw = serde_json::from_slice(&text)
        .map_err(|error| damaged(format!("its header can't be understood: {error}")))?;
    let data = start + 8 + length;
    let tensors = checked(&raw, whole - data).map_err(damaged)?;
    let at_data = |tensor: Tensor| Tensor { offset: data + tensor.offset, ..tensor };
    let tensors = tensors.into_iter().map(at_data).collect();
    Ok(Header { metadata: raw.metadata, tensors, data, bytes: whole })
}

/// The header as it stands, in its order.
#[derive(Default)]
struct Raw {
    metadata: IndexMap<String, String>,
    tensors: IndexMap<String, TensorInfo>,
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Raw, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Raw;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
                let mut raw = Raw::default();
                let mut described = false;
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        if std::mem::replace(&mut described, true) {
                            return Err(A::Error::custom("`__metadata__` stands twice"));
                        }
                        raw.metadata = map.next_value()?;
                    } else if raw.tensors.contains_key(&name) {
                        return Err(A::Error::custom(format!("the tensor {name:?} stands twice")));
                    } else {
                        raw.tensors.insert(name, map.next_value()?);
                    }
                }
                Ok(raw)
            }
        }
        from.deserialize_map(Entries)
    }
}

/// The tensors, relative to the data, if they tile all of it.
fn checked(raw: &Raw, data: u64) -> Result<Vec<Tensor>, String> {
    let mut by_offset: Vec<_> =
        raw.tensors.iter().map(|(name, info)| (name.clone(), info.clone())).collect();
    by_offset.sort_by_key(|(_, info)| info.data_offsets);
    let end = by_offset.last().map_or(0, |(_, info)| info.data_offsets.1);
    Metadata::new(None::<HashMap<_, _>>, by_offset)
        .map_err(|error| format!("its header is wrong: {error}"))?;
    if end as u64 != data {
        return Err(format!(
            "its header describes {end} bytes of data, the file has {data}: it is cut short or has \
             bytes that belong to nothing"
        ));
    }
    raw.tensors
        .iter()
        .map(|(name, info)| {
            let dtype = dtype(info.dtype)
                .ok_or_else(|| format!("{name:?} has elements of type {:?}, which are smaller than a byte; this version can't read them", info.dtype))?;
            let shape = info.shape.iter().map(|size| *size as u64).collect();
            Ok(Tensor { name: name.clone(), dtype, shape, offset: info.data_offsets.0 as u64 })
        })
        .collect()
}

/// The names are the same; the crate's `Debug` prints them as the header has them.
fn dtype(dtype: Dtype) -> Option<DType> {
    DType::parse(&format!("{dtype:?}"))
}
