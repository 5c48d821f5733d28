//! Whether the chunks of a tensor hold each of its elements once.

/// What is wrong with the chunks of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Uneven {
    /// A chunk has another number of dims, or leaves the tensor.
    Outside(usize),
    /// Two chunks hold the same element.
    Overlap(usize, usize),
    /// So many elements are in no chunk.
    Gap(u64),
    /// The chunks lie so irregularly that checking them would take too long.
    Irregular,
}

/// A chunk: its first element and its extents, per dim.
pub(crate) type Box<'a> = (&'a [u64], &'a [u64]);

/// Comparisons that are made at most; a regular grid of a million chunks needs fewer.
const MOST: u64 = 1 << 28;

/// Checks that chunks tile a shape: inside, apart, and as many elements as the shape has.
pub(crate) fn check(shape: &[u64], chunks: &[Box<'_>]) -> Result<(), Uneven> {
    let inside = |(offsets, extents): &Box<'_>| {
        offsets.len() == shape.len()
            && extents.len() == shape.len()
            && offsets.iter().zip(*extents).zip(shape).all(|((offset, extent), size)| {
                offset.checked_add(*extent).is_some_and(|end| end <= *size)
            })
    };
    if let Some(outside) = chunks.iter().position(|chunk| !inside(chunk)) {
        return Err(Uneven::Outside(outside));
    }
    let full: Vec<usize> = (0..chunks.len()).filter(|one| !chunks[*one].1.contains(&0)).collect();
    apart(shape.len(), chunks, full.clone())?;
    let held: u128 = full.iter().map(|one| volume(chunks[*one].1)).sum();
    match volume(shape).saturating_sub(held) {
        0 => Ok(()),
        missing => Err(Uneven::Gap(u64::try_from(missing).unwrap_or(u64::MAX))),
    }
}

/// The elements of a shape; of one that is too large, as many as can be said.
pub(crate) fn volume(shape: &[u64]) -> u128 {
    shape.iter().fold(1, |product: u128, size| product.saturating_mul(u128::from(*size)))
}

/// Sweeps along the dim with the most cuts: only chunks that share an index there are compared.
fn apart(dims: usize, chunks: &[Box<'_>], mut order: Vec<usize>) -> Result<(), Uneven> {
    let cuts = |dim: usize| {
        let mut starts: Vec<u64> = order.iter().map(|one| chunks[*one].0[dim]).collect();
        starts.sort_unstable();
        starts.dedup();
        starts.len()
    };
    let Some(dim) = (0..dims).max_by_key(|dim| cuts(*dim)) else {
        // A scalar has one element.
        return order.get(1).map_or(Ok(()), |second| Err(Uneven::Overlap(order[0], *second)));
    };
    let end = |one: usize, dim: usize| chunks[one].0[dim] + chunks[one].1[dim];
    order.sort_by_key(|one| chunks[*one].0[dim]);
    let (mut open, mut compared): (Vec<usize>, u64) = (Vec::new(), 0);
    for one in order {
        let start = chunks[one].0[dim];
        open.retain(|other| end(*other, dim) > start);
        compared += open.len() as u64;
        if compared > MOST {
            return Err(Uneven::Irregular);
        }
        let meets = |other: &&usize| {
            (0..dims).all(|dim| {
                chunks[one].0[dim] < end(**other, dim) && chunks[**other].0[dim] < end(one, dim)
            })
        };
        if let Some(other) = open.iter().find(meets) {
            return Err(Uneven::Overlap(*other, one));
        }
        open.push(one);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Uneven, check};

    fn tiles(shape: &[u64], chunks: &[([u64; 2], [u64; 2])]) -> Result<(), Uneven> {
        let chunks: Vec<_> = chunks.iter().map(|(at, size)| (&at[..], &size[..])).collect();
        check(shape, &chunks)
    }

    #[test]
    fn what_tiles_and_what_does_not() {
        let quarters = [([0, 0], [3, 2]), ([0, 2], [3, 3]), ([3, 0], [2, 2]), ([3, 2], [2, 3])];
        assert_eq!(tiles(&[5, 5], &quarters), Ok(()));
        assert_eq!(tiles(&[5, 5], &quarters[..3]), Err(Uneven::Gap(6)));
        assert_eq!(
            tiles(&[5, 5], &[([0, 0], [5, 3]), ([4, 2], [1, 3])]),
            Err(Uneven::Overlap(0, 1))
        );
        assert_eq!(tiles(&[5, 5], &[([0, 0], [5, 5]), ([1, 1], [0, 2])]), Ok(()), "an empty chunk");
        assert_eq!(tiles(&[5, 5], &[([1, 0], [5, 5])]), Err(Uneven::Outside(0)));
        assert_eq!(tiles(&[5, 5], &[([u64::MAX, 0], [2, 5])]), Err(Uneven::Outside(0)));
        assert_eq!(tiles(&[0, 5], &[([0, 0], [0, 5])]), Ok(()));
        assert_eq!(check(&[], &[(&[], &[])]), Ok(()));
        assert_eq!(check(&[], &[(&[], &[]), (&[], &[])]), Err(Uneven::Overlap(0, 1)));
        assert_eq!(check(&[], &[]), Err(Uneven::Gap(1)));
        assert_eq!(check(&[7], &[(&[0], &[7]), (&[0], &[7])]), Err(Uneven::Overlap(0, 1)));
    }

    /// A grid of 300 by 300 cells is quick.
    #[test]
    fn a_large_grid() {
        let cells: Vec<_> = (0..90_000_u64).map(|i| ([i / 300, i % 300 * 2], [1, 2])).collect();
        assert_eq!(tiles(&[300, 600], &cells), Ok(()));
    }
}
