//! Pickled values as JSON: arguments, hyper-parameters, versions.

use super::{Node, Tensor, TorchFile, Value};
use serde_json::{Map, Number, Value as Json};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use ucl_tensor::DType;

/// Values nested deeper are left out.
const DEEPEST: u32 = 64;
/// A document with more values is cut.
const MOST: u32 = 1_000_000;

/// A value as JSON. Tuples and sets become arrays, keys become text, a 0-d tensor its number, and
/// what JSON has no word for becomes text: the name of a class, `inf`, `tensor of [3, 4]`.
pub(crate) fn json(file: &TorchFile, value: Value<'_>) -> Json {
    Writer { file, left: MOST }.value(value, 0)
}

/// The attributes of an `argparse.Namespace`, or the entries of a dict.
pub(crate) fn object(file: &TorchFile, value: Value<'_>) -> Option<Map<String, Json>> {
    let mut writer = Writer { file, left: MOST };
    if value.as_dict().is_some() {
        return match writer.value(value, 0) {
            Json::Object(map) => Some(map),
            _ => None,
        };
    }
    value.as_object()?;
    Some(value.attrs().map(|(name, held)| (name.to_owned(), writer.value(held, 1))).collect())
}

struct Writer<'a> {
    file: &'a TorchFile,
    left: u32,
}

impl Writer<'_> {
    fn value(&mut self, value: Value<'_>, depth: u32) -> Json {
        if depth > DEEPEST || self.left == 0 {
            return Json::from("…");
        }
        self.left -= 1;
        match value.node() {
            Node::None => Json::Null,
            Node::Bool(yes) => Json::from(*yes),
            Node::Int(number) => Json::from(*number),
            Node::BigInt(_) => {
                value.as_u64().map_or_else(|| Json::from("a large integer"), Json::from)
            }
            Node::Float(number) => float(*number),
            Node::Str(text) => Json::from(&**text),
            Node::RawStr(bytes) => Json::from(String::from_utf8_lossy(bytes)),
            Node::Bytes(bytes) => Json::from(format!("{} bytes", bytes.len())),
            Node::Global(global) => Json::from(format!("{}.{}", global.module, global.name)),
            Node::Tensor(tensor) => scalar(self.file, tensor)
                .unwrap_or_else(|| Json::from(format!("tensor of {:?}", tensor.size))),
            Node::Storage(_) => Json::from("a storage"),
            Node::Dict(_) => self.entries(value, depth),
            Node::List(_) | Node::Tuple(_) | Node::Set(_) => self.array(value, depth),
            Node::Object(_) => match (value.as_shape(), value.class()) {
                (Some(shape), _) => Json::from(shape),
                (None, Some(class)) => Json::from(format!("{}.{}", class.module, class.name)),
                (None, None) => Json::from(value.kind()),
            },
        }
    }

    fn array(&mut self, value: Value<'_>, depth: u32) -> Json {
        value.items().into_iter().flatten().map(|item| self.value(item, depth + 1)).collect()
    }

    fn entries(&mut self, value: Value<'_>, depth: u32) -> Json {
        let mut map = Map::new();
        for (key, held) in value.pairs().into_iter().flatten() {
            let key = match self.value(key, depth + 1) {
                Json::String(text) => text,
                other => other.to_string(),
            };
            map.insert(key, self.value(held, depth + 1));
        }
        Json::Object(map)
    }
}

/// A number, or its name where JSON has none.
fn float(number: f64) -> Json {
    Number::from_f64(number).map_or_else(|| Json::from(number.to_string()), Json::Number)
}

/// The number in a 0-d tensor, read from the file: Adam's `step`, a learning rate.
pub(crate) fn scalar(file: &TorchFile, tensor: &Tensor) -> Option<Json> {
    if !tensor.size.is_empty() {
        return None;
    }
    let extent = file.extent(tensor).ok()?;
    number(&file.path, extent.file_offset, extent.dtype)
}

/// One element of a file.
pub(crate) fn number(path: &Path, offset: u64, dtype: DType) -> Option<Json> {
    let mut bytes = [0; 8];
    let size = dtype.size_bytes() as usize;
    let held = bytes.get_mut(..size)?;
    File::open(path).ok()?.read_exact_at(held, offset).ok()?;
    let low = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    Some(match dtype {
        DType::F64 => float(f64::from_le_bytes(bytes)),
        DType::F32 => float(f32::from_bits(low).into()),
        DType::BF16 => float(f32::from_bits(low << 16).into()),
        DType::I64 => Json::from(i64::from_le_bytes(bytes)),
        DType::U64 => Json::from(u64::from_le_bytes(bytes)),
        DType::I32 => Json::from(low as i32),
        DType::U32 => Json::from(low),
        DType::I16 => Json::from(low as i16),
        DType::U16 => Json::from(low as u16),
        DType::I8 => Json::from(bytes[0] as i8),
        DType::U8 => Json::from(bytes[0]),
        DType::Bool => Json::from(bytes[0] != 0),
        _ => return None,
    })
}
