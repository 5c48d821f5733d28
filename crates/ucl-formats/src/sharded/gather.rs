//! One tensor out of the parts of all ranks.

use super::Held;
use crate::grid::{self, Uneven};
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
    let sorted: Vec<grid::Box<'_>> = boxes.keys().copied().collect();
    grid::check(shape, &sorted).map_err(|uneven| told(shape, &sorted, &uneven))?;
    let copy = |number: usize| {
        let chunks = boxes.values().filter_map(|held| held.get(number).map(|held| held.1.clone()));
        Data::of_chunks(shape, chunks.collect())
    };
    Ok(Place { dtype, shape: shape.clone(), copies: (0..copies).map(copy).collect() })
}

/// Says what is wrong with the parts of a tensor.
fn told(shape: &[u64], boxes: &[grid::Box<'_>], what: &Uneven) -> String {
    let part = |one: &usize| {
        boxes.get(*one).map_or(String::new(), |(at, sizes)| format!("of {sizes:?} at {at:?}"))
    };
    match what {
        Uneven::Outside(one) => format!("the part {} leaves its shape {shape:?}", part(one)),
        Uneven::Overlap(one, two) => format!("the parts {} and {} overlap", part(one), part(two)),
        Uneven::Gap(missing) => {
            let all = grid::volume(shape);
            format!("{missing} of its {all} elements are in no rank's file")
        }
        Uneven::Irregular => "its parts lie too irregularly".to_owned(),
    }
}
