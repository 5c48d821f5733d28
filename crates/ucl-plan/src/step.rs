//! Moves: what a source piece and a target box share, as loops over both.

use crate::algebra::{Bounds, Component, address};
use crate::bind::Piece;
use crate::work::{Loop, Move, MoveRole};
use smallvec::SmallVec;

/// A move between a source piece and a target box, over what they share.
pub(crate) fn strided(
    piece: &Piece,
    target: &Component,
    shared: &Bounds,
    window: i64,
    role: MoveRole,
    scale: f64,
    shift: f64,
) -> Move {
    let from = address(piece.base, &piece.bounds, &piece.strides, shared);
    let to = address(target.base, &target.bounds, &target.strides, shared);
    let mut loops: SmallVec<[Loop; 6]> = shared
        .iter()
        .zip(piece.strides.iter().zip(&target.strides))
        .map(|((lo, hi), (from, to))| Loop { count: hi - lo, from: *from, to: *to })
        .filter(|one| one.count > 1)
        .collect();
    loops.sort_by_key(|one| std::cmp::Reverse(one.to));
    let mut fused: SmallVec<[Loop; 6]> = SmallVec::new();
    for inner in loops {
        match fused.last_mut() {
            Some(outer)
                if outer.from == inner.from * signed(inner.count)
                    && outer.to == inner.to * signed(inner.count) =>
            {
                *outer = Loop { count: outer.count * inner.count, ..inner };
            }
            _ => fused.push(inner),
        }
    }
    Move {
        role,
        source: piece.file as usize,
        dtype: piece.dtype,
        from: u64::try_from(from).unwrap_or(u64::MAX),
        to: u64::try_from(to - window).unwrap_or(u64::MAX),
        loops: fused,
        scale,
        shift,
    }
}

/// Element and byte numbers stay far below 2^63.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
