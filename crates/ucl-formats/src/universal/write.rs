//! The files of tensors of a universal folder: a series for each state.

use crate::safetensors::{Unwritable, layout};
use crate::target::{Laid, Wanted};
use indexmap::IndexMap;

/// Lays the tensors of each state out over a series of files: a file is full when the next tensor
/// would make it larger than `max_bytes`.
pub(crate) fn files(tensors: &[Wanted], max_bytes: u64) -> Result<Vec<Laid>, Unwritable> {
    let mut states: IndexMap<&str, Vec<usize>> = IndexMap::new();
    for (number, tensor) in tensors.iter().enumerate() {
        states.entry(&tensor.state).or_default().push(number);
    }
    let mut files = Vec::new();
    for (state, numbers) in states {
        let metadata = [("format", "pt"), ("state", state)];
        let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let metadata: IndexMap<String, String> = metadata.into_iter().collect();
        let shards = shards(tensors, &numbers, max_bytes);
        for (number, shard) in shards.iter().enumerate() {
            let path = format!("{state}-{:05}-of-{:05}.safetensors", number + 1, shards.len());
            let entries: Vec<_> = shard.iter().map(|at| tensors[*at].entry()).collect();
            files.push(Laid::safetensors(path, shard, layout(&entries, &metadata)?));
        }
    }
    Ok(files)
}

fn shards(tensors: &[Wanted], numbers: &[usize], max_bytes: u64) -> Vec<Vec<usize>> {
    let mut shards: Vec<Vec<usize>> = Vec::new();
    let mut bytes = 0;
    for number in numbers {
        let size = tensors[*number].bytes();
        if shards.is_empty() || (bytes > 0 && bytes + size > max_bytes) {
            shards.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        if let Some(shard) = shards.last_mut() {
            shard.push(*number);
        }
    }
    shards
}
