//! Weights as `save_pretrained` writes them, to the byte.

use super::states;
use crate::inventory::Role;
use crate::safetensors::{Unwritable, reference_layout};
use crate::target::{Laid, Wanted};
use indexmap::IndexMap;
use serde_json::json;
use std::collections::BTreeMap;

/// The state of the model's own weights.
const WEIGHTS: &str = "param";

/// One file, or shards and their index; and such a series for each state of the optimizer.
pub(crate) fn files(
    tensors: &[Wanted],
    max_bytes: u64,
    metadata: &IndexMap<String, String>,
) -> Result<Vec<Laid>, Unwritable> {
    // Loaders refuse a file that does not say which framework it is for; names and shapes are torch's,
    // whatever the source's files were for.
    let mut said = metadata.clone();
    said.insert("format".to_owned(), "pt".to_owned());
    let mut states: IndexMap<&str, Vec<usize>> = IndexMap::new();
    states.insert(WEIGHTS, Vec::new());
    for (number, tensor) in tensors.iter().enumerate() {
        states.entry(&tensor.state).or_default().push(number);
    }
    let mut files = Vec::new();
    for (state, numbers) in states {
        files.extend(series(tensors, &numbers, state, max_bytes, &said)?);
    }
    Ok(files)
}

/// The files of a state.
fn series(
    tensors: &[Wanted],
    numbers: &[usize],
    state: &str,
    max_bytes: u64,
    said: &IndexMap<String, String>,
) -> Result<Vec<Laid>, Unwritable> {
    let of_model = state == WEIGHTS;
    let mut said = if of_model { said.clone() } else { IndexMap::new() };
    said.insert("format".to_owned(), "pt".to_owned());
    let shards = shards(tensors, numbers, max_bytes);
    let mut files = Vec::new();
    let mut places = BTreeMap::new();
    for (number, shard) in shards.iter().enumerate() {
        let path = match shards.len() {
            count if !of_model => states::file(state, number, count),
            1 => "model.safetensors".to_owned(),
            count => format!("model-{:05}-of-{count:05}.safetensors", number + 1),
        };
        // An index names files beside it.
        let name = path.rsplit('/').next().unwrap_or(&path).to_owned();
        places.extend(shard.iter().map(|at| (tensors[*at].name.as_str(), name.clone())));
        let entries: Vec<_> = shard.iter().map(|at| tensors[*at].entry()).collect();
        files.push(Laid::safetensors(path, shard, reference_layout(&entries, &said)?));
    }
    if shards.len() > 1 {
        let path = match of_model {
            true => "model.safetensors.index.json".to_owned(),
            false => states::file(state, 0, 1) + ".index.json",
        };
        let held: Vec<&Wanted> = numbers.iter().map(|at| &tensors[*at]).collect();
        files.push(index(path, &held, &places));
    }
    Ok(files)
}

/// What is larger than a file may be gets a file at once, and what stands before and after it shares
/// one. Tensors that are joined count as one.
fn shards(tensors: &[Wanted], numbers: &[usize], max_bytes: u64) -> Vec<Vec<usize>> {
    let mut shards = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    let mut bytes = 0;
    for joined in numbers.chunk_by(|_, next| tensors[*next].joined) {
        let size = joined.iter().map(|at| tensors[*at].bytes()).sum::<u64>();
        if size > max_bytes {
            shards.push(joined.to_vec());
            continue;
        }
        if bytes + size > max_bytes {
            shards.push(std::mem::take(&mut open));
            bytes = 0;
        }
        open.extend(joined);
        bytes += size;
    }
    if !open.is_empty() || shards.is_empty() {
        shards.push(open);
    }
    shards
}

/// Which file holds which tensor.
fn index(path: String, tensors: &[&Wanted], places: &BTreeMap<&str, String>) -> Laid {
    let parameters = tensors.iter().filter(|tensor| tensor.role != Role::Buffer);
    let index = json!({
        "metadata": {
            "total_parameters": parameters.map(|tensor| tensor.elements()).sum::<u64>(),
            "total_size": tensors.iter().map(|tensor| tensor.bytes()).sum::<u64>(),
        },
        "weight_map": places,
    });
    Laid::text(path, format!("{}\n", ascii(&format!("{index:#}"))))
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
            let tensors = tensors(sizes);
            let all: Vec<usize> = (0..tensors.len()).collect();
            assert_eq!(shards(&tensors, &all, 10), expected, "{sizes:?}");
        }
    }

    #[test]
    fn what_is_joined_is_not_cut() {
        let mut tensors = tensors(&[4, 3, 4, 2, 2]);
        tensors[2].joined = true;
        assert_eq!(shards(&tensors, &[0, 1, 2, 3, 4], 10), [vec![0], vec![1, 2, 3], vec![4]]);
        assert_eq!(shards(&tensors, &[0, 1, 2, 3, 4], 6), [vec![1, 2], vec![0, 3], vec![4]]);
    }

    #[test]
    fn an_index_is_ascii() {
        assert_eq!(ascii("\"é😀\""), "\"\\u00e9\\ud83d\\ude00\"");
    }
}
