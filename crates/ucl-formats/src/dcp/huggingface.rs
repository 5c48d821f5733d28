//! Shards of the Hugging Face storage writer: `shard-00001-model-00001-of-00002.safetensors`.
//!
//! Each rank writes its chunks under the tensors' own names; where a chunk begins is in the file's
//! metadata (`DCP_SHARDING_INFO`). The whole shape is in no file: it is what the chunks reach.

use crate::grid;
use crate::inventory::{
    Chunk, Data, FileId, Inventory, Mesh, Problem, Role, SourceFile, Stored, row_major,
};
use crate::safetensors::{Header, read_header};
use indexmap::IndexMap;
use std::path::{Path, PathBuf};
use ucl_tensor::DType;

/// The key of the chunks' offsets.
const SHARDING: &str = "DCP_SHARDING_INFO";

/// Whether a name is one that the writer gives to a rank's file.
pub(crate) fn is_shard(name: &str) -> bool {
    let digits = |text: &str| text.len() >= 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let parts = name
        .strip_prefix("shard-")
        .and_then(|rest| rest.strip_suffix(".safetensors"))
        .and_then(|rest| rest.split_once("-model-"));
    parts.is_some_and(|(rank, rest)| {
        digits(rank) && rest.split_once("-of-").is_some_and(|(one, all)| digits(one) && digits(all))
    })
}

/// The shards in a folder, by rank and number.
pub(super) fn shards(root: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let named = |entry: &std::fs::DirEntry| entry.file_name().to_str().is_some_and(is_shard);
    let mut paths: Vec<_> = entries.filter(named).map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// A tensor as the files read so far have it.
struct Growing {
    dtype: DType,
    file: FileId,
    chunks: Vec<Chunk>,
}

/// Adds the tensors of all shards to an inventory.
pub(super) fn survey(paths: &[PathBuf], inventory: &mut Inventory, problems: &mut Vec<Problem>) {
    let mut tensors: IndexMap<String, Growing> = IndexMap::new();
    for path in paths {
        let header = match read_header(path) {
            Ok(header) => header,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        let file = inventory.files.len() as FileId;
        inventory.files.push(SourceFile {
            path: path.clone(),
            bytes: header.bytes,
            header_bytes: header.data,
        });
        if let Err(problem) = add(path, file, header, &mut tensors) {
            problems.push(problem);
        }
    }
    if !problems.is_empty() {
        return;
    }
    for (name, tensor) in tensors {
        let path = inventory.files.get(tensor.file as usize).map(|file| file.path.clone());
        match whole(&name, tensor) {
            Ok(stored) => inventory.tensors.push(stored),
            Err(message) => problems.push(
                Problem::new(path.unwrap_or_default(), message)
                    .help("Bring the shards of all ranks of one save into one folder."),
            ),
        }
    }
    inventory.notes.push(
        "Whole shapes are what the chunks reach; that rows at the end are in no file could not be seen."
            .to_owned(),
    );
}

fn add(
    path: &Path,
    file: FileId,
    header: Header,
    tensors: &mut IndexMap<String, Growing>,
) -> Result<(), Problem> {
    let sharding = header.metadata.get(SHARDING).ok_or_else(|| {
        Problem::new(
            path,
            format!("its header has no {SHARDING}, which says where its chunks begin"),
        )
    })?;
    let wrong = |what: String| Problem::new(path, format!("{SHARDING} in its header {what}"));
    let sharding: serde_json::Value =
        serde_json::from_str(sharding).map_err(|error| wrong(format!("is no JSON: {error}")))?;
    for tensor in header.tensors {
        let offsets = sharding.get(&tensor.name).and_then(|entry| entry.get("saved_offsets"));
        let offsets: Option<Vec<u64>> = offsets
            .and_then(|list| list.as_array()?.iter().map(serde_json::Value::as_u64).collect());
        let Some(offsets) = offsets.filter(|offsets| offsets.len() == tensor.shape.len()) else {
            return Err(wrong(format!("does not say where the chunk of `{}` begins", tensor.name)));
        };
        let chunk = Chunk {
            offsets,
            strides: row_major(&tensor.shape),
            shape: tensor.shape,
            file,
            offset: tensor.offset,
        };
        let known = tensors.entry(tensor.name.clone()).or_insert_with(|| Growing {
            dtype: tensor.dtype,
            file,
            chunks: Vec::new(),
        });
        let dims = known.chunks.first().map_or(chunk.shape.len(), |first| first.shape.len());
        if known.dtype != tensor.dtype || dims != chunk.shape.len() {
            let message = format!(
                "the chunk of `{}` has {} dims of {}, another file's {dims} of {}",
                tensor.name,
                chunk.shape.len(),
                tensor.dtype.name(),
                known.dtype.name()
            );
            return Err(Problem::new(path, message));
        }
        known.chunks.push(chunk);
    }
    Ok(())
}

/// A tensor of all its chunks.
fn whole(name: &str, tensor: Growing) -> Result<Stored, String> {
    let dims = tensor.chunks.first().map_or(0, |chunk| chunk.shape.len());
    let reach = |dim: usize| {
        let ends =
            tensor.chunks.iter().map(|chunk| chunk.offsets[dim].saturating_add(chunk.shape[dim]));
        ends.max().unwrap_or(0)
    };
    let shape: Vec<u64> = (0..dims).map(reach).collect();
    let boxes: Vec<_> = tensor
        .chunks
        .iter()
        .map(|chunk| (chunk.offsets.as_slice(), chunk.shape.as_slice()))
        .collect();
    grid::check(&shape, &boxes).map_err(|uneven| match uneven {
        grid::Uneven::Gap(missing) => {
            format!("`{name}` is not whole: {missing} of the elements of {shape:?} are in no file")
        }
        _ => format!("chunks of `{name}` overlap or lie outside of {shape:?}"),
    })?;
    let mut chunks = tensor.chunks;
    chunks.retain(|chunk| !chunk.shape.contains(&0));
    let data = Data::of_chunks(&shape, chunks);
    let role = if tensor.dtype.is_float() { Role::Trained } else { Role::Buffer };
    let name = crate::named::bare(name, &mut false);
    Ok(Stored {
        name,
        state: "param".to_owned(),
        dtype: tensor.dtype,
        shape,
        at: Mesh::new(),
        role,
        data,
    })
}

#[cfg(test)]
mod tests {
    use super::is_shard;

    #[test]
    fn names() {
        assert!(is_shard("shard-00001-model-00001-of-00002.safetensors"));
        assert!(!is_shard("model-00001-of-00002.safetensors"));
        assert!(!is_shard("shard-1-model-x-of-00002.safetensors"));
    }
}
