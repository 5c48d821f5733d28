//! One tensor out of the parts of all ranks.

use super::Held;
use crate::inventory::{Chunk, Data, FileId};
use std::collections::BTreeMap;
use ucl_tensor::DType;

/// A whole tensor: one of its copies.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The element type.
    pub(crate) dtype: DType,
    /// The shape of the whole.
    pub(crate) shape: Vec<u64>,
    /// Where its elements are, for each copy.
    pub(crate) copies: Vec<Data>,
}

/// A box of a tensor, and who holds it.
type Boxes<'a> = BTreeMap<(&'a [u64], &'a [u64]), Vec<&'a (FileId, Chunk)>>;

/// Puts the parts together. Ranks that hold the same box hold copies: the first of each are one tensor,
/// the second of each are another.
///
/// # Errors
/// Says what does not fit, to stand after the tensor's name.
pub(crate) fn gather(parts: &[(FileId, Held)]) -> Result<Place, String> {
    let (_, first) = parts.first().ok_or("no rank holds it")?;
    let shape = &first.shape;
    if let Some((_, other)) = parts.iter().find(|(_, held)| held.shape != *shape) {
        return Err(format!(
            "the ranks disagree on its shape: {shape:?} and {:?}{}",
            other.shape,
            if first.sharded { "" } else { ", and nothing says how it is cut" }
        ));
    }
    let dtypes = || parts.iter().filter_map(|(_, held)| held.dtype);
    let dtype = dtypes().next().ok_or("no rank holds an element of it")?;
    if let Some(other) = dtypes().find(|other| *other != dtype) {
        return Err(format!(
            "the ranks disagree on its type: {} and {}",
            dtype.name(),
            other.name()
        ));
    }
    let mut chunks: Vec<(FileId, Chunk)> = Vec::new();
    for (file, held) in parts {
        for (offsets, extent) in held.boxes.iter().filter(|(_, extent)| extent.numel > 0) {
            let chunk = Chunk {
                offsets: offsets.clone(),
                shape: extent.shape.clone(),
                file: *file,
                offset: extent.file_offset,
                strides: extent.strides.clone(),
            };
            chunks.push((*file, chunk));
        }
    }
    let mut boxes: Boxes<'_> = BTreeMap::new();
    for held in &chunks {
        boxes.entry((&held.1.offsets, &held.1.shape)).or_default().push(held);
    }
    let copies = boxes.values().map(Vec::len).max().unwrap_or(1);
    if let Some(((offsets, sizes), held)) = boxes.iter().find(|(_, held)| held.len() < copies) {
        return Err(format!(
            "{copies} ranks hold each part of it, but {} the part of {sizes:?} at {offsets:?}",
            held.len()
        ));
    }
    tiles(shape, boxes.keys().copied())?;
    let copy = |number: usize| {
        let chunks = boxes.values().filter_map(|held| held.get(number).map(|held| held.1.clone()));
        let mut chunks: Vec<Chunk> = chunks.collect();
        match chunks.as_slice() {
            [one] if one.shape == *shape => {
                let Chunk { file, offset, strides, .. } = chunks.remove(0);
                Data::Strided { file, offset, strides }
            }
            _ => Data::Boxes(chunks),
        }
    };
    Ok(Place { dtype, shape: shape.clone(), copies: (0..copies).map(copy).collect() })
}

/// Comparisons that are made at most.
const MOST: u64 = 1 << 28;

/// Whether boxes, sorted by their first index, hold each element of a shape once.
fn tiles<'a>(
    shape: &[u64],
    boxes: impl Iterator<Item = (&'a [u64], &'a [u64])>,
) -> Result<(), String> {
    let volume = |sizes: &[u64]| {
        sizes.iter().fold(1_u128, |product, size| product.saturating_mul(u128::from(*size)))
    };
    let end = |one: (&[u64], &[u64]), dim: usize| one.0[dim].saturating_add(one.1[dim]);
    let (mut open, mut held, mut compared) = (Vec::new(), 0_u128, 0_u64);
    for one in boxes {
        let (offsets, sizes) = one;
        let inside = offsets.len() == shape.len()
            && sizes.len() == shape.len()
            && (0..shape.len()).all(|dim| {
                offsets[dim].checked_add(sizes[dim]).is_some_and(|end| end <= shape[dim])
            });
        if !inside {
            return Err(format!("the part of {sizes:?} at {offsets:?} leaves its shape {shape:?}"));
        }
        open.retain(|other| shape.is_empty() || end(*other, 0) > offsets[0]);
        compared += open.len() as u64;
        if compared > MOST {
            return Err("its parts lie too irregularly".to_owned());
        }
        let meets = |other: &&(&[u64], &[u64])| {
            (0..shape.len())
                .all(|dim| offsets[dim] < end(**other, dim) && other.0[dim] < end(one, dim))
        };
        if let Some((other, extents)) = open.iter().find(meets) {
            return Err(format!(
                "the parts of {extents:?} at {other:?} and of {sizes:?} at {offsets:?} overlap"
            ));
        }
        held = held.saturating_add(volume(sizes));
        open.push(one);
    }
    match volume(shape).saturating_sub(held) {
        0 => Ok(()),
        missing => {
            Err(format!("{missing} of its {} elements are in no rank's file", volume(shape)))
        }
    }
}
