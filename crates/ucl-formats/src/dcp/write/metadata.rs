//! `.metadata`: the lists of entries and of the places of their items.

use super::{Entry, Piece};
use crate::dcp::metadata::Place;
use crate::target::WriteError;
use crate::torch::{Made, Node, NodeId, Object, Pickle, emit};
use indexmap::IndexMap;
use serde_json::Value as Json;
use std::collections::HashMap;
use ucl_tensor::DType;

/// The module of its classes since torch 2.3.
const MODULE: &str = "torch.distributed.checkpoint.metadata";

/// The version that torch writes.
const VERSION: &str = "1.0.0";

/// The bytes of the file.
pub(super) fn bytes(
    entries: &IndexMap<String, Entry>,
    paths: &IndexMap<String, Vec<Json>>,
) -> Result<Vec<u8>, WriteError> {
    let mut list = List { pickle: Pickle::new(), properties: HashMap::new() };
    let (mut listed, mut stored) = (Vec::new(), Vec::new());
    for (name, entry) in entries {
        let key = list.pickle.str(name);
        let value = match entry {
            Entry::Tensor { dtype, shape, chunks } => {
                for chunk in chunks {
                    stored.push(list.stored(name, Some(&chunk.offsets), &chunk.place));
                }
                list.tensor(*dtype, shape, chunks)?
            }
            Entry::Object(place) => {
                stored.push(list.stored(name, None, place));
                list.object(MODULE, "BytesStorageMetadata", &[])
            }
        };
        listed.push((key, value));
    }
    let listed = list.pickle.dict(listed);
    let stored = list.pickle.dict(stored);
    let planner = list.paths(paths);
    let (none, modules) = (list.pickle.none(), list.pickle.list(Vec::new()));
    let about =
        [("checkpoint_id", none), ("save_id", none), ("load_id", none), ("modules", modules)];
    let about = list.object(MODULE, "StorageMeta", &about);
    let version = list.pickle.str(VERSION);
    let root = [
        ("state_dict_metadata", listed),
        ("planner_data", planner),
        ("storage_data", stored),
        ("storage_meta", about),
        ("version", version),
    ];
    let root = list.object(MODULE, "Metadata", &root);
    list.pickle.set_root(root);
    Ok(emit(&list.pickle)?)
}

struct List {
    pickle: Pickle,
    /// By type: all tensors of one have the same.
    properties: HashMap<DType, NodeId>,
}

impl List {
    fn object(&mut self, module: &str, class: &str, attributes: &[(&str, NodeId)]) -> NodeId {
        let attributes: Vec<_> =
            attributes.iter().map(|(key, value)| (self.pickle.str(key), *value)).collect();
        if attributes.is_empty() {
            let class = self.pickle.global(module, class);
            let args = self.pickle.tuple(&[]);
            return self.pickle.push(Node::Object(Box::new(Object::new(class, args, Made::New))));
        }
        self.pickle.object(module, class, attributes)
    }

    fn tensor(
        &mut self,
        dtype: DType,
        shape: &[u64],
        chunks: &[Piece],
    ) -> Result<NodeId, WriteError> {
        let properties = self.properties(dtype)?;
        let size = self.pickle.size(shape);
        let chunks = chunks
            .iter()
            .map(|chunk| {
                let offsets = self.pickle.size(&chunk.offsets);
                let sizes = self.pickle.size(&chunk.shape);
                let attributes = [("offsets", offsets), ("sizes", sizes)];
                self.object(MODULE, "ChunkStorageMetadata", &attributes)
            })
            .collect();
        let chunks = self.pickle.list(chunks);
        let attributes = [("properties", properties), ("size", size), ("chunks", chunks)];
        Ok(self.object(MODULE, "TensorStorageMetadata", &attributes))
    }

    /// Their state is a tuple: type, layout, gradients wanted, memory format, pinned.
    fn properties(&mut self, dtype: DType) -> Result<NodeId, WriteError> {
        if let Some(known) = self.properties.get(&dtype) {
            return Ok(*known);
        }
        let pickle = &mut self.pickle;
        let element = pickle.dtype(dtype).ok_or(WriteError::DType(dtype))?;
        let strided = pickle.str("torch.strided");
        let layout = pickle.call("torch.serialization", "_get_layout", &[strided]);
        let contiguous = pickle.int(0);
        let format = pickle.call(MODULE, "_MEM_FORMAT_ENCODING", &[contiguous]);
        let no = pickle.bool(false);
        let state = pickle.tuple(&[element, layout, no, format, no]);
        let class = pickle.global(MODULE, "TensorProperties");
        let args = pickle.tuple(&[]);
        let mut object = Object::new(class, args, Made::New);
        object.state = Some(state);
        let node = pickle.push(Node::Object(Box::new(object)));
        self.properties.insert(dtype, node);
        Ok(node)
    }

    /// Where an item lies. A tensor's chunk is known by its offsets.
    fn stored(&mut self, name: &str, offsets: Option<&[u64]>, place: &Place) -> (NodeId, NodeId) {
        let none = self.pickle.none();
        let fqn = self.pickle.str(name);
        let offset = offsets.map_or(none, |offsets| self.pickle.size(offsets));
        let key = [("fqn", fqn), ("offset", offset), ("index", none)];
        let key = self.object(MODULE, "MetadataIndex", &key);
        let file = self.pickle.str(&place.file);
        let (offset, length) = (self.number(place.offset), self.number(place.len));
        let module = "torch.distributed.checkpoint.filesystem";
        let value = [("relative_path", file), ("offset", offset), ("length", length)];
        (key, self.object(module, "_StorageInfo", &value))
    }

    /// Files are far below 2^63 bytes: they were laid out.
    fn number(&mut self, bytes: u64) -> NodeId {
        self.pickle.int(i64::try_from(bytes).unwrap_or(i64::MAX))
    }

    fn paths(&mut self, paths: &IndexMap<String, Vec<Json>>) -> NodeId {
        if paths.is_empty() {
            return self.pickle.none();
        }
        let mut pairs = Vec::with_capacity(paths.len());
        for (name, keys) in paths {
            let keys: Vec<NodeId> = keys
                .iter()
                .map(|key| match key.as_i64() {
                    Some(number) => self.pickle.int(number),
                    None => self.pickle.str(key.as_str().unwrap_or_default()),
                })
                .collect();
            pairs.push((self.pickle.str(name), self.pickle.tuple(&keys)));
        }
        self.pickle.dict(pairs)
    }
}
