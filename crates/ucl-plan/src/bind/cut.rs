//! Which dims of a parameter a rank holds a part of.

use super::composite::Composites;
use ucl_ir::{Factor, Layout, Mesh, Rest, Shard, Sum, Uneven};

/// A layout on a mesh. Without a layout everything is whole.
#[derive(Clone, Copy)]
pub(crate) struct Cuts<'a> {
    pub(crate) layout: Option<&'a Layout>,
    pub(crate) mesh: &'a Mesh,
    /// How many layers every pipeline stage has, in the order of the model; empty where all have the
    /// same.
    pub(crate) stages: &'a [u64],
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
        self.met_by(None, factors, terms, composites)
    }

    /// The same, of one alternative of the shape's sum alone.
    pub(crate) fn met_by(
        &self,
        only: Option<usize>,
        factors: &[Factor],
        terms: &[String],
        composites: &Composites<'_>,
    ) -> Vec<&'a Shard> {
        let within = |sum: &Sum| -> Vec<&'a Shard> {
            let only = only.filter(|_| sum.alternatives.len() > 1);
            let products = sum.alternatives.iter().enumerate();
            let products = products.filter(|(number, _)| only.is_none_or(|only| only == *number));
            products
                .flat_map(|(_, product)| self.met_by(only, product, terms, composites))
                .collect()
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

    /// The indices of a dim that a rank holds; `None` if they have to divide and do not.
    pub(crate) fn interval(
        &self,
        shard: &Shard,
        extent: u64,
        rank: &Mesh,
        size: &dyn Fn(&str) -> Option<u64>,
    ) -> Option<(u64, u64)> {
        let part = self.part(shard, rank);
        if shard.stage && !self.stages.is_empty() {
            let (before, from) = self.stages.split_at_checked(usize::try_from(part).ok()?)?;
            let before: u64 = before.iter().sum();
            return Some((before, before + from.first()?));
        }
        interval(extent, (self.ranks(shard), part), &shard.rest, size)
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
/// `size` gives the size of a dim that a cut is uneven within.
pub(crate) fn interval(
    extent: u64,
    (parts, part): (u64, u64),
    rest: &Rest,
    size: &dyn Fn(&str) -> Option<u64>,
) -> Option<(u64, u64)> {
    if extent.is_multiple_of(parts) && rest.uneven.as_ref().is_none_or(|u| *u == Uneven::Runs(1)) {
        let each = extent / parts;
        return Some((part * each, (part + 1) * each));
    }
    if rest.repeat && parts > extent {
        let copies = (extent > 0 && parts.is_multiple_of(extent)).then(|| parts / extent)?;
        return Some((part / copies, part / copies + 1));
    }
    match rest.uneven.as_ref()? {
        Uneven::Runs(run) => runs(extent, (parts, part), *run),
        Uneven::Within(dim) => within(extent, (parts, part), size(dim)?),
    }
}

/// Runs of `run` indices, of which the first parts get one more.
fn runs(extent: u64, (parts, part): (u64, u64), run: u64) -> Option<(u64, u64)> {
    let runs = extent.is_multiple_of(run).then(|| extent / run)?;
    let (each, more) = (runs / parts, runs % parts);
    let lo = part * each + part.min(more);
    Some((lo * run, (lo + each + u64::from(part < more)) * run))
}

/// Whole groups where there are enough of them for the parts, else a share of one of them.
fn within(extent: u64, (parts, part): (u64, u64), groups: u64) -> Option<(u64, u64)> {
    let of_group = (groups > 0 && extent.is_multiple_of(groups)).then(|| extent / groups)?;
    if parts <= groups {
        return runs(extent, (parts, part), of_group);
    }
    let sharers = parts.is_multiple_of(groups).then(|| parts / groups)?;
    let (lo, hi) = runs(of_group, (sharers, part % sharers), 1)?;
    let start = part / sharers * of_group;
    Some((start + lo, start + hi))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(extent: u64, parts: u64, uneven: Option<Uneven>, repeat: bool) -> Vec<(u64, u64)> {
        let rest = Rest { uneven, repeat };
        let size = |dim: &str| (dim == "k").then_some(2);
        let of = |part| interval(extent, (parts, part), &rest, &size);
        (0..parts).map_while(of).collect()
    }

    #[test]
    fn parts_tile_the_extent() {
        let runs = |run| Some(Uneven::Runs(run));
        assert_eq!(cut(10, 4, None, false), []);
        assert_eq!(cut(10, 4, runs(1), false), [(0, 3), (3, 6), (6, 8), (8, 10)]);
        assert_eq!(cut(2, 4, None, true), [(0, 1), (0, 1), (1, 2), (1, 2)]);
        assert_eq!(cut(96, 2, runs(32), false), [(0, 64), (64, 96)]);
        assert_eq!(cut(96, 4, runs(32), false), [(0, 32), (32, 64), (64, 96), (96, 96)]);
        assert_eq!(cut(96, 3, runs(32), false), [(0, 32), (32, 64), (64, 96)]);
        assert_eq!(cut(90, 2, runs(32), false), []);
    }

    #[test]
    fn parts_keep_to_their_groups() {
        let within = || Some(Uneven::Within("k".to_owned()));
        assert_eq!(cut(14, 4, within(), false), [(0, 4), (4, 7), (7, 11), (11, 14)]);
        assert_eq!(cut(14, 2, within(), false), [(0, 7), (7, 14)]);
        assert_eq!(cut(14, 3, within(), false), []);
        assert_eq!(cut(7, 2, within(), false), []);
        assert_eq!(cut(2, 2, Some(Uneven::Runs(1)), true), [(0, 1), (1, 2)]);
        assert_eq!(cut(2, 4, Some(Uneven::Runs(1)), true), [(0, 1), (0, 1), (1, 2), (1, 2)]);
        assert_eq!(cut(3, 2, Some(Uneven::Runs(1)), true), [(0, 2), (2, 3)]);
        assert_eq!(cut(3, 4, Some(Uneven::Runs(1)), true), []);
    }
}
