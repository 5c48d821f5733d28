//! Brings a stored tensor together, one run or element at a time.

use sha2::{Digest, Sha256};
use std::fs::File;
use std::os::unix::fs::FileExt;
use ucl_formats::inventory::{Data, Inventory, Stored, row_major};

/// The SHA-256 of a tensor's row-major little-endian bytes. Every element has to be stored once.
pub(crate) fn sha256(inventory: &Inventory, stored: &Stored) -> String {
    let bytes = bytes(inventory, stored);
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(inventory: &Inventory, stored: &Stored) -> Vec<u8> {
    let size = stored.dtype.size_bytes();
    let numel: u64 = stored.shape.iter().product();
    let mut bytes = vec![0; (numel * size) as usize];
    let open = |file: u32| File::open(&inventory.files[file as usize].path).unwrap();
    match &stored.data {
        Data::Runs(runs) => {
            let mut next = 0;
            for run in runs {
                assert_eq!(run.start, next, "{} has a hole or an overlap", stored.name);
                next += run.len;
                let target = &mut bytes[(run.start * size) as usize..(next * size) as usize];
                open(run.file).read_exact_at(target, run.offset).unwrap();
            }
            assert_eq!(next, numel, "{} ends too early", stored.name);
        }
        Data::Strided { file, offset, strides } => {
            let file = open(*file);
            for (index, target) in bytes.chunks_exact_mut(size as usize).enumerate() {
                let at = indices(index as u64, &stored.shape);
                file.read_exact_at(target, offset + dot(&at, strides) * size).unwrap();
            }
        }
        Data::Boxes(chunks) => {
            let mut found = vec![false; numel as usize];
            let whole = row_major(&stored.shape);
            for chunk in chunks {
                let file = open(chunk.file);
                for index in 0..chunk.elements() {
                    let within = indices(index, &chunk.shape);
                    let at: Vec<u64> =
                        within.iter().zip(&chunk.offsets).map(|(a, b)| a + b).collect();
                    let element = dot(&at, &whole) as usize;
                    assert!(!found[element], "{} has an overlap", stored.name);
                    found[element] = true;
                    let target = &mut bytes[element * size as usize..][..size as usize];
                    let source = chunk.offset + dot(&within, &chunk.strides) * size;
                    file.read_exact_at(target, source).unwrap();
                }
            }
            assert!(found.iter().all(|found| *found), "{} has a hole", stored.name);
        }
    }
    bytes
}

/// The indices of an element, by its row-major number.
fn indices(number: u64, shape: &[u64]) -> Vec<u64> {
    let mut rest = number;
    let mut indices: Vec<u64> = shape
        .iter()
        .rev()
        .map(|size| {
            let index = rest % size;
            rest /= size;
            index
        })
        .collect();
    indices.reverse();
    indices
}

fn dot(indices: &[u64], strides: &[i64]) -> u64 {
    indices.iter().zip(strides).map(|(index, stride)| index * *stride as u64).sum()
}
