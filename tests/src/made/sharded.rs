//! A sharded save, from chunks: `.metadata` and `.distcp` files as torch and Megatron-core write them.

use super::pt::Pt;
use serde_json::Value;
use std::fs;
use std::path::Path;
use ucl_formats::torch::{NodeId, Pickle, emit};
use ucl_tensor::DType;

/// Files that items go to in turn.
const FILES: usize = 2;

/// A chunk: its first index and extents per dim, and its elements.
pub type Part = (Vec<u64>, Vec<u64>, Vec<u8>);

/// A sharded save in the making.
#[derive(Default)]
pub struct Sharded {
    files: [Vec<u8>; FILES],
    items: usize,
    pickle: Pickle,
    listed: Vec<(NodeId, NodeId)>,
    stored: Vec<(NodeId, NodeId)>,
    unflattened: Vec<(NodeId, NodeId)>,
    /// Whether classes have the names that they had before torch 2.3.
    pub old: bool,
}

const METADATA: &str = "torch.distributed.checkpoint.metadata";

impl Sharded {
    /// Adds a tensor.
    pub fn tensor(&mut self, name: &str, dtype: DType, shape: &[u64], parts: Vec<Part>) {
        let mut chunks = Vec::new();
        for (offsets, extents, bytes) in parts {
            let mut pt = Pt::default();
            let root = pt.tensor(dtype, &extents, bytes);
            self.place(name, Some(&offsets), &pt.bytes(root));
            let offsets = self.attribute_sizes("offsets", &offsets);
            let sizes = self.attribute_sizes("sizes", &extents);
            chunks.push(self.pickle.object(METADATA, "ChunkStorageMetadata", vec![offsets, sizes]));
        }
        let properties = self.properties(dtype);
        let key = self.pickle.str("properties");
        let size = self.attribute_sizes("size", shape);
        let (chunks_key, chunks) = (self.pickle.str("chunks"), self.pickle.list(chunks));
        let attributes = vec![(key, properties), size, (chunks_key, chunks)];
        let entry = self.pickle.object(METADATA, "TensorStorageMetadata", attributes);
        let name = self.pickle.str(name);
        self.listed.push((name, entry));
    }

    /// Adds an object; Megatron-core's are lists of one.
    pub fn object(&mut self, name: &str, value: &Value) {
        let mut pt = Pt::default();
        let root = pt.json(value);
        self.place(name, None, &pt.bytes(root));
        let entry = self.pickle.object(METADATA, "BytesStorageMetadata", Vec::new());
        let name = self.pickle.str(name);
        self.listed.push((name, entry));
    }

    /// Says in `mcore_data` which shape a flattened tensor has.
    pub fn unflattened(&mut self, name: &str, shape: &[u64]) {
        let sizes = self.pickle.size(shape);
        let key = self.pickle.str("nd_reformulated_orig_global_shape");
        let data = self.pickle.dict(vec![(key, sizes)]);
        let name = self.pickle.str(name);
        self.unflattened.push((name, data));
    }

    /// Writes the folder.
    pub fn write(mut self, folder: &Path) {
        fs::create_dir_all(folder).expect("a folder");
        for (number, bytes) in self.files.iter().enumerate() {
            fs::write(folder.join(format!("__{number}_0.distcp")), bytes).expect("written");
        }
        let mut attributes = Vec::new();
        for (key, pairs) in [
            ("state_dict_metadata", &self.listed),
            ("storage_data", &self.stored),
            ("mcore_data", &self.unflattened),
        ] {
            let dict = self.pickle.dict(pairs.clone());
            attributes.push((self.pickle.str(key), dict));
        }
        let root = self.pickle.object(METADATA, "Metadata", attributes);
        self.pickle.set_root(root);
        fs::write(folder.join(".metadata"), emit(&self.pickle).expect("a pickle"))
            .expect("written");
    }

    fn attribute_sizes(&mut self, key: &str, sizes: &[u64]) -> (NodeId, NodeId) {
        (self.pickle.str(key), self.pickle.size(sizes))
    }

    /// The state is a tuple, the type its first item.
    fn properties(&mut self, dtype: DType) -> NodeId {
        let module =
            if self.old { "torch.distributed._shard.sharded_tensor.metadata" } else { METADATA };
        let object = self.pickle.object(module, "TensorProperties", Vec::new());
        let dtype = self.pickle.dtype(dtype).expect("torch has the type");
        let no = self.pickle.bool(false);
        let state = self.pickle.tuple(&[dtype, no, no, no, no]);
        if let ucl_formats::torch::Node::Object(held) = self.pickle.node_mut(object) {
            held.state = Some(state);
        }
        object
    }

    fn place(&mut self, name: &str, offsets: Option<&[u64]>, item: &[u8]) {
        let number = self.items % FILES;
        self.items += 1;
        let at = self.files[number].len() as u64;
        self.files[number].extend(item);
        let pickle = &mut self.pickle;
        let mut index = vec![(pickle.str("fqn"), pickle.str(name))];
        if let Some(offsets) = offsets {
            index.push((pickle.str("offset"), pickle.size(offsets)));
        }
        let index = pickle.object(METADATA, "MetadataIndex", index);
        let number = |value: usize| i64::try_from(value).expect("a small file");
        let info = vec![
            (
                pickle.str("relative_path"),
                pickle.str(&format!("__{}_0.distcp", (self.items - 1) % FILES)),
            ),
            (pickle.str("offset"), pickle.int(number(at as usize))),
            (pickle.str("length"), pickle.int(number(item.len()))),
        ];
        let module = "torch.distributed.checkpoint.filesystem";
        let info = pickle.object(module, "_StorageInfo", info);
        self.stored.push((index, info));
    }
}
