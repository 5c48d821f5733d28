//! A flat range of a tensor as boxes: what Megatron-core's optimizer saves of each of its tiles, and what
//! a run of an affine map is.

/// A box of a tensor: its first element, its extents, and the place of its first element in the
/// row-major order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The index of its first element, per dim.
    pub offsets: Vec<u64>,
    /// Its extents, per dim.
    pub shape: Vec<u64>,
    /// The place of its first element.
    pub start: u64,
}

/// The boxes of the elements `lo..hi` of the row-major order of a shape, ascending; fewer than two
/// per dim. `hi` is at most the number of elements.
pub fn boxes(shape: &[u64], lo: u64, hi: u64) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut at = lo;
    while at < hi {
        // The largest inner block that begins here, ends in the range, and repeats along one dim.
        let (mut block, mut dim) = (1_u64, shape.len());
        while dim > 0 {
            let wider = block.saturating_mul(shape[dim - 1]);
            if !at.is_multiple_of(wider) || at + wider > hi {
                break;
            }
            (block, dim) = (wider, dim - 1);
        }
        let mut part = Part { offsets: vec![0; shape.len()], shape: shape.to_vec(), start: at };
        let mut rest = at;
        for axis in (0..shape.len()).rev() {
            part.offsets[axis] = rest % shape[axis].max(1);
            rest /= shape[axis].max(1);
        }
        let mut count = 1;
        if dim > 0 {
            let axis = dim - 1;
            count = (shape[axis] - part.offsets[axis]).min((hi - at) / block);
            part.shape[axis] = count;
            part.shape[..axis].fill(1);
        }
        at += block * count;
        parts.push(part);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::boxes;
    use std::collections::BTreeMap;

    #[test]
    fn every_range_is_tiled_in_few_boxes() {
        for shape in [vec![3, 4, 5], vec![7], vec![1, 6, 1], vec![2, 1, 1, 5], vec![]] {
            let total: u64 = shape.iter().product();
            for lo in 0..=total {
                for hi in lo..=total {
                    let parts = boxes(&shape, lo, hi);
                    assert!(
                        parts.len() < 2 * shape.len().max(1),
                        "{shape:?} {lo}..{hi}: {parts:?}"
                    );
                    let mut seen: BTreeMap<u64, ()> = BTreeMap::new();
                    for part in &parts {
                        let count: u64 = part.shape.iter().product();
                        for index in 0..count {
                            let (mut rest, mut flat, mut scale) = (index, 0, 1);
                            for axis in (0..shape.len()).rev() {
                                let here = part.offsets[axis] + rest % part.shape[axis];
                                assert!(here < shape[axis]);
                                flat += here * scale;
                                scale *= shape[axis];
                                rest /= part.shape[axis];
                            }
                            assert_eq!(flat, part.start + index, "a box is a run");
                            assert!(seen.insert(flat, ()).is_none());
                        }
                    }
                    assert!(seen.into_keys().eq(lo..hi), "{shape:?} {lo}..{hi}");
                }
            }
        }
    }
}
