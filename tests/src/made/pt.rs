//! Files of torch, from plain values.

use serde_json::Value;
use std::fs;
use std::path::Path;
use ucl_formats::torch::{NodeId, Pickle, TorchLayout, emit};
use ucl_tensor::DType;

/// A file in the making.
#[derive(Default)]
pub struct Pt {
    /// What will be pickled.
    pub pickle: Pickle,
    storages: Vec<Vec<u8>>,
}

impl Pt {
    /// A tensor in a storage of its own.
    pub fn tensor(&mut self, dtype: DType, shape: &[u64], bytes: Vec<u8>) -> NodeId {
        assert_eq!(shape.iter().product::<u64>() * dtype.size_bytes(), bytes.len() as u64);
        let key = self.storages.len().to_string();
        self.storages.push(bytes);
        self.pickle.whole_tensor(&key, dtype, shape).expect("torch has the type")
    }

    /// A tensor of fp32.
    pub fn floats(&mut self, shape: &[u64], values: &[f32]) -> NodeId {
        self.tensor(DType::F32, shape, values.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    /// A tensor of bf16: the nearest, the even one of two.
    pub fn halves(&mut self, shape: &[u64], values: &[f32]) -> NodeId {
        let bytes = values.iter().flat_map(|x| bf16(*x).to_le_bytes()).collect();
        self.tensor(DType::BF16, shape, bytes)
    }

    /// A dict.
    pub fn dict(&mut self, entries: Vec<(&str, NodeId)>) -> NodeId {
        let pairs = entries.into_iter().map(|(key, id)| (self.pickle.str(key), id)).collect();
        self.pickle.dict(pairs)
    }

    /// An `OrderedDict`.
    pub fn ordered(&mut self, entries: Vec<(&str, NodeId)>) -> NodeId {
        let pairs = entries.into_iter().map(|(key, id)| (self.pickle.str(key), id)).collect();
        self.pickle.ordered_dict(pairs)
    }

    /// Plain values.
    pub fn json(&mut self, value: &Value) -> NodeId {
        match value {
            Value::Null => self.pickle.none(),
            Value::Bool(flag) => self.pickle.bool(*flag),
            Value::String(text) => self.pickle.str(text),
            Value::Number(number) => match number.as_i64() {
                Some(number) => self.pickle.int(number),
                None => self.pickle.float(number.as_f64().expect("a number")),
            },
            Value::Array(items) => {
                let items = items.iter().map(|item| self.json(item)).collect();
                self.pickle.list(items)
            }
            Value::Object(entries) => {
                let pairs = entries.iter().map(|(key, value)| {
                    let value = self.json(value);
                    (self.pickle.str(key), value)
                });
                let pairs = pairs.collect();
                self.pickle.dict(pairs)
            }
        }
    }

    /// Writes the file.
    pub fn save(self, root: NodeId, path: &Path) {
        fs::write(path, self.bytes(root)).expect("written");
    }

    /// The bytes of the file.
    pub fn bytes(mut self, root: NodeId) -> Vec<u8> {
        self.pickle.set_root(root);
        let lens =
            self.storages.iter().enumerate().map(|(key, s)| (key.to_string(), s.len() as u64));
        let pickle = emit(&self.pickle).expect("a pickle");
        let layout = TorchLayout::new("archive", pickle, &lens.collect::<Vec<_>>());
        let layout = layout.expect("a layout");
        let mut bytes = vec![0; layout.total_len() as usize];
        for (storage, offset) in self.storages.iter().zip(layout.storage_offsets()) {
            bytes[*offset as usize..][..storage.len()].copy_from_slice(storage);
        }
        let crcs: Vec<_> = self.storages.iter().map(|s| Some(crc32fast::hash(s))).collect();
        for (offset, chunk) in layout.chunks(&crcs) {
            bytes[offset as usize..][..chunk.len()].copy_from_slice(&chunk);
        }
        bytes
    }
}

/// The upper half of a finite float, rounded to nearest, ties to even.
fn bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}
