//! A torch file on the way: a pickle, and storages that are known or will be filled.

use super::{Buffer, RunFile, Seal, WriteError};
use crate::inventory::{Carried, Problem};
use crate::named::unreadable;
use crate::torch::{Node, NodeId, Pickle, TorchFile, TorchLayout, Value, emit};
use serde_json::{Map, Value as Json};
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use ucl_tensor::DType;

/// A torch file in the making.
#[derive(Default)]
pub(crate) struct Draft {
    /// The pickle.
    pub(crate) pickle: Pickle,
    storages: Vec<Content>,
}

enum Content {
    Known(Vec<u8>),
    Buffer(Buffer),
}

/// What is carried stays in memory until its file is written: no storage of it is larger, in bytes.
const LARGEST: u64 = 1 << 30;

impl Draft {
    /// A tensor of a buffer that has a storage of its own.
    pub(crate) fn tensor(&mut self, buffer: Buffer) -> Result<NodeId, WriteError> {
        let key = self.storages.len().to_string();
        let node = self.pickle.whole_tensor(&key, buffer.dtype, &buffer.shape);
        let node = node.ok_or(WriteError::DType(buffer.dtype))?;
        self.storages.push(Content::Buffer(buffer));
        Ok(node)
    }

    /// A buffer as a tensor of bytes on a device, that has a storage of its own.
    pub(crate) fn bytes(&mut self, buffer: Buffer, device: &str) -> Result<NodeId, WriteError> {
        let key = self.storages.len().to_string();
        let node = self.pickle.whole_tensor(&key, DType::U8, &[buffer.bytes()]);
        let node = node.ok_or(WriteError::DType(DType::U8))?;
        self.pickle.put_on(node, device);
        self.storages.push(Content::Buffer(buffer));
        Ok(node)
    }

    /// A tensor of bytes that are known.
    pub(crate) fn known(
        &mut self,
        dtype: DType,
        shape: &[u64],
        bytes: Vec<u8>,
    ) -> Result<NodeId, WriteError> {
        let key = self.storages.len().to_string();
        let node = self.pickle.whole_tensor(&key, dtype, shape).ok_or(WriteError::DType(dtype))?;
        self.storages.push(Content::Known(bytes));
        Ok(node)
    }

    /// A dict of named values.
    pub(crate) fn dict(&mut self, entries: Vec<(String, NodeId)>) -> NodeId {
        let pairs = self.pairs(entries);
        self.pickle.dict(pairs)
    }

    /// An `OrderedDict` of named values.
    pub(crate) fn ordered(&mut self, entries: Vec<(String, NodeId)>) -> NodeId {
        let pairs = self.pairs(entries);
        self.pickle.ordered_dict(pairs)
    }

    /// An `argparse.Namespace`.
    pub(crate) fn namespace(&mut self, attributes: Vec<(String, NodeId)>) -> NodeId {
        let pairs = self.pairs(attributes);
        self.pickle.namespace(pairs)
    }

    /// Gives values to those keys of a dict, or attributes of an object, that it has.
    pub(crate) fn set(&mut self, target: NodeId, values: &Map<String, Json>) {
        for (key, value) in values {
            if self.held(target, key).is_some() {
                let value = self.json(value);
                self.attribute(target, key, value);
            }
        }
    }

    /// Gives a value to a key of a dict, or an attribute of an object.
    pub(crate) fn attribute(&mut self, target: NodeId, key: &str, value: NodeId) {
        let of = self.pickle.value(target);
        let dict = if of.as_dict().is_some() { Some(target) } else { of.state().map(Value::id) };
        let (Some(dict), place) = (dict, self.held(target, key)) else { return };
        let name = self.pickle.str(key);
        if let Node::Dict(dict) = self.pickle.node_mut(dict) {
            match place {
                Some(place) => dict.pairs[place].1 = value,
                None => dict.pairs.push((name, value)),
            }
        }
    }

    /// Where a key stands in a dict, or an attribute in an object.
    pub(crate) fn held(&self, target: NodeId, key: &str) -> Option<usize> {
        let of = self.pickle.value(target);
        let dict = if of.as_dict().is_some() { of } else { of.state()? };
        dict.pairs()?.position(|(known, _)| known.as_str() == Some(key))
    }

    fn pairs(&mut self, entries: Vec<(String, NodeId)>) -> Vec<(NodeId, NodeId)> {
        entries.into_iter().map(|(key, value)| (self.pickle.str(&key), value)).collect()
    }

    /// Plain data.
    pub(crate) fn json(&mut self, value: &Json) -> NodeId {
        match value {
            Json::Null => self.pickle.none(),
            Json::Bool(flag) => self.pickle.bool(*flag),
            Json::String(text) => self.pickle.str(text),
            Json::Number(number) => match number.as_i64() {
                Some(number) => self.pickle.int(number),
                None => self.pickle.float(number.as_f64().unwrap_or(0.0)),
            },
            Json::Array(items) => {
                let items = items.iter().map(|item| self.json(item)).collect();
                self.pickle.list(items)
            }
            Json::Object(entries) => {
                let entries =
                    entries.iter().map(|(key, value)| (key.clone(), self.json(value))).collect();
                self.dict(entries)
            }
        }
    }

    /// Copies a value of another file, with the storages in it.
    pub(crate) fn carry(
        &mut self,
        file: &TorchFile,
        value: Value<'_>,
    ) -> Result<NodeId, WriteError> {
        let before = self.pickle.len();
        let node = self.pickle.graft(value, |_, _| None);
        let mut keys: HashMap<String, usize> = HashMap::new();
        let next = self.storages.len();
        self.pickle.rename_storages(before, &mut |key| {
            let number = next + keys.len();
            keys.entry(key.to_owned()).or_insert(number).to_string()
        });
        let mut keys: Vec<(String, usize)> = keys.into_iter().collect();
        keys.sort_by_key(|(_, number)| *number);
        for (key, _) in keys {
            self.storages.push(Content::Known(storage(file, &key)?));
        }
        Ok(node)
    }

    /// The file: `path` in the folder, whose zip has the root folder `stem`.
    pub(crate) fn finish(self, path: String, stem: &str) -> Result<RunFile, WriteError> {
        let mut file = RunFile { path, len: 0, fixed: vec![], buffers: vec![], seal: None };
        let mut seal = Seal::default();
        self.append(stem, &mut file, &mut seal)?;
        file.close(seal);
        Ok(file)
    }

    /// Adds it to a file of several.
    pub(crate) fn append(
        self,
        stem: &str,
        file: &mut RunFile,
        seal: &mut Seal,
    ) -> Result<u64, WriteError> {
        let len = |content: &Content| match content {
            Content::Known(bytes) => bytes.len() as u64,
            Content::Buffer(buffer) => buffer.bytes(),
        };
        let sizes = self.storages.iter().enumerate();
        let sizes: Vec<(String, u64)> = sizes.map(|(at, c)| (at.to_string(), len(c))).collect();
        let layout = TorchLayout::new(stem, emit(&self.pickle)?, &sizes)?;
        let base = file.len;
        let mut known = Vec::with_capacity(self.storages.len());
        for (content, offset) in self.storages.into_iter().zip(layout.storage_offsets()) {
            match content {
                Content::Known(bytes) => {
                    known.push(Some(crc32fast::hash(&bytes)));
                    file.fixed.push((base + offset, bytes));
                }
                Content::Buffer(buffer) => {
                    known.push(None);
                    file.buffers.push((base + offset, buffer));
                }
            }
        }
        file.len += layout.total_len();
        seal.add(base, layout, known);
        Ok(base)
    }
}

impl RunFile {
    /// Gives it what closes it: at once if there are no buffers to wait for.
    pub(crate) fn close(&mut self, seal: Seal) {
        if self.buffers.is_empty() {
            self.fixed.extend(seal.close(&[]));
            self.fixed.sort_by_key(|(offset, _)| *offset);
        } else {
            self.seal = Some(seal);
        }
    }
}

/// Opens what goes along of a file, without what was converted.
pub(crate) fn open_carried(carried: &Carried) -> Result<TorchFile, Problem> {
    let opened = match carried.slice {
        Some((offset, len)) => TorchFile::open_slice(&carried.source, offset, len),
        None => TorchFile::open(&carried.source),
    };
    let mut file = opened.map_err(unreadable)?;
    for keys in &carried.without {
        crate::carry::remove(&mut file.value, keys);
    }
    Ok(file)
}

fn storage(file: &TorchFile, key: &str) -> Result<Vec<u8>, Problem> {
    let wrong = |what: String| {
        Problem::new(&file.path, format!("storage {key:?}, which goes along, {what}"))
            .help("Copy the file again from where it was written.")
    };
    let extent = file.storages.get(key).ok_or_else(|| wrong("is not in it".to_owned()))?;
    if extent.len > LARGEST {
        return Err(wrong(format!("has {} bytes, at most {LARGEST} can", extent.len)));
    }
    let unread = |error: std::io::Error| wrong(format!("can't be read: {error}"));
    let source = File::open(&file.path).map_err(unread)?;
    let mut bytes = vec![0; extent.len as usize];
    source.read_exact_at(&mut bytes, extent.offset).map_err(unread)?;
    extent.verify(crc32fast::hash(&bytes)).map_err(|problem| wrong(problem.to_string()))?;
    Ok(bytes)
}
