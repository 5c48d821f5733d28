//! What closes a file of torch zips: their directories, which hold the sums of the storages.

use crate::torch::TorchLayout;

/// The torch zips of a file, one behind the other.
#[derive(Debug, Default)]
pub struct Seal(Vec<Zip>);

/// A zip of a file.
#[derive(Debug)]
struct Zip {
    /// Where it begins in the file.
    base: u64,
    layout: TorchLayout,
    /// The CRC-32 of each storage that is known; `None` for a buffer's.
    known: Vec<Option<u32>>,
}

impl Seal {
    /// Adds a zip that begins at `base`. `known` has the CRC-32 of each storage that is no buffer.
    pub(crate) fn add(&mut self, base: u64, layout: TorchLayout, known: Vec<Option<u32>>) {
        self.0.push(Zip { base, layout, known });
    }

    /// All bytes of the zips but their storages', by offset. `sums` has the CRC-32 of the file's buffers,
    /// in their order; those that are missing are written as 0, which means that there is none.
    pub fn close(&self, sums: &[u32]) -> Vec<(u64, Vec<u8>)> {
        let mut sums = sums.iter();
        let mut chunks = Vec::new();
        for zip in &self.0 {
            let crcs = zip.known.iter().map(|known| known.or_else(|| sums.next().copied()));
            let crcs: Vec<Option<u32>> = crcs.collect();
            let of_zip = zip.layout.chunks(&crcs).into_iter();
            chunks.extend(of_zip.map(|(offset, bytes)| (zip.base + offset, bytes)));
        }
        chunks
    }
}
