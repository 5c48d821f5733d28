//! How the parts of one tensor on all tensor ranks fit together.

use super::affine::{self, Map};
use super::info::{Info, Parts, SubParams};
use super::pattern::Patterns;

/// What the ranks hold of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Merge {
    /// All of it, the same.
    Replicated,
    /// All of it, each its own.
    Average,
    /// A part.
    Cut(Cut),
    /// Boxes of it; a spec has no form for that.
    Laid(Map),
}

/// A stored dim that is cut: `outer` times, one behind the other, the parts, each number of which is
/// `inner` elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) axis: usize,
    pub(super) outer: u64,
    pub(super) inner: u64,
    /// For each part its width on each rank.
    pub(super) parts: Vec<Vec<u64>>,
}

/// A tensor with the shape that each tensor rank holds.
pub(super) struct Ranks<'a> {
    pub(super) name: &'a str,
    pub(super) shapes: &'a [Vec<u64>],
    /// Whether it was put together already, so that there is one shape.
    pub(super) laid: bool,
}

/// What was decided for a tensor.
pub(super) struct Found {
    pub(super) merge: Merge,
    /// The true number of rows, where there are more.
    pub(super) rows: Option<u64>,
    /// Whether a pattern says so; else it is what DeepSpeed does without.
    pub(super) listed: bool,
}

/// Which patterns of each category were used.
#[derive(Default)]
pub(super) struct Used(pub(super) Vec<(&'static str, usize)>);

impl Used {
    /// The one pattern of a category that matches.
    fn one(
        &mut self,
        key: &'static str,
        patterns: &Patterns,
        name: &str,
    ) -> Result<Option<usize>, String> {
        match patterns.matching(name)[..] {
            [] => Ok(None),
            [one] => {
                self.0.push((key, one));
                Ok(Some(one))
            }
            [first, second, ..] => Err(format!(
                "`{key}` has two patterns for it, {:?} and {:?}",
                patterns.text(first),
                patterns.text(second)
            )),
        }
    }
}

/// Decides in the order in which DeepSpeed's converter does.
pub(super) fn decide(info: &Info, tensor: &Ranks<'_>, used: &mut Used) -> Result<Found, String> {
    let name = tensor.name;
    if let [number, ..] = info.unsupported.matching(name)[..] {
        let reason = info.reasons.get(number).map_or("", String::as_str);
        return Err(format!("DeepSpeed says that its cut can't be undone: {reason}"));
    }
    let affine = used.one("affine_map", &info.affine, name)?;
    let replicated = used.one("tp_replicated_parameter_patterns", &info.replicated, name)?;
    let average = used.one("parameter_to_average_patterns", &info.average, name)?;
    let halves = used.one("parameter_with_2_sub_params_cat_dim_0", &info.halves, name)?;
    let rows = used.one("parameter_with_row_parallelism_patterns", &info.rows, name)?;
    let vocabulary = used.one("vocabulary_parameter_patterns", &info.vocabulary, name)?;
    let sub = info
        .subs
        .iter()
        .enumerate()
        .find_map(|(number, sub)| Some((number, sub, *sub.patterns.matching(name).first()?)));
    if let Some((number, _, pattern)) = sub {
        used.0.push(("parameter_with_sub_params", number << 32 | pattern));
    }
    let listed = affine.or(replicated).or(average).or(halves).or(rows).or(vocabulary).is_some()
        || sub.is_some();
    let merge = if tensor.laid {
        Merge::Replicated
    } else if let Some(number) = affine {
        let map = info.maps.get(number).ok_or("its affine map is missing")?;
        affine::merge(map, tensor)?
    } else if replicated.is_some() {
        same_shapes(tensor)?;
        Merge::Replicated
    } else if average.is_some() {
        same_shapes(tensor)?;
        Merge::Average
    } else if halves.is_some() {
        Merge::Cut(in_halves(tensor)?)
    } else if let Some((_, sub, pattern)) = sub {
        Merge::Cut(in_parts(info, sub, pattern, tensor)?)
    } else if tensor.shapes.len() == 1 {
        Merge::Replicated
    } else {
        Merge::Cut(along(tensor, usize::from(rows.is_some()))?)
    };
    let rows = match vocabulary {
        Some(_) => true_rows(info, tensor, &merge)?,
        None => None,
    };
    Ok(Found { merge, rows, listed })
}

fn same_shapes(tensor: &Ranks<'_>) -> Result<(), String> {
    let Some(first) = tensor.shapes.first() else { return Ok(()) };
    match tensor.shapes.iter().position(|shape| shape != first) {
        None => Ok(()),
        Some(rank) => Err(format!(
            "all ranks should hold the whole of it, but tp=0 has {first:?} and tp={rank} {:?}",
            tensor.shapes[rank]
        )),
    }
}

/// A plain cut of one dim, wherever the ranks' shapes put it.
pub(super) fn along(tensor: &Ranks<'_>, axis: usize) -> Result<Cut, String> {
    let widths = widths(tensor, axis)?;
    Ok(Cut { axis, outer: 1, inner: 1, parts: vec![widths] })
}

/// What each rank has along a dim, all others being the same.
pub(super) fn widths(tensor: &Ranks<'_>, axis: usize) -> Result<Vec<u64>, String> {
    let first = tensor.shapes.first().cloned().unwrap_or_default();
    let of_rank = |(rank, shape): (usize, &Vec<u64>)| {
        let others = |shape: &[u64]| -> Vec<u64> {
            shape.iter().enumerate().filter(|(at, _)| *at != axis).map(|(_, size)| *size).collect()
        };
        match shape.get(axis) {
            Some(width) if others(shape) == others(&first) => Ok(*width),
            Some(_) => Err(format!(
                "its parts do not fit together along dim {axis}: tp=0 has {first:?}, tp={rank} {shape:?}"
            )),
            None => Err(format!("it is cut along dim {axis} and has the shape {shape:?}")),
        }
    };
    tensor.shapes.iter().enumerate().map(of_rank).collect()
}

/// Two parts of one size, one behind the other, on every rank.
fn in_halves(tensor: &Ranks<'_>) -> Result<Cut, String> {
    let half = |width: &u64| match width % 2 {
        0 => Ok(width / 2),
        _ => Err(format!("it should be two halves on every rank, but one has {width} rows")),
    };
    let halves: Vec<u64> = widths(tensor, 0)?.iter().map(half).collect::<Result<_, _>>()?;
    Ok(Cut { axis: 0, outer: 1, inner: 1, parts: vec![halves.clone(), halves] })
}

/// Parts of any sizes, each cut by itself.
fn in_parts(
    info: &Info,
    sub: &SubParams,
    pattern: usize,
    tensor: &Ranks<'_>,
) -> Result<Cut, String> {
    let ranks = tensor.shapes.len() as u64;
    let even = |sizes: &[u64]| match sizes.iter().find(|size| *size % ranks != 0) {
        None => Ok(sizes.iter().map(|size| vec![size / ranks; tensor.shapes.len()]).collect()),
        Some(size) => Err(format!(
            "its part of {size} does not divide over tp={ranks}, and version {} records no widths",
            info.version
        )),
    };
    let logical = Logical { sub, tensor };
    let parts: Vec<Vec<u64>> = match (&sub.parts, info.version >= 0.4) {
        (Parts::Sizes(sizes), true) => {
            let widths = sub.widths.get(pattern).and_then(Option::as_ref);
            let widths = widths.ok_or_else(|| {
                format!(
                    "`sub_param_shard_widths` has no widths for {:?}",
                    sub.patterns.text(pattern)
                )
            })?;
            fit(widths, sizes, ranks)?;
            widths.clone()
        }
        (Parts::Sizes(sizes), false) => even(sizes)?,
        (Parts::Equal(count), false) => {
            // Here the dim is one of the stored tensor.
            let whole: u64 = widths(tensor, sub.dim)?.iter().sum();
            if !whole.is_multiple_of(*count) {
                return Err(format!(
                    "{count} equal parts do not make up its {whole} of dim {}",
                    sub.dim
                ));
            }
            even(&vec![whole / count; usize::try_from(*count).unwrap_or(0)])?
        }
        (Parts::Equal(count), true) => {
            return Err(format!("its {count} parts have no sizes, which version 0.4 records"));
        }
    };
    logical.cut(parts)
}

fn fit(widths: &[Vec<u64>], sizes: &[u64], ranks: u64) -> Result<(), String> {
    if widths.len() != sizes.len() {
        return Err(format!("it has {} parts and widths for {}", sizes.len(), widths.len()));
    }
    for (widths, size) in widths.iter().zip(sizes) {
        let sum = widths.iter().try_fold(0_u64, |sum, width| sum.checked_add(*width));
        if widths.len() as u64 != ranks || sum != Some(*size) {
            return Err(format!(
                "the widths {widths:?} of its part of {size} do not add up over tp={ranks}"
            ));
        }
    }
    Ok(())
}

/// A logical shape that the stored one is a view of.
struct Logical<'a> {
    sub: &'a SubParams,
    tensor: &'a Ranks<'a>,
}

impl Logical<'_> {
    /// Finds the stored dim that the cut one lies in.
    fn cut(&self, parts: Vec<Vec<u64>>) -> Result<Cut, String> {
        let first = self.tensor.shapes.first().cloned().unwrap_or_default();
        let no_view = || {
            format!(
                "its shape {first:?} is no view of the logical one, cut along dim {}",
                self.sub.dim
            )
        };
        let width =
            |rank: usize| parts.iter().map(|part| part.get(rank).copied().unwrap_or(0)).sum();
        let elements = product(&first).ok_or_else(no_view)?;
        let (before, after) = self.around(elements, width(0)).ok_or_else(no_view)?;
        for axis in 0..first.len() {
            let (left, right) = (product(&first[..axis]), product(&first[axis + 1..]));
            let (Some(left), Some(right)) = (left, right) else { continue };
            if left == 0 || right == 0 || before % left != 0 || after % right != 0 {
                continue;
            }
            let cut =
                Cut { axis, outer: before / left, inner: after / right, parts: parts.clone() };
            let stored = widths(self.tensor, axis);
            let holds = |(rank, stored): (usize, &u64)| {
                let sum: u64 = width(rank);
                cut.outer.checked_mul(sum).and_then(|n| n.checked_mul(cut.inner)) == Some(*stored)
            };
            if stored.is_ok_and(|stored| stored.iter().enumerate().all(holds)) {
                return Ok(cut);
            }
        }
        Err(no_view())
    }

    /// How many elements the logical dims before and behind the cut one have.
    fn around(&self, elements: u64, width: u64) -> Option<(u64, u64)> {
        let (dim, shape) = (self.sub.dim, &self.sub.shape);
        let known = |dims: &[Option<u64>]| {
            dims.iter().flatten().try_fold(1_u64, |product, size| product.checked_mul(*size))
        };
        let (before, after) = (known(&shape[..dim])?, known(&shape[dim + 1..])?);
        // What was left open follows from the rest, where this rank has anything.
        let open_before = shape[..dim].iter().any(Option::is_none);
        let open_after = shape[dim + 1..].iter().any(Option::is_none);
        let rest = || elements.checked_div(before.checked_mul(after)?.checked_mul(width)?);
        match (open_before, open_after) {
            (false, false) => Some((before, after)),
            (true, false) => Some((before.checked_mul(rest()?)?, after)),
            (false, true) => Some((before, after.checked_mul(rest()?)?)),
            (true, true) => None,
        }
    }
}

pub(super) fn product(sizes: &[u64]) -> Option<u64> {
    sizes.iter().try_fold(1_u64, |product, size| product.checked_mul(*size))
}

/// The rows of a vocabulary that are no padding, if there is padding.
fn true_rows(info: &Info, tensor: &Ranks<'_>, merge: &Merge) -> Result<Option<u64>, String> {
    let vocab = info.vocab.ok_or("it is a vocabulary, and `original_vocab_size` is missing")?;
    let first = tensor.shapes.first().and_then(|shape| shape.first()).copied();
    let stored = match merge {
        Merge::Cut(cut) if cut.axis == 0 => {
            let rows: u64 = cut.parts.iter().flatten().sum();
            if vocab < rows && (cut.parts.len() > 1 || cut.outer > 1 || cut.inner > 1) {
                return Err(
                    "it is a vocabulary with padding, and fused of several parts".to_owned()
                );
            }
            rows.saturating_mul(cut.outer).saturating_mul(cut.inner)
        }
        _ => first.ok_or("it is a vocabulary and has no rows")?,
    };
    Ok((vocab < stored).then_some(vocab))
}
