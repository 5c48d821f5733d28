//! Files made by the writer here, damaged in every way, and pickles written by Python.

mod extents;
mod hostile_pickle;
mod hostile_zip;
mod legacy;
mod round_trip;

use std::path::Path;

use ucl_tensor::DType;

use super::{NodeId, Pickle, TorchError, TorchErrorKind, TorchFile, TorchLayout, emit};

/// A state dict of two tensors in one storage, one of another, and a Namespace.
fn sample() -> Pickle {
    let mut pickle = Pickle::new();
    let weight = pickle.tensor("0", 12, DType::F32, 0, &[3, 2], &[2, 1]);
    let bias = pickle.tensor("0", 12, DType::F32, 6, &[2, 3], &[1, 2]);
    let scale = pickle.whole_tensor("1", DType::F8E4M3, &[5]);
    let args = {
        let name = pickle.str("hidden_size");
        let size = pickle.int(32);
        pickle.namespace(vec![(name, size)])
    };
    let mut pairs = Vec::new();
    for (key, value) in [
        ("weight", weight.unwrap()),
        ("bias", bias.unwrap()),
        ("scale", scale.unwrap()),
        ("args", args),
    ] {
        pairs.push((pickle.str(key), value));
    }
    let root = pickle.ordered_dict(pairs);
    pickle.set_root(root);
    pickle
}

/// The sample as a file: storage `0` holds 0, 1, … 47, storage `1` 100, 101, ….
fn sample_file() -> Vec<u8> {
    let first: Vec<u8> = (0..48).collect();
    let second: Vec<u8> = (100..105).collect();
    file("sample", emit(&sample()).unwrap(), &[("0", &first), ("1", &second)])
}

fn file(root: &str, pickle: Vec<u8>, storages: &[(&str, &[u8])]) -> Vec<u8> {
    let lengths: Vec<_> = storages.iter().map(|(key, data)| (*key, data.len() as u64)).collect();
    let layout = TorchLayout::new(root, pickle, &lengths).unwrap();
    let crcs: Vec<_> = storages.iter().map(|(_, data)| Some(crc32fast::hash(data))).collect();
    let mut bytes = vec![0; layout.total_len() as usize];
    let mut put = |at: u64, piece: &[u8]| {
        bytes[at as usize..at as usize + piece.len()].copy_from_slice(piece);
    };
    for (at, (_, data)) in layout.storage_offsets().iter().zip(storages) {
        put(*at, data);
    }
    for (at, chunk) in layout.chunks(&crcs) {
        put(at, &chunk);
    }
    bytes
}

fn open(bytes: &[u8]) -> Result<TorchFile, TorchError> {
    TorchFile::from_bytes(Path::new("sample.pt"), bytes)
}

fn problem(bytes: &[u8]) -> TorchErrorKind {
    *open(bytes).expect_err("a damaged file").kind
}

/// Everything a reader may do with a file, whatever is in it.
fn exercise(file: &TorchFile) {
    for node in file.value.nodes() {
        if let super::Node::Tensor(tensor) = node {
            let _ = file.extent(tensor);
        }
    }
    exercise_pickle(&file.value);
}

fn exercise_pickle(pickle: &Pickle) {
    for index in 0..pickle.len() {
        let value = pickle.value(NodeId(index as u32));
        let _ = (value.as_i64(), value.as_u64(), value.as_f64(), value.as_str(), value.class());
        let _ = (value.as_shape(), value.get("weight"), value.attr("x"), value.index(1));
    }
    let _ = emit(pickle);
}
