//! Affine views of a tensor as boxes, and who of several ranks' boxes counts.

use super::affine::{Map, Step, View};
use super::cut::product;
use std::collections::{BTreeMap, BTreeSet};
use ucl_formats::flat;

/// A tensor is in no more boxes.
const MOST_TILES: usize = 1 << 18;
/// So often two boxes are compared at most.
const MOST_COMPARED: u64 = 1 << 27;

/// A box of the whole tensor, and where its elements are in a rank's part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    /// The index of its first element, per dim.
    pub(super) offsets: Vec<u64>,
    /// Its extents, per dim.
    pub(super) shape: Vec<u64>,
    /// The place of its first element in the part's row-major order.
    pub(super) dest: u64,
    /// Elements of the part from one index to the next, per dim.
    pub(super) strides: Vec<u64>,
}

/// The boxes of a tensor, each with the rank that holds it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tiling {
    /// Every element once, from the first rank that holds it.
    pub(super) first: Vec<(usize, Tile)>,
    /// What ranks behind that hold too.
    pub(super) copies: Vec<(usize, Tile)>,
}

/// Tiles a tensor.
///
/// # Errors
/// What no rank holds, what one holds twice, and what is too irregular, to stand after its name.
pub(super) fn tiling(map: &Map) -> Result<Tiling, String> {
    let mut all: Vec<(usize, Tile)> = Vec::new();
    for (rank, part) in map.parts.iter().enumerate() {
        let mut tiles = Vec::new();
        for view in &part.views {
            boxes(view, &map.logical, &mut tiles)?;
        }
        all.extend(tiles.into_iter().map(|tile| (rank, tile)));
        within_limit(all.len())?;
    }
    let tiling = apart(all, map.logical.len())?;
    let held = tiling.first.iter().map(|(_, tile)| tile.elements()).sum::<u64>();
    let elements = product(&map.logical).unwrap_or(u64::MAX);
    match elements.saturating_sub(held) {
        0 => Ok(tiling),
        gap => Err(format!("{gap} of its {elements} elements are on no tensor rank")),
    }
}

fn within_limit(tiles: usize) -> Result<(), String> {
    if tiles <= MOST_TILES {
        return Ok(());
    }
    Err(format!("its affine map cuts it into more than {MOST_TILES} boxes"))
}

impl Tile {
    pub(super) fn elements(&self) -> u64 {
        self.shape.iter().product()
    }

    fn end(&self, dim: usize) -> u64 {
        self.offsets[dim] + self.shape[dim]
    }

    fn meets(&self, other: &Tile) -> bool {
        let dims = 0..self.shape.len();
        dims.into_iter().all(|d| self.offsets[d] < other.end(d) && other.offsets[d] < self.end(d))
    }

    /// These indices of one dim alone, counted in the whole.
    pub(super) fn narrow(&self, dim: usize, lo: u64, hi: u64) -> Tile {
        let mut tile = self.clone();
        tile.dest += (lo - self.offsets[dim]) * self.strides[dim];
        (tile.offsets[dim], tile.shape[dim]) = (lo, hi - lo);
        tile
    }

    /// What it shares with another that it meets, and the rest in boxes.
    fn split(&self, other: &Tile, rest: &mut Vec<Tile>) -> Tile {
        let mut shared = self.clone();
        for dim in 0..self.shape.len() {
            let (lo, hi) = (shared.offsets[dim], shared.end(dim));
            let both = (lo.max(other.offsets[dim]), hi.min(other.end(dim)));
            if lo < both.0 {
                rest.push(shared.narrow(dim, lo, both.0));
            }
            if both.1 < hi {
                rest.push(shared.narrow(dim, both.1, hi));
            }
            shared = shared.narrow(dim, both.0, both.1);
        }
        shared
    }
}

/// Of boxes that meet, that of the first rank counts.
fn apart(all: Vec<(usize, Tile)>, dims: usize) -> Result<Tiling, String> {
    // Boxes are found by the dim that tells most of them apart.
    let starts =
        |dim: usize| all.iter().map(|(_, t)| t.offsets[dim]).collect::<BTreeSet<_>>().len();
    let pivot = (0..dims).max_by_key(|dim| starts(*dim));
    let at = |tile: &Tile| pivot.map_or(0, |dim| tile.offsets[dim]);
    let reach = all.iter().map(|(_, t)| pivot.map_or(1, |dim| t.shape[dim])).max().unwrap_or(1);
    let mut first: BTreeMap<(u64, usize), (usize, Tile)> = BTreeMap::new();
    let (mut copies, mut compared) = (Vec::new(), 0_u64);
    for (rank, tile) in all {
        let near = (at(&tile).saturating_sub(reach), 0)..(at(&tile).saturating_add(reach), 0);
        let mut left = vec![tile];
        for (owner, known) in first.range(near).map(|(_, known)| known) {
            compared += left.len() as u64;
            if compared > MOST_COMPARED {
                return Err("the boxes of its affine map lie too irregularly".to_owned());
            }
            let mut rest = Vec::new();
            for one in left {
                if !one.meets(known) {
                    rest.push(one);
                    continue;
                }
                if *owner == rank {
                    return Err(format!(
                        "tp={rank} holds the {:?} elements at {:?} twice",
                        one.shape, one.offsets
                    ));
                }
                copies.push((rank, one.split(known, &mut rest)));
            }
            left = rest;
        }
        within_limit(first.len() + copies.len() + left.len())?;
        for one in left {
            first.insert((at(&one), first.len()), (rank, one));
        }
    }
    Ok(Tiling { first: first.into_values().collect(), copies })
}

/// The boxes of a view.
fn boxes(view: &View, logical: &[u64], out: &mut Vec<Tile>) -> Result<(), String> {
    within_limit(out.len())?;
    let mut strides = vec![1_u64; logical.len()];
    for dim in (1..logical.len()).rev() {
        strides[dim - 1] = strides[dim] * logical[dim];
    }
    let grid = Grid { logical, strides };
    grid.boxes(view.source, view.dest, view.steps.clone(), out)
}

/// A tensor's shape with its row-major strides.
struct Grid<'a> {
    logical: &'a [u64],
    strides: Vec<u64>,
}

impl Grid<'_> {
    /// The dim along which a step goes, and how far; `None` for a step to the same element.
    fn dim(&self, step: &Step) -> Option<(usize, u64)> {
        let mut dims = (0..self.logical.len()).filter(|dim| self.logical[*dim] > 1);
        let dim = dims.find(|dim| step.from > 0 && step.from.is_multiple_of(self.strides[*dim]))?;
        Some((dim, step.from / self.strides[dim]))
    }

    fn index(&self, source: u64, dim: usize) -> u64 {
        source / self.strides[dim] % self.logical[dim]
    }

    fn boxes(
        &self,
        source: u64,
        dest: u64,
        mut steps: Vec<Step>,
        out: &mut Vec<Tile>,
    ) -> Result<(), String> {
        within_limit(out.len())?;
        steps.retain(|step| step.count > 1);
        self.fold(source, &mut steps);
        let known: Vec<Option<(usize, u64)>> = steps.iter().map(|step| self.dim(step)).collect();
        let ends = |dim: usize| {
            let of = steps.iter().zip(&known).filter_map(|(step, known)| {
                known
                    .filter(|known| known.0 == dim)
                    .map(|(_, by)| by.saturating_mul(step.count - 1))
            });
            of.fold(self.index(source, dim), u64::saturating_add)
        };
        let carries = |dim: usize| ends(dim) >= self.logical[dim];
        let is_plain = |number: usize| {
            let Some((dim, by)) = known[number] else { return false };
            let beside = known.iter().flatten().filter(|other| other.0 == dim).count();
            by == 1 && beside == 1 && !carries(dim)
        };
        let odd = (0..steps.len()).filter(|number| !is_plain(*number));
        // The outermost first: what stays together behind it is largest.
        let odd = odd.max_by_key(|number| steps[*number].from);
        let Some(odd) = odd else {
            out.push(self.tile(source, dest, &steps, &known));
            return Ok(());
        };
        let alone = |dim: usize| known.iter().flatten().filter(|known| known.0 <= dim).count() == 1;
        if let Some((dim, 1)) = known[odd].filter(|(dim, _)| alone(*dim)) {
            return self.run(source, dest, &steps, (odd, dim), out);
        }
        let Step { count, from, to } = steps.remove(odd);
        for index in 0..count {
            self.boxes(source + index * from, dest + index * to, steps.clone(), out)?;
        }
        Ok(())
    }

    /// A step that goes from one row into the next, always at the same place, is two.
    fn fold(&self, source: u64, steps: &mut Vec<Step>) {
        let mut number = 0;
        while let Some(step) = steps.get(number).copied() {
            number += 1;
            let Some((dim, by)) = self.dim(&step) else { continue };
            let size = self.logical[dim];
            if dim == 0 || by >= size || !size.is_multiple_of(by) || self.index(source, dim) >= by {
                continue;
            }
            let inside = size / by;
            if step.count > inside && step.count.is_multiple_of(inside) {
                let Step { count, from, to } = step;
                let outer = Step { count: count / inside, from: from * inside, to: to * inside };
                steps[number - 1] = outer;
                steps.insert(number, Step { count: inside, from, to });
                number -= 1;
            }
        }
        steps.retain(|step| step.count > 1);
    }

    fn tile(&self, source: u64, dest: u64, steps: &[Step], known: &[Option<(usize, u64)>]) -> Tile {
        let dims = 0..self.logical.len();
        let offsets = dims.map(|dim| self.index(source, dim)).collect();
        let mut tile = Tile {
            offsets,
            shape: vec![1; self.logical.len()],
            dest,
            strides: vec![0; self.logical.len()],
        };
        for (step, known) in steps.iter().zip(known) {
            if let Some((dim, _)) = known {
                (tile.shape[*dim], tile.strides[*dim]) = (step.count, step.to);
            }
        }
        tile
    }

    /// A run over the indices of a dim and those before it.
    fn run(
        &self,
        source: u64,
        dest: u64,
        steps: &[Step],
        (odd, dim): (usize, usize),
        out: &mut Vec<Tile>,
    ) -> Result<(), String> {
        let (outer, stride) = (&self.logical[..=dim], self.strides[dim]);
        let (lo, inside) = (source / stride, source % stride);
        let Step { count, to, .. } = steps[odd];
        for part in flat::boxes(outer, lo, lo + count) {
            let mut inner = steps.to_vec();
            inner.remove(odd);
            let mut by = to;
            let mut places = Vec::new();
            for axis in (0..=dim).rev() {
                places.push(Step { count: part.shape[axis], from: self.strides[axis], to: by });
                by = by.saturating_mul(self.logical[axis]);
            }
            inner.extend(places);
            let (source, dest) = (part.start * stride + inside, dest + (part.start - lo) * to);
            self.boxes(source, dest, inner, out)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::affine::{Map, Part, Step, View};
    use super::{Tile, boxes, tiling};

    /// Every place of the whole with its place in the part.
    fn pairs(start: (u64, u64), steps: &[(u64, u64, u64)]) -> Vec<(u64, u64)> {
        let mut all = vec![start];
        for (count, from, to) in steps {
            let step = |(a, b): (u64, u64)| (0..*count).map(move |i| (a + i * from, b + i * to));
            all = all.into_iter().flat_map(step).collect();
        }
        all.sort_unstable();
        all
    }

    fn of_tiles(tiles: &[Tile], logical: &[u64]) -> Vec<(u64, u64)> {
        let mut all = Vec::new();
        for tile in tiles {
            let (mut start, mut steps, mut by) = (0, Vec::new(), 1);
            for dim in (0..logical.len()).rev() {
                assert!(tile.offsets[dim] + tile.shape[dim] <= logical[dim]);
                start += tile.offsets[dim] * by;
                steps.push((tile.shape[dim], by, tile.strides[dim]));
                by *= logical[dim];
            }
            all.extend(pairs((start, tile.dest), &steps));
        }
        all.sort_unstable();
        all
    }

    /// Views of any strides, also such as go from one row into the next.
    #[test]
    fn boxes_are_the_view() {
        let mut seed = 7_u64;
        let mut random = |below: u64| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        for _ in 0..20_000 {
            let logical: Vec<u64> = (0..=random(3)).map(|_| 1 + random(6)).collect();
            let elements: u64 = logical.iter().product();
            let mut last = random(elements);
            let source = last;
            let mut steps = Vec::new();
            for _ in 0..random(4) {
                let (count, from, to) = (1 + random(7), random(elements + 1), random(9));
                if last + (count - 1) * from < elements {
                    last += (count - 1) * from;
                    steps.push((count, from, to));
                }
            }
            let step =
                |(count, from, to): &(u64, u64, u64)| Step { count: *count, from: *from, to: *to };
            let view = View { source, dest: 3, steps: steps.iter().map(step).collect() };
            let mut tiles = Vec::new();
            boxes(&view, &logical, &mut tiles).unwrap();
            assert_eq!(
                of_tiles(&tiles, &logical),
                pairs((source, 3), &steps),
                "{logical:?} {steps:?}"
            );
        }
    }

    /// Rows that meet in any way: the first rank's count, each once; what is left over is copies.
    #[test]
    fn the_first_rank_counts() {
        let rows = |lo: u64, count: u64| Part {
            held: count * 3,
            views: vec![View {
                source: lo * 3,
                dest: 0,
                steps: vec![Step { count: count * 3, from: 1, to: 1 }],
            }],
        };
        let of = |parts: &[(u64, u64)]| {
            let parts = parts.iter().map(|(lo, count)| rows(*lo, *count)).collect();
            tiling(&Map { logical: vec![6, 3], parts })
        };
        let tiling = of(&[(2, 2), (0, 5), (4, 2)]).unwrap();
        let held = |tiles: &[(usize, Tile)], rank: usize| -> u64 {
            tiles.iter().filter(|(of, _)| *of == rank).map(|(_, tile)| tile.elements()).sum()
        };
        assert_eq!([0, 1, 2].map(|rank| held(&tiling.first, rank)), [6, 9, 3]);
        assert_eq!([0, 1, 2].map(|rank| held(&tiling.copies, rank)), [0, 6, 3]);
        assert_eq!(
            of(&[(0, 2), (3, 3)]).unwrap_err(),
            "3 of its 18 elements are on no tensor rank"
        );
        let twice = Map {
            logical: vec![6, 3],
            parts: vec![Part { held: 36, views: [rows(0, 6).views, rows(1, 2).views].concat() }],
        };
        assert!(super::tiling(&twice).unwrap_err().contains("twice"));
    }
}
