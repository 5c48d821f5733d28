//! Chunks of a rank's tensor: boxes whose elements lie behind one another in it.

use crate::target::{Buffer, Part, Run};
use std::sync::Arc;

/// A box of a tensor that is dense in it: one index of each of the first dims, a range of the next one.
/// Gives the offsets of the box and its elements; `state` is one of the tensor's, or `param`.
pub(crate) fn rows(
    run: &Run<'_>,
    (rank, tensor): (usize, usize),
    state: &str,
    (index, first, count): (&[u64], u64, u64),
) -> (Vec<u64>, Buffer) {
    let mut buffer = Buffer::whole(run, (rank, tensor), state);
    let whole = &run.ranks[rank].tensors[tensor].shape;
    let cut = index.len();
    if cut >= whole.len() {
        return (vec![0; whole.len()], buffer);
    }
    let (mut offsets, mut shape) = (vec![0; whole.len()], whole.clone());
    let mut row = first;
    let mut stride = whole[cut];
    for dim in (0..cut).rev() {
        (offsets[dim], shape[dim]) = (index[dim], 1);
        row += index[dim] * stride;
        stride *= whole[dim];
    }
    (offsets[cut], shape[cut]) = (first, count);
    let inner: u64 = whole[cut + 1..].iter().product();
    let part = Part { rank, tensor, first: row * inner, len: count * inner, start: 0 };
    buffer.shape = shape;
    buffer.parts = if part.len > 0 { Arc::new([part]) } else { Arc::new([]) };
    (offsets, buffer)
}

/// The ranges of `extent` rows that each of `parts` ranks has, as `torch.chunk` cuts them: equal ones,
/// then a shorter one. Ranks that are left without rows are left out.
pub(crate) fn chunked(extent: u64, parts: u64) -> Vec<(u64, u64)> {
    let size = extent.div_ceil(parts.max(1)).max(1);
    (0..extent.div_ceil(size))
        .map(|number| (number * size, size.min(extent - number * size)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::chunked;

    #[test]
    fn rows_are_cut_as_torch_cuts_them() {
        assert_eq!(chunked(5, 2), [(0, 3), (3, 2)]);
        assert_eq!(chunked(4, 3), [(0, 2), (2, 2)]);
        assert_eq!(chunked(2, 4), [(0, 1), (1, 1)]);
        assert_eq!(chunked(0, 4), []);
    }
}
