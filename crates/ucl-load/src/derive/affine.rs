//! Affine maps: strided blocks of the whole tensor, each with its place in a rank's part.

use super::cut::{Cut, Merge, Ranks, product};
use super::info::sizes;
use serde_json::Value;
use ucl_plan::Addresses;

/// No rank's part of a tensor is made of more blocks.
const MOST_PIECES: usize = 1 << 16;

/// How a whole tensor lies on the tensor ranks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Map {
    /// The shape of the whole.
    pub(super) logical: Vec<u64>,
    /// What each rank holds.
    pub(super) parts: Vec<Part>,
}

/// What one rank holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// How many elements.
    pub(super) held: u64,
    pub(super) views: Vec<View>,
}

/// A strided block of the whole tensor and its place in a rank's part, in elements of the row-major orders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct View {
    pub(super) source: u64,
    pub(super) dest: u64,
    /// Outermost first; none counts to 1.
    pub(super) steps: Vec<Step>,
}

/// So many indices, and the elements from one to the next in the whole and in the part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) count: u64,
    pub(super) from: u64,
    pub(super) to: u64,
}

/// A block as runs: `count` times a step in the whole and in the part, the runs of `len` in both.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Block {
    source: u64,
    dest: u64,
    /// `(count, step in the whole, step in the part)`, outermost first, without the innermost run.
    loops: Vec<(u64, u64, u64)>,
    len: u64,
}

/// An interval of the cut dim: where it lies in the whole, on which rank, and where there.
#[derive(Clone, Copy, Debug)]
struct Interval {
    lo: u64,
    hi: u64,
    rank: usize,
    dest: u64,
}

/// What a map says.
pub(super) fn merge(map: &Value, tensor: &Ranks<'_>) -> Result<Merge, String> {
    let map = read(map, tensor)?;
    Ok(match cut(&map, tensor) {
        Some(merge) => merge,
        None => Merge::Laid(map),
    })
}

/// Reads a map and holds it against the files.
fn read(map: &Value, tensor: &Ranks<'_>) -> Result<Map, String> {
    let unread = || "its affine map can't be read".to_owned();
    let logical = map.get("logical_shape").and_then(sizes).ok_or_else(unread)?;
    let ranks = map.get("ranks").and_then(Value::as_object).ok_or_else(unread)?;
    let elements = product(&logical).filter(|all| i64::try_from(*all).is_ok());
    let elements = elements.ok_or_else(unread)?;
    if ranks.len() != tensor.shapes.len() {
        return Err(format!(
            "its affine map is for {} tensor ranks, there are {}",
            ranks.len(),
            tensor.shapes.len()
        ));
    }
    let mut parts = Vec::new();
    for (rank, shape) in tensor.shapes.iter().enumerate() {
        let entry = ranks.get(&rank.to_string());
        let entry = entry.ok_or_else(|| format!("its affine map has nothing for tp={rank}"))?;
        let said = entry.get("shard_shape").and_then(sizes).ok_or_else(unread)?;
        if said != *shape {
            return Err(format!(
                "its affine map gives tp={rank} the shape {said:?}, the files have {shape:?}"
            ));
        }
        let held = product(shape).ok_or_else(unread)?;
        let pieces = entry.get("pieces").and_then(Value::as_array).ok_or_else(unread)?;
        if pieces.len() > MOST_PIECES {
            return Err(format!("its affine map has {} pieces for tp={rank}", pieces.len()));
        }
        let views = pieces.iter().map(|piece| view(piece, elements, held));
        let views: Vec<View> =
            views.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
        let total = views.iter().try_fold(0_u64, |sum, view| sum.checked_add(view.elements()?));
        if total != Some(held) {
            return Err(format!(
                "the pieces of its affine map are not the {held} elements that tp={rank} holds"
            ));
        }
        let mut places = Addresses::default();
        for view in &views {
            places.claim(view.dest, view.steps.iter().map(|step| (step.count, step.to)));
        }
        if !places.cover(held) {
            return Err(format!(
                "its affine map has two pieces for one place of tp={rank}, and none for another"
            ));
        }
        parts.push(Part { held, views });
    }
    Ok(Map { logical, parts })
}

/// What a map says, if that is a cut along one dim.
fn cut(map: &Map, tensor: &Ranks<'_>) -> Option<Merge> {
    let Map { logical, parts } = map;
    let elements = product(logical)?;
    let blocks: Vec<Vec<Block>> =
        parts.iter().map(|part| part.views.iter().map(View::block).collect()).collect();
    let whole = |rank: &Vec<Block>| matches!(&rank[..], [one] if one.is_run() && one.source == 0 && one.dest == 0 && one.len == elements);
    if tensor.shapes.iter().all(|shape| shape == logical)
        && (elements == 0 || blocks.iter().all(whole))
    {
        return Some(Merge::Replicated);
    }
    // A cut of an outer dim of size 1 reads as one of the dim inside; the shapes decide.
    (0..logical.len()).filter(|axis| fits(logical, *axis, tensor)).find_map(|axis| {
        let parts = along(&blocks, logical, axis, tensor)?;
        Some(Merge::Cut(whole_parts(axis, parts)))
    })
}

/// A piece of a map; `None` if it is empty. What leaves the tensor is refused.
fn view(piece: &Value, elements: u64, held: u64) -> Result<Option<View>, String> {
    let unread = || "a piece of its affine map can't be read".to_owned();
    if piece.get("scale").is_some_and(|scale| !scale.is_null() && scale.as_f64() != Some(1.0)) {
        return Err(
            "a piece of its affine map is scaled, which the optimizer's states can't be".to_owned()
        );
    }
    let shape = piece.get("shape").and_then(sizes).ok_or_else(unread)?;
    let side = |key: &str| -> Option<(u64, Vec<u64>)> {
        let pair = piece.get(key)?.as_array()?;
        let strides = sizes(pair.get(1)?)?;
        (strides.len() == shape.len() && pair.len() == 2)
            .then_some((pair.first()?.as_u64()?, strides))
    };
    let (source, from) = side("source").ok_or_else(unread)?;
    let (dest, to) = side("dest").ok_or_else(unread)?;
    if shape.contains(&0) {
        return Ok(None);
    }
    let last = |start: u64, strides: &[u64]| {
        let mut ends = shape.iter().zip(strides).map(|(size, by)| by.checked_mul(size - 1));
        ends.try_fold(start, |sum, end| sum.checked_add(end?))
    };
    if last(source, &from).is_none_or(|last| last >= elements)
        || last(dest, &to).is_none_or(|last| last >= held)
    {
        return Err("a piece of its affine map leaves the tensor".to_owned());
    }
    let steps = shape.iter().zip(from.iter().zip(&to));
    let steps = steps.map(|(count, (from, to))| Step { count: *count, from: *from, to: *to });
    Ok(Some(View { source, dest, steps: steps.filter(|step| step.count > 1).collect() }))
}

impl View {
    /// How many elements it has.
    pub(super) fn elements(&self) -> Option<u64> {
        self.steps.iter().try_fold(1_u64, |product, step| product.checked_mul(step.count))
    }

    /// The same as runs.
    fn block(&self) -> Block {
        let View { source, dest, .. } = *self;
        let mut block = Block { source, dest, loops: Vec::new(), len: 1 };
        for Step { count, from, to } in self.steps.iter().rev() {
            match block.loops.first_mut() {
                None if *from == block.len && *to == block.len => block.len *= count,
                Some((inner, step, by)) if *from == *step * *inner && *to == *by * *inner => {
                    *inner *= count;
                }
                _ => block.loops.insert(0, (*count, *from, *to)),
            }
        }
        block
    }
}

impl Map {
    /// A cut of one dim as a map; `shape` is what a rank holds but for that dim.
    pub(super) fn of(cut: &Cut, shape: &[u64]) -> Option<Map> {
        let (before, after) = (product(&shape[..cut.axis])?, product(shape.get(cut.axis + 1..)?)?);
        let inner = after.checked_mul(cut.inner)?;
        let sum = |widths: &[u64]| widths.iter().try_fold(0_u64, |sum, one| sum.checked_add(*one));
        let wholes: Vec<u64> = cut.parts.iter().map(|part| sum(part)).collect::<Option<_>>()?;
        let whole = sum(&wholes)?;
        let mut logical = shape.to_vec();
        logical[cut.axis] = whole.checked_mul(cut.outer)?.checked_mul(cut.inner)?;
        let elements = product(&logical).filter(|all| i64::try_from(*all).is_ok())?;
        let ranks = cut.parts.first()?.len();
        let mut parts = Vec::new();
        for rank in 0..ranks {
            let mut views = Vec::new();
            let own: Vec<u64> = cut.parts.iter().map(|part| part[rank]).collect();
            let width = sum(&own)?;
            for (number, part) in cut.parts.iter().enumerate().filter(|(_, part)| part[rank] > 0) {
                let source = sum(&wholes[..number])? + sum(&part[..rank])?;
                let steps = [
                    (before, elements / before, cut.outer * width * inner),
                    (cut.outer, whole * inner, width * inner),
                    (part[rank] * inner, 1, 1),
                ];
                let steps = steps.map(|(count, from, to)| Step { count, from, to });
                views.push(View {
                    source: source * inner,
                    dest: sum(&own[..number])? * inner,
                    steps: steps.into_iter().filter(|step| step.count > 1).collect(),
                });
            }
            parts.push(Part { held: before * cut.outer * width * inner, views });
        }
        Some(Map { logical, parts })
    }
}

impl Block {
    fn is_run(&self) -> bool {
        self.loops.is_empty()
    }
}

/// Whether the ranks' shapes differ from the whole along this dim alone.
fn fits(logical: &[u64], axis: usize, tensor: &Ranks<'_>) -> bool {
    tensor.shapes.iter().all(|shape| {
        shape.len() == logical.len()
            && shape.iter().zip(logical).enumerate().all(|(at, (a, b))| at == axis || a == b)
    })
}

/// The parts of a dim that is cut, each with its width on each rank.
fn along(
    blocks: &[Vec<Block>],
    logical: &[u64],
    axis: usize,
    tensor: &Ranks<'_>,
) -> Option<Vec<Vec<u64>>> {
    let outer = product(&logical[..axis])?;
    let inner = product(&logical[axis + 1..])?;
    let size = logical[axis];
    let mut intervals = Vec::new();
    for (rank, blocks) in blocks.iter().enumerate() {
        let local = tensor.shapes[rank][axis];
        for block in blocks {
            intervals.push(interval(block, rank, (outer, size, local, inner))?);
        }
    }
    intervals.sort_by_key(|interval| interval.lo);
    let mut parts: Vec<Vec<u64>> = Vec::new();
    let (mut next, mut last) = (0, usize::MAX);
    let mut filled = vec![0_u64; blocks.len()];
    for Interval { lo, hi, rank, dest } in intervals {
        // Every number once, and on its rank in the same order.
        if lo != next || dest != filled[rank] {
            return None;
        }
        (next, filled[rank]) = (hi, dest + (hi - lo));
        if last == usize::MAX || rank < last {
            parts.push(vec![0; blocks.len()]);
        }
        // Neighbours on one rank are one interval.
        if let Some(width) = parts.last_mut().and_then(|part| part.get_mut(rank)) {
            *width += hi - lo;
        }
        last = rank;
    }
    (next == size).then_some(parts)
}

/// A block as an interval of the dim, if it is that of all the others.
fn interval(
    block: &Block,
    rank: usize,
    (outer, size, local, inner): (u64, u64, u64, u64),
) -> Option<Interval> {
    let (len, count) = match block.loops[..] {
        [] => (block.len, 1),
        [(count, from, to)] if from == size * inner && to == local * inner => (block.len, count),
        _ => return None,
    };
    // One run may be all of a dim that is whole, several times.
    let (len, count) = match count {
        1 if len % outer == 0 && len / outer == size * inner && local == size => {
            (len / outer, outer)
        }
        _ => (len, count),
    };
    let whole =
        len % inner == 0 && block.source.is_multiple_of(inner) && block.dest.is_multiple_of(inner);
    if count != outer || !whole {
        return None;
    }
    let (lo, dest, width) = (block.source / inner, block.dest / inner, len / inner);
    (lo + width <= size && dest + width <= local).then_some(Interval {
        lo,
        hi: lo + width,
        rank,
        dest,
    })
}

/// Parts of one kind are one part, several times.
fn whole_parts(axis: usize, parts: Vec<Vec<u64>>) -> Cut {
    let alike = parts.windows(2).all(|two| two[0] == two[1]);
    let outer = if alike { (parts.len() as u64).max(1) } else { 1 };
    let parts = if alike { parts.into_iter().take(1).collect() } else { parts };
    Cut { axis, outer, inner: 1, parts }
}
