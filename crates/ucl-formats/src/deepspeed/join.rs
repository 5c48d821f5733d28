//! The parts of all data ranks put together: one state of the parameters that they share.

use super::Rank;
use super::layout::{Layout, Part};
use crate::inventory::{Buffer, Data, FileId, Inventory, Mesh, Problem, Role, Run, Stored};
use crate::ranks::{MIXED, name_of};
use crate::torch::TensorExtent;
use std::path::Path;
use ucl_tensor::DType;

/// A data rank's file, and its part, if it has one.
#[derive(Clone, Copy)]
pub(super) struct RankPart<'a> {
    pub(super) file: FileId,
    pub(super) path: &'a Path,
    /// `mp` and data rank.
    pub(super) rank: Rank,
    pub(super) extent: Option<&'a TensorExtent>,
}

/// One state of some parameters, cut over data ranks.
pub(super) struct Join<'a> {
    pub(super) layout: &'a dyn Layout,
    /// The parameters in the order of the layout.
    pub(super) shapes: &'a [(String, Vec<u64>)],
    pub(super) state: &'a str,
    pub(super) role: Role,
    pub(super) at: &'a Mesh,
    /// What a person calls it: `group 0`.
    pub(super) of: String,
    /// The file that the shapes are from.
    pub(super) by: &'a Path,
    /// What the ranks that share it are called: `data rank`.
    pub(super) among: &'static str,
    /// The `mp` rank of the first part.
    pub(super) mp: u64,
    /// In the order of the parts; nothing where a file is missing or can't be read.
    pub(super) ranks: Vec<Option<RankPart<'a>>>,
}

impl Join<'_> {
    /// Stores the parameters and the buffers that they lie in; nothing if no rank has this state.
    pub(super) fn store(
        &self,
        found: &mut Vec<Stored>,
        inventory: &mut Inventory,
        problems: &mut Vec<Problem>,
    ) {
        let extents = self.ranks.iter().flatten().filter_map(|rank| rank.extent);
        // Muon keeps no second moment, SGD nothing before its first step.
        let Some(dtype) = extents.map(|extent| extent.dtype).next() else { return };
        let mut parts = Vec::with_capacity(self.ranks.len());
        for (rank, held) in self.ranks.iter().enumerate() {
            let file = held.map_or(0, |held| held.file);
            let mut part = Part { file, offset: 0, len: 0, size: dtype.size_bytes() };
            if let Some(held) = held {
                match self.checked(rank as u64, held.extent, dtype) {
                    Ok(Some(extent)) => {
                        part = Part { offset: extent.file_offset, len: extent.numel, ..part };
                        inventory.buffers.push(Buffer {
                            label: self.label(held.rank),
                            file: held.file,
                            offset: part.offset,
                            len: part.len,
                            dtype,
                            padding: self.layout.padding(rank as u64, part.len),
                        });
                    }
                    Ok(None) => {}
                    Err(message) => problems.push(Problem::new(held.path, message).help(MIXED)),
                }
            }
            parts.push(part);
        }
        for ((name, shape), runs) in self.shapes.iter().zip(self.layout.runs(&parts)) {
            for (copy, runs) in copies(runs).into_iter().enumerate() {
                let mut at = self.at.clone();
                if copy > 0 {
                    at.insert("replica".to_owned(), copy as u64);
                }
                found.push(Stored {
                    name: name.clone(),
                    state: self.state.to_owned(),
                    dtype,
                    shape: shape.clone(),
                    at,
                    role: self.role,
                    data: Data::Runs(runs),
                });
            }
        }
    }

    /// A rank's part, if it is there and has the length that its place asks for.
    fn checked<'e>(
        &self,
        rank: u64,
        extent: Option<&'e TensorExtent>,
        dtype: DType,
    ) -> Result<Option<&'e TensorExtent>, String> {
        let (state, of) = (self.state, &self.of);
        let (full, stripped) = (self.layout.width(rank), self.layout.stripped(rank));
        let Some(extent) = extent else {
            if stripped == 0 {
                return Ok(None);
            }
            return Err(format!("it has no `{state}` of {of}, other data ranks have"));
        };
        if extent.dtype != dtype {
            return Err(format!(
                "`{state}` of {of} is {}, in other data ranks {dtype}",
                extent.dtype
            ));
        }
        // All of the group's padding is taken off the last rank. If that is more than its part, the
        // negative length counts from the end (`group[:lean_length]`) and some padding stays.
        let only_padding = stripped == 0 && extent.numel <= full;
        if extent.numel == full || extent.numel == stripped || only_padding {
            return Ok(Some(extent));
        }
        let without = if stripped == full {
            String::new()
        } else {
            format!(", or {stripped} without its padding")
        };
        Err(format!(
            "`{state}` of {of} has {} elements, expected {full}{without}: {} {rank} of {} holds {}, by the \
             shapes in {}",
            extent.numel,
            self.among,
            self.ranks.len(),
            self.layout.told(),
            name_of(self.by)
        ))
    }

    fn label(&self, (mp, dp): Rank) -> String {
        let mut label = format!("{} of {}, dp rank {dp}", self.of, self.state);
        for (axis, index) in self.at {
            label += &format!(", {axis} rank {index}");
        }
        if mp != self.mp {
            label += &format!(", mp rank {mp}");
        }
        label
    }
}

/// The runs of one parameter, by copy: where a run begins before the last one ended, another rank begins anew.
fn copies(runs: Vec<Run>) -> Vec<Vec<Run>> {
    let mut copies = vec![Vec::new()];
    let mut end = 0;
    for run in runs {
        if run.start < end {
            copies.push(Vec::new());
        }
        end = run.start + run.len;
        if let Some(copy) = copies.last_mut() {
            copy.push(run);
        }
    }
    copies
}

/// The elements of a shape; nothing if they are too many.
pub(super) fn numel(shape: &[u64]) -> Option<u64> {
    shape.iter().try_fold(1u64, |numel, size| numel.checked_mul(*size))
}
