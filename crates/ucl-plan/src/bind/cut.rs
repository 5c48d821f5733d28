//! Which dims of a parameter a rank holds a part of.

use super::composite::Composites;
use ucl_ir::{Factor, Layout, Mesh, Rest, Shard, Sum};

/// A layout on a mesh. Without a layout everything is whole.
#[derive(Clone, Copy)]
pub(crate) struct Cuts<'a> {
    pub(crate) layout: Option<&'a Layout>,
    pub(crate) mesh: &'a Mesh,
}

impl<'a> Cuts<'a> {
    /// The number of ranks along an axis.
    pub(crate) fn size(&self, axis: &str) -> u64 {
        self.along(self.mesh, axis).unwrap_or(1)
    }

    /// A rank's coordinate along an axis; `None` if it is not recorded.
    pub(crate) fn coordinate(&self, rank: &Mesh, axis: &str) -> Option<u64> {
        self.along(rank, axis)
    }

    fn along(&self, mesh: &Mesh, axis: &str) -> Option<u64> {
        mesh.get(axis).copied().or_else(|| {
            let declared = self.layout?.axes.iter().find(|known| known.name == axis)?;
            mesh.get(declared.same_as.as_ref()?).copied()
        })
    }

    /// The cut of a dim in a parameter, if it has more than one part on this mesh.
    ///
    /// A line with `of` takes the place of the general lines for the same dim or for the same axis.
    pub(crate) fn of(&self, param: &str, dim: &str) -> Option<&'a Shard> {
        let layout = self.layout?;
        let special = |shard: &Shard| {
            !shard.of.is_empty() && shard.of.iter().any(|path| is_under(param, path))
        };
        let found = layout.shards.iter().find(|shard| shard.dim == dim && special(shard)).or_else(
            || {
                layout.shards.iter().find(|shard| {
                    shard.dim == dim
                        && shard.of.is_empty()
                        && !layout.shards.iter().any(|other| {
                            special(other)
                                && (other.dim == dim
                                    || other.over.iter().any(|axis| shard.over.contains(axis)))
                        })
                })
            },
        )?;
        (self.ranks(found) > 1).then_some(found)
    }

    /// The cuts in a shape: going down from outside, the first name that is cut, and nothing inside it.
    pub(crate) fn met(
        &self,
        factors: &[Factor],
        terms: &[String],
        composites: &Composites<'_>,
    ) -> Vec<&'a Shard> {
        let within = |sum: &Sum| -> Vec<&'a Shard> {
            let products = sum.alternatives.iter();
            products.flat_map(|product| self.met(product, terms, composites)).collect()
        };
        let of = |factor: &Factor| match factor {
            Factor::One => Vec::new(),
            Factor::Group(sum) => within(sum),
            Factor::Name(name) => match terms.iter().find_map(|term| self.of(term, name)) {
                Some(shard) => vec![shard],
                None => composites.get(name).map(within).unwrap_or_default(),
            },
        };
        factors.iter().flat_map(of).collect()
    }

    /// Whether a layout does anything on this mesh.
    pub(crate) fn matters(&self, layout: &Layout) -> bool {
        !layout.pads.is_empty() || layout.axes.iter().any(|axis| self.size(&axis.name) > 1)
    }

    /// How many parts a cut makes.
    pub(crate) fn ranks(&self, shard: &Shard) -> u64 {
        shard.over.iter().map(|axis| self.size(axis)).product()
    }

    /// Which part a rank holds: its coordinates along the axes, the first outermost.
    pub(crate) fn part(&self, shard: &Shard, rank: &Mesh) -> u64 {
        shard
            .over
            .iter()
            .fold(0, |part, axis| part * self.size(axis) + self.coordinate(rank, axis).unwrap_or(0))
    }

    /// The padded extent of a dim by the layout's own formula.
    pub(crate) fn pad(&self, dim: &str) -> Option<&'a ucl_ir::Pad> {
        self.layout?.pads.iter().find(|pad| pad.dim == dim)
    }
}

/// `P` in a list means `P` and everything below it.
pub(crate) fn is_under(param: &str, path: &str) -> bool {
    param == path || param.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'))
}

/// The indices of part `part` of `extent` cut into `parts`; `None` if they have to divide and do not.
pub(crate) fn interval(extent: u64, parts: u64, part: u64, rest: Rest) -> Option<(u64, u64)> {
    let (each, more) = (extent / parts, extent % parts);
    match rest {
        _ if more == 0 => Some((part * each, (part + 1) * each)),
        Rest::Exact => None,
        Rest::Uneven => {
            let lo = part * each + part.min(more);
            Some((lo, lo + each + u64::from(part < more)))
        }
        Rest::Repeat if parts.is_multiple_of(extent) => {
            let index = part / (parts / extent);
            Some((index, index + 1))
        }
        Rest::Repeat => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_tile_the_extent() {
        assert_eq!(interval(10, 4, 0, Rest::Exact), None);
        let uneven: Vec<_> =
            (0..4).map(|part| interval(10, 4, part, Rest::Uneven).unwrap()).collect();
        assert_eq!(uneven, [(0, 3), (3, 6), (6, 8), (8, 10)]);
        let repeated: Vec<_> =
            (0..4).map(|part| interval(2, 4, part, Rest::Repeat).unwrap()).collect();
        assert_eq!(repeated, [(0, 1), (0, 1), (1, 2), (1, 2)]);
    }
}
