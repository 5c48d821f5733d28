//! Optimizer states of which flat ranges were saved (`fully_sharded_model_space`).
//!
//! A tensor of shape [X, Y] that ranks hold in tiles of [x, y] is stored as [X/x, Y/y, x·y]: the tile's
//! place in the grid, then its elements in row-major order, cut by data-parallel ranks.

use super::super::folder::{Sharded, Whole};
use super::super::metadata::METADATA;
use crate::flat;
use crate::inventory::{Chunk, Data, Problem, row_major};

/// The shape of a state of `name`, saved as `full`, and where its elements are.
pub(super) fn state(
    folder: &Sharded,
    (full, name): (&str, &str),
    whole: &Whole,
) -> Result<(Vec<u64>, Data), String> {
    let recorded = folder.unflattened.get(full);
    let shape = recorded.or_else(|| folder.tensors.get(name).map(|weight| &weight.shape));
    let Some(shape) = shape.filter(|shape| **shape != whole.shape) else {
        return Ok((whole.shape.clone(), whole.data()));
    };
    let tile = tile(shape, &whole.shape)?;
    let mut boxes = Vec::new();
    for chunk in &whole.chunks {
        split(chunk, &tile, whole.dtype.size_bytes(), &mut boxes)?;
    }
    Ok((shape.to_vec(), Data::Boxes(boxes)))
}

/// The shape of a tile, by the whole shape and the stored one.
fn tile(shape: &[u64], stored: &[u64]) -> Result<Vec<u64>, String> {
    let wrong = || format!("its shape {stored:?} is no grid of flat tiles of {shape:?}");
    let Some((elements, grid)) = stored.split_last().filter(|(_, grid)| grid.len() == shape.len())
    else {
        return Err(wrong());
    };
    let sizes = shape.iter().zip(grid);
    let tile: Option<Vec<u64>> = sizes
        .map(|(size, count)| (*count > 0 && size % count == 0).then(|| size / count))
        .collect();
    let tile = tile.ok_or_else(wrong)?;
    let volume = tile.iter().try_fold(1_u64, |product, size| product.checked_mul(*size));
    if volume == Some(*elements) { Ok(tile) } else { Err(wrong()) }
}

/// A chunk is a range of one tile: a few boxes of the whole tensor.
fn split(chunk: &Chunk, tile: &[u64], size: u64, boxes: &mut Vec<Chunk>) -> Result<(), String> {
    let (Some((lo, place)), Some((len, one)), Some(stride)) =
        (chunk.offsets.split_last(), chunk.shape.split_last(), chunk.strides.last())
    else {
        return Err("a chunk of it has no dims".to_owned());
    };
    if one.iter().any(|extent| *extent != 1) {
        return Err(format!(
            "a chunk of it, {:?} at {:?}, is of several tiles",
            chunk.shape, chunk.offsets
        ));
    }
    let step =
        u64::try_from(*stride).map_err(|_| "a chunk of it has a negative stride".to_owned())?;
    let strides: Vec<i64> =
        row_major(tile).iter().map(|inner| inner.wrapping_mul(*stride)).collect();
    for part in flat::boxes(tile, *lo, lo.saturating_add(*len)) {
        let offsets = place.iter().zip(tile).zip(&part.offsets);
        boxes.push(Chunk {
            offsets: offsets.map(|((index, size), at)| index * size + at).collect(),
            shape: part.shape,
            file: chunk.file,
            offset: chunk.offset + (part.start - lo) * step * size,
            strides: strides.clone(),
        });
    }
    Ok(())
}

/// A state that does not fit its weight.
pub(super) fn refuse(folder: &Sharded, name: &str, state: &str, why: &str) -> Problem {
    let message = format!("`{state}` of `{name}` can't be read: {why}");
    Problem::new(folder.root.join(METADATA), message).help(super::buckets::WAYS)
}
