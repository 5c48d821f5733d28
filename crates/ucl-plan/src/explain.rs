//! Where each slice of a tensor comes from.

use crate::bind::PieceRole;
use crate::plan::Plan;
use crate::work::Work;
use serde::Serialize;
use std::path::PathBuf;

/// A box of a tensor and where it is stored.
#[derive(Clone, Debug, Serialize)]
pub struct Slice {
    /// The target tensor.
    pub tensor: String,
    /// Its state.
    pub state: String,
    /// The parameter's dims and the indices that are here: `k 0..2`.
    pub indices: Vec<String>,
    /// `copied`, `compared`, `averaged` or `summed`.
    pub role: &'static str,
    /// The stored name.
    pub stored: String,
    /// The rank, as `tp=1 pp=0`.
    pub rank: String,
    /// The file.
    pub file: PathBuf,
    /// The byte offset of its first element.
    pub offset: u64,
    /// Its number of elements.
    pub elements: u64,
    /// Its element type.
    pub dtype: String,
    /// Bytes from one index to the next, per dim that has more than one.
    pub strides: Vec<i64>,
}

impl Plan<'_> {
    /// The slices of every target tensor of that name, or that is made of the stored tensor of that
    /// name; empty if there is none.
    pub fn explain(&self, name: &str) -> Vec<Slice> {
        let mut slices = Vec::new();
        for (tensor, item, from) in self.wholes() {
            let mut states = vec![from.as_str()];
            if from == "fp32" {
                states.push("param");
            }
            for state in states {
                for (param, component) in self.boxes(&self.items[item], 0..tensor.len()) {
                    for (piece, shared) in self.bound.atlas.meeting(param, state, &component.bounds)
                    {
                        let stored = &self.bound.inventory.tensors[piece.stored as usize];
                        if tensor.name != name && stored.name != name {
                            continue;
                        }
                        let dims = &self.bound.params[param].dims;
                        let offset = crate::algebra::address(
                            piece.base,
                            &piece.bounds,
                            &piece.strides,
                            &shared,
                        );
                        let rank: Vec<String> =
                            stored.at.iter().map(|(axis, at)| format!("{axis}={at}")).collect();
                        let wide = shared
                            .iter()
                            .zip(&piece.strides)
                            .filter(|(bound, _)| bound.1 - bound.0 > 1);
                        slices.push(Slice {
                            tensor: tensor.name.clone(),
                            state: state.to_owned(),
                            indices: dims
                                .iter()
                                .zip(&shared)
                                .map(|(dim, (lo, hi))| format!("{} {lo}..{hi}", dim.name))
                                .collect(),
                            role: match piece.role {
                                PieceRole::Average(_) => "averaged",
                                PieceRole::Sum => "summed",
                                PieceRole::Primary if state == from => "copied",
                                PieceRole::Primary | PieceRole::Replica => "compared",
                            },
                            stored: stored.name.clone(),
                            rank: rank.join(" "),
                            file: self.sources()[piece.file as usize].clone(),
                            offset: u64::try_from(offset).unwrap_or(0),
                            elements: crate::algebra::volume(&shared),
                            dtype: piece.dtype.name().to_owned(),
                            strides: wide.map(|(_, stride)| *stride).collect(),
                        });
                    }
                }
            }
        }
        slices
    }
}
