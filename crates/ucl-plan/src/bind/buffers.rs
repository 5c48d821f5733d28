//! The proof that every element of every flat buffer is claimed once, by a parameter or by padding.

use crate::algebra::{Addresses, Component};
use std::collections::BTreeMap;
use ucl_formats::Inventory;
use ucl_formats::inventory::{Data, Stored};
use ucl_ir::Diagnostic;

/// The claims so far, by buffer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buffers {
    /// From file and first byte to the buffer's number.
    at: BTreeMap<(u32, u64), usize>,
    ends: Vec<u64>,
    claims: Vec<Addresses>,
}

impl Buffers {
    /// The buffers of an inventory, their padding claimed.
    pub(crate) fn of(inventory: &Inventory) -> Buffers {
        let mut buffers = Buffers::default();
        for (number, buffer) in inventory.buffers.iter().enumerate() {
            buffers.at.insert((buffer.file, buffer.offset), number);
            buffers.ends.push(buffer.offset + buffer.len * buffer.dtype.size_bytes());
            let mut claims = Addresses::default();
            for (start, len) in &buffer.padding {
                if *len > 0 {
                    claims.claim(*start, [(*len, 1)].into_iter());
                }
            }
            buffers.claims.push(claims);
        }
        buffers
    }

    /// Claims a box, before it is cut to the true extents.
    pub(crate) fn claim(&mut self, stored: &Stored, component: &Component, base: i64, file: u32) {
        let Ok(base) = u64::try_from(base) else { return };
        let Some(((owner, start), number)) = self.at.range(..=(file, base)).next_back() else {
            return;
        };
        if *owner != file || base >= self.ends[*number] {
            return;
        }
        let first = (base - start) / stored.dtype.size_bytes();
        let dims = component.bounds.iter().zip(&component.strides);
        self.claims[*number]
            .claim(first, dims.map(|((lo, hi), stride)| (hi - lo, stride.unsigned_abs())));
    }

    /// Claims the tensors that a spec ignores: they are dropped on purpose.
    pub(crate) fn claim_ignored(&mut self, inventory: &Inventory, ignored: &[String]) {
        for stored in inventory.tensors.iter().filter(|stored| ignored.contains(&stored.name)) {
            let Data::Runs(runs) = &stored.data else { continue };
            for run in runs.iter().filter(|run| run.len > 0) {
                let Some(((_, start), number)) =
                    self.at.range(..=(run.file, run.offset)).next_back()
                else {
                    continue;
                };
                let first = (run.offset - start) / stored.dtype.size_bytes();
                self.claims[*number].claim(first, [(run.len, 1)].into_iter());
            }
        }
    }

    /// The buffers that are not covered exactly once.
    pub(crate) fn prove(&self, inventory: &Inventory) -> Vec<Diagnostic> {
        let covered = inventory.buffers.iter().zip(&self.claims);
        covered
            .filter(|(buffer, claims)| !claims.cover(buffer.len))
            .map(|(buffer, _)| {
                let file = &inventory.files[buffer.file as usize].path;
                Diagnostic::new(
                    "ucl::cover",
                    format!(
                        "{}: {}, {} elements, is not claimed exactly once by parameters and padding",
                        file.display(),
                        buffer.label,
                        buffer.len
                    ),
                )
                .help("the parameters' shapes and the buffer disagree; please report this checkpoint")
            })
            .collect()
    }
}
