//! Where every element of every parameter is stored.

use crate::algebra::{Bounds, Strides, meet};
use indexmap::IndexMap;
use ucl_tensor::DType;

/// A box of a parameter in a file.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) bounds: Bounds,
    /// The byte offset of the low corner.
    pub(crate) base: i64,
    /// Bytes from one index to the next, per dim.
    pub(crate) strides: Strides,
    /// Index into the inventory's files.
    pub(crate) file: u32,
    pub(crate) dtype: DType,
    pub(crate) role: PieceRole,
    /// Index into the inventory's tensors.
    pub(crate) stored: u32,
    /// The check that compares it, if it is compared.
    pub(crate) check: usize,
    /// stored = universal * scale + shift.
    pub(crate) scale: f64,
    pub(crate) shift: f64,
}

/// What a piece is to its parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PieceRole {
    /// It counts.
    Primary,
    /// It is compared with what counts.
    Replica,
    /// One of this many whose mean counts.
    Average(u32),
    /// One of several whose sum counts.
    Sum,
}

/// Pieces by parameter and state, sorted so that neighbours are found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Atlas {
    pieces: IndexMap<(usize, String), Sorted>,
}

#[derive(Clone, Debug, Default)]
struct Sorted {
    pieces: Vec<Piece>,
    /// The dim to search by: the one with the most distinct intervals.
    pivot: usize,
    /// The greatest extent of a piece along the pivot.
    reach: u64,
}

impl Atlas {
    pub(crate) fn push(&mut self, param: usize, state: &str, piece: Piece) {
        self.pieces.entry((param, state.to_owned())).or_default().pieces.push(piece);
    }

    /// Sorts; to be called once, before any search.
    pub(crate) fn finish(&mut self) {
        for sorted in self.pieces.values_mut() {
            let dims = sorted.pieces.first().map_or(0, |piece| piece.bounds.len());
            let distinct = |dim: usize| {
                let mut seen: Vec<(u64, u64)> =
                    sorted.pieces.iter().map(|p| p.bounds[dim]).collect();
                seen.sort_unstable();
                seen.dedup();
                seen.len()
            };
            sorted.pivot = (0..dims).rev().max_by_key(|dim| distinct(*dim)).unwrap_or(0);
            let pivot = sorted.pivot;
            sorted.pieces.sort_by(|a, b| {
                let key =
                    |p: &Piece| (p.bounds.get(pivot).copied(), p.bounds.clone(), p.stored, p.base);
                key(a).cmp(&key(b))
            });
            sorted.reach = sorted
                .pieces
                .iter()
                .filter_map(|piece| piece.bounds.get(pivot))
                .map(|(lo, hi)| hi - lo)
                .max()
                .unwrap_or(1);
        }
    }

    /// All pieces of a parameter in a state.
    pub(crate) fn all(&self, param: usize, state: &str) -> &[Piece] {
        self.pieces.get(&(param, state.to_owned())).map_or(&[], |sorted| &sorted.pieces)
    }

    /// The pieces that meet a box, with what they share of it.
    pub(crate) fn meeting<'a>(
        &'a self,
        param: usize,
        state: &str,
        bounds: &'a [(u64, u64)],
    ) -> impl Iterator<Item = (&'a Piece, Bounds)> {
        let sorted = self.pieces.get(&(param, state.to_owned()));
        let near = sorted.map_or(&[][..], |sorted| match bounds.get(sorted.pivot) {
            None => &sorted.pieces,
            Some((lo, hi)) => {
                let at = |piece: &Piece| piece.bounds[sorted.pivot].0;
                let from = sorted.pieces.partition_point(|p| at(p) + sorted.reach <= *lo);
                let to = sorted.pieces.partition_point(|p| at(p) < *hi);
                &sorted.pieces[from..to.max(from)]
            }
        });
        near.iter().filter_map(move |piece| Some((piece, meet(&piece.bounds, bounds)?)))
    }

    /// Every parameter and state that has pieces.
    pub(crate) fn keys(&self) -> impl Iterator<Item = (usize, &str)> {
        self.pieces.keys().map(|(param, state)| (*param, state.as_str()))
    }

    /// States in the order of their first piece, weights first.
    pub(crate) fn states(&self) -> Vec<String> {
        let mut states: Vec<String> = Vec::new();
        for (_, state) in self.pieces.keys() {
            if !states.contains(state) {
                states.push(state.clone());
            }
        }
        states.sort_by_key(|state| match state.as_str() {
            "fp32" => 0,
            "param" => 1,
            _ => 2,
        });
        states
    }
}
