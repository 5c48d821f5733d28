//! Weights as `save_pretrained` writes them, to the byte.

use crate::inventory::Role;
use crate::safetensors::{Unwritable, reference_layout};
use crate::target::{Laid, Wanted};
use indexmap::IndexMap;
use serde_json::json;
use std::collections::BTreeMap;

/// One file, or shards and their index.
pub(crate) fn files(
    tensors: &[Wanted],
    max_bytes: u64,
    metadata: &IndexMap<String, String>,
) -> Result<Vec<Laid>, Unwritable> {
    // Loaders refuse a file that does not say which framework it is for; names and shapes are torch's,
    // whatever the source's files were for.
    let mut said = metadata.clone();
    said.insert("format".to_owned(), "pt".to_owned());
    let shards = shards(tensors, max_bytes);
    let mut files = Vec::new();
    let mut places = BTreeMap::new();
    for (number, shard) in shards.iter().enumerate() {
        let path = match shards.len() {
            1 => "model.safetensors".to_owned(),
            count => format!("model-{:05}-of-{count:05}.safetensors", number + 1),
        };
        places.extend(shard.iter().map(|at| (tensors[*at].name.as_str(), path.clone())));
        let entries: Vec<_> = shard.iter().map(|at| tensors[*at].entry()).collect();
        files.push(Laid::safetensors(path, shard, reference_layout(&entries, &said)?));
    }
    if shards.len() > 1 {
        files.push(index(tensors, &places));
    }
    Ok(files)
}

/// What is larger than a file may be gets a file at once, and what stands before and after it shares
/// one. Tensors that are joined count as one.
fn shards(tensors: &[Wanted], max_bytes: u64) -> Vec<Vec<usize>> {
    let mut shards = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    let mut bytes = 0;
    let mut first = 0;
    for joined in tensors.chunk_by(|_, next| next.joined) {
        let numbers = first..first + joined.len();
        first = numbers.end;
        let size = joined.iter().map(Wanted::bytes).sum::<u64>();
        if size > max_bytes {
            shards.push(numbers.collect());
            continue;
        }
        if bytes + size > max_bytes {
            shards.push(std::mem::take(&mut open));
            bytes = 0;
        }
        open.extend(numbers);
        bytes += size;
    }
    if !open.is_empty() || shards.is_empty() {
        shards.push(open);
    }
    shards
}

/// Which file holds which tensor.
fn index(tensors: &[Wanted], places: &BTreeMap<&str, String>) -> Laid {
    let parameters = tensors.iter().filter(|tensor| tensor.role != Role::Buffer);
    let index = json!({
        "metadata": {
            "total_parameters": parameters.map(Wanted::elements).sum::<u64>(),
            "total_size": tensors.iter().map(Wanted::bytes).sum::<u64>(),
        },
        "weight_map": places,
    });
    let header = format!("{}\n", ascii(&format!("{index:#}"))).into_bytes();
    let path = "model.safetensors.index.json".to_owned();
    Laid { path, len: header.len() as u64, header, tensors: Vec::new() }
}

/// JSON as Python writes it: in ASCII.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for letter in json.chars() {
        if letter.is_ascii() {
            text.push(letter);
        } else {
            let units = letter
                .encode_utf16(&mut [0; 2])
                .iter()
                .map(|unit| format!("\\u{unit:04x}"))
                .collect::<String>();
            text.push_str(&units);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use ucl_tensor::DType;

    fn tensors(sizes: &[u64]) -> Vec<Wanted> {
        let one = |(number, size): (usize, &u64)| Wanted {
            name: format!("t{number}"),
            state: "param".to_owned(),
            dtype: DType::U8,
            shape: vec![*size],
            role: Role::Trained,
            joined: false,
        };
        sizes.iter().enumerate().map(one).collect()
    }

    #[test]
    fn shards_are_cut_as_transformers_cuts_them() {
        for (sizes, expected) in [
            (&[4, 6, 1][..], vec![vec![0, 1], vec![2]]),
            // The large one is closed before those that are open already.
            (&[4, 11, 6, 1], vec![vec![1], vec![0, 2], vec![3]]),
            (&[11], vec![vec![0]]),
            (&[11, 12], vec![vec![0], vec![1]]),
            (&[10, 10], vec![vec![0], vec![1]]),
            (&[0, 10, 0], vec![vec![0, 1, 2]]),
            (&[], vec![vec![]]),
        ] {
            assert_eq!(shards(&tensors(sizes), 10), expected, "{sizes:?}");
        }
    }

    #[test]
    fn what_is_joined_is_not_cut() {
        let mut tensors = tensors(&[4, 3, 4, 2, 2]);
        tensors[2].joined = true;
        assert_eq!(shards(&tensors, 10), [vec![0], vec![1, 2, 3], vec![4]]);
        assert_eq!(shards(&tensors, 6), [vec![1, 2], vec![0, 3], vec![4]]);
    }

    #[test]
    fn an_index_is_ascii() {
        assert_eq!(ascii("\"é😀\""), "\"\\u00e9\\ud83d\\ude00\"");
    }
}
