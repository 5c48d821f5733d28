//! Brings a stored tensor together, one run or element at a time.

use sha2::{Digest, Sha256};
use std::fs::File;
use std::os::unix::fs::FileExt;
use ucl_formats::inventory::{Data, Inventory, Stored};

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
                let (mut rest, mut element) = (index as u64, 0);
                for (dim, stride) in stored.shape.iter().zip(strides).rev() {
                    element += (rest % dim) * *stride as u64;
                    rest /= dim;
                }
                file.read_exact_at(target, offset + element * size).unwrap();
            }
        }
    }
    bytes
}
