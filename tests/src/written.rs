//! What a conversion wrote, read with the safetensors crate.

use crate::oracle::{Known, Tensors};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The tensors of a universal folder, by state, from the safetensors files alone.
pub fn states(folder: &Path) -> BTreeMap<String, Tensors> {
    let mut states: BTreeMap<String, Tensors> = BTreeMap::new();
    for path in files(folder) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some((series, _)) = name.split_once("-0").filter(|_| name.ends_with(".safetensors"))
        else {
            continue;
        };
        let bytes = std::fs::read(&path).expect("a file that was written");
        let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("a safetensors file");
        for (name, view) in tensors.tensors() {
            let twice =
                states.entry(series.to_owned()).or_default().insert(name.clone(), known(&view));
            assert!(twice.is_none(), "{name} is written twice");
        }
    }
    states
}

/// The tensors of a Hugging Face folder.
pub fn model(folder: &Path) -> Tensors {
    let mut model = Tensors::new();
    for (name, (known, _)) in values(folder) {
        model.insert(name, known);
    }
    model
}

/// The tensors of all safetensors files of a folder, with their bytes.
pub fn values(folder: &Path) -> BTreeMap<String, (Known, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for path in
        files(folder).iter().filter(|path| path.extension().is_some_and(|e| e == "safetensors"))
    {
        let bytes = std::fs::read(path).expect("a file that was written");
        let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("a safetensors file");
        for (name, view) in tensors.tensors() {
            let twice = found.insert(name.clone(), (known(&view), view.data().to_vec()));
            assert!(twice.is_none(), "{name} is written twice");
        }
    }
    found
}

/// Writes a safetensors file of tensors: name, type, shape, bytes.
pub fn save(path: &Path, tensors: &[(String, &str, Vec<u64>, Vec<u8>)]) {
    let dtype = |name: &str| serde_json::from_value(name.into()).expect("a type");
    let views = tensors.iter().map(|(name, to, shape, bytes)| {
        let shape = shape.iter().map(|n| usize::try_from(*n).expect("a size")).collect();
        let view = safetensors::tensor::TensorView::new(dtype(to), shape, bytes);
        (name.clone(), view.expect("a tensor"))
    });
    let bytes = safetensors::serialize(views, None).expect("a file");
    std::fs::write(path, bytes).expect("a file");
}

/// What an oracle would say of a tensor.
pub fn known(view: &safetensors::tensor::TensorView<'_>) -> Known {
    Known {
        dtype: view.dtype().to_string(),
        shape: view.shape().iter().map(|n| *n as u64).collect(),
        sha256: sha256(view.data()),
    }
}

/// A digest as oracles have it.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// All files below a folder, by relative path, with their digests.
pub fn digests(folder: &Path) -> BTreeMap<PathBuf, String> {
    files(folder)
        .into_iter()
        .map(|path| {
            let bytes = std::fs::read(&path).expect("a file");
            let relative = path.strip_prefix(folder).expect("below").to_owned();
            (relative, hex(&Sha256::digest(&bytes)))
        })
        .collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries =
        std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
