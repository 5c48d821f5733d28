//! DTensors: a mesh, a placement for each of its dims, and the local part.

use super::{Held, size, slot};
use crate::torch::{TorchFile, Value};

/// Meshes have no more dims.
const MOST_DIMS: usize = 16;

/// How a tensor is laid over one dim of a mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Placement {
    Replicate,
    Shard {
        dim: usize,
    },
    /// Cut inside of the cuts of the mesh dims to its right, which are so many.
    Strided {
        dim: usize,
        split: u64,
    },
}

/// What a rank holds of a DTensor.
pub(super) fn held(file: &TorchFile, object: Value<'_>) -> Result<Held, String> {
    let lacks = |what: &str| format!("its DTensor has no {what}");
    let state = object.argument(3).ok_or_else(|| lacks("state"))?;
    let shape = size(object).ok_or_else(|| lacks("size"))?;
    let local = slot(state, "_local_tensor").and_then(Value::as_tensor);
    let local = local.ok_or_else(|| lacks("local part"))?;
    let extent = file.extent(local).map_err(|error| error.kind.to_string())?;
    let spec = slot(state, "_spec").ok_or_else(|| lacks("_spec"))?;
    let mesh = spec.attr("mesh").ok_or_else(|| lacks("mesh"))?;
    let placements = placements(spec, &shape)?;
    let sizes = sizes(mesh).ok_or_else(|| lacks("readable mesh"))?;
    let at = mesh.attr("_coordinate_on_dim").and_then(Value::as_shape);
    let at = at.ok_or_else(|| lacks("place on its mesh"))?;
    if sizes.len() != placements.len() || at.len() != sizes.len() {
        let (dims, places) = (sizes.len(), placements.len());
        return Err(format!("its mesh has {dims} dims, and there are {places} placements"));
    }
    let order = order(spec, &placements, &sizes)?;
    let (mut offsets, mut local) = (vec![0; shape.len()], shape.clone());
    for mesh_dim in order {
        let (Placement::Shard { dim } | Placement::Strided { dim, .. }) = placements[mesh_dim]
        else {
            continue;
        };
        let (start, len) = chunk(local[dim], sizes[mesh_dim], at[mesh_dim]);
        offsets[dim] += start;
        local[dim] = len;
    }
    if local != extent.shape {
        let found = &extent.shape;
        return Err(format!(
            "its part has the shape {found:?}, its mesh and placements make it {local:?}"
        ));
    }
    Ok(Held {
        shape,
        dtype: Some(extent.dtype),
        boxes: vec![(offsets, extent)],
        rank: mesh.attr("_rank").and_then(Value::as_u64),
        world: sizes.iter().try_fold(1_u64, |ranks, size| ranks.checked_mul(*size)),
        sharded: true,
    })
}

/// Part `at` of `ranks`, as `torch.chunk` cuts: rounded up, the last ones smaller or empty.
fn chunk(len: u64, ranks: u64, at: u64) -> (u64, u64) {
    let each = len.div_ceil(ranks.max(1));
    let start = each.saturating_mul(at).min(len);
    (start, each.min(len - start))
}

fn placements(spec: Value<'_>, shape: &[u64]) -> Result<Vec<Placement>, String> {
    let items = spec.attr("placements").and_then(Value::items);
    let items = items.ok_or("its DTensor has no placements")?;
    if items.len() > MOST_DIMS {
        return Err(format!("it has {} placements", items.len()));
    }
    let one = |item: Value<'_>| {
        let dim = || {
            let dim = item.attr("dim").or_else(|| item.argument(0)).and_then(Value::as_i64);
            let whole = i64::try_from(shape.len()).unwrap_or(0);
            let dim = dim.map(|dim| if dim < 0 { dim.saturating_add(whole) } else { dim });
            let dim = dim.and_then(|dim| usize::try_from(dim).ok());
            dim.filter(|dim| *dim < shape.len()).ok_or("a placement is of a dim that it has not")
        };
        match item.class().map(|class| &*class.name) {
            Some("Replicate") => Ok(Placement::Replicate),
            Some("Shard") => Ok(Placement::Shard { dim: dim()? }),
            Some("_StridedShard") => {
                let split = item.attr("split_factor").or_else(|| item.argument(1));
                let split =
                    split.and_then(Value::as_u64).ok_or("a _StridedShard has no split_factor")?;
                Ok(Placement::Strided { dim: dim()?, split })
            }
            Some("Partial" | "_Partial" | "_NormPartial" | "_MaskPartial") => {
                Err("each rank holds a partial sum of it".to_owned())
            }
            Some(other) => Err(format!("its placement {other} is not known")),
            None => Err(format!("a placement is {}", item.kind())),
        }
    };
    items.map(one).collect()
}

/// The sizes of a mesh, in all forms that torch has given it.
fn sizes(mesh: Value<'_>) -> Option<Vec<u64>> {
    let sizes = if let Some(tensor) = mesh.attr("mesh").and_then(Value::as_tensor) {
        tensor.size.to_vec()
    } else {
        let layout = mesh.attr("_layout")?;
        match layout.attr("axes") {
            Some(axes) => {
                axes.items()?.map(|axis| extent(axis.attr("shape")?, 0)).collect::<Option<_>>()?
            }
            None => {
                let shape = layout.attr("shape")?;
                match shape.items() {
                    Some(items) => items.map(|item| extent(item, 0)).collect::<Option<_>>()?,
                    None => vec![shape.as_u64()?],
                }
            }
        }
    };
    (sizes.len() <= MOST_DIMS && !sizes.contains(&0)).then_some(sizes)
}

/// The ranks along a dim, which may itself be made of several.
fn extent(value: Value<'_>, depth: u32) -> Option<u64> {
    match value.items() {
        Some(items) if depth < 4 && items.len() <= MOST_DIMS => items
            .map(|item| extent(item, depth + 1))
            .try_fold(1_u64, |product, size| product.checked_mul(size?)),
        Some(_) => None,
        None => value.as_u64(),
    }
}

/// The mesh dims in the order in which they cut.
fn order(spec: Value<'_>, placements: &[Placement], sizes: &[u64]) -> Result<Vec<usize>, String> {
    let strided = placements.iter().any(|one| matches!(one, Placement::Strided { .. }));
    if !strided {
        return Ok(recorded(spec, placements).unwrap_or_else(|| (0..placements.len()).collect()));
    }
    // FSDP over tensor parallelism: what lies to the right has cut before.
    for (mesh_dim, one) in placements.iter().enumerate() {
        let Placement::Strided { dim, split } = one else { continue };
        let right = placements.iter().zip(sizes).skip(mesh_dim + 1);
        let mut before = right.filter(|(other, _)| match other {
            Placement::Shard { dim: other } | Placement::Strided { dim: other, .. } => other == dim,
            Placement::Replicate => false,
        });
        let before =
            before.by_ref().try_fold(1_u64, |product, (_, size)| product.checked_mul(*size));
        if before != Some(*split) {
            return Err(format!(
                "its _StridedShard of {split} does not follow from its mesh {sizes:?}"
            ));
        }
    }
    Ok((0..placements.len()).rev().collect())
}

/// The order that newer versions record: for each dim of the tensor, the mesh dims.
fn recorded(spec: Value<'_>, placements: &[Placement]) -> Option<Vec<usize>> {
    let mut order = Vec::new();
    for entry in spec.attr("shard_order")?.items()? {
        let dims = entry.argument(1).or_else(|| entry.index(1))?.as_shape()?;
        order.extend(dims.into_iter().filter_map(|dim| usize::try_from(dim).ok()));
    }
    let cuts = (0..placements.len()).filter(|dim| placements[*dim] != Placement::Replicate);
    let mut sorted = order.clone();
    sorted.sort_unstable();
    (sorted == cuts.collect::<Vec<_>>()).then_some(order)
}

#[cfg(test)]
mod tests {
    use super::chunk;

    #[test]
    fn chunks_as_torch_cuts() {
        assert_eq!([0, 1, 2, 3].map(|at| chunk(5, 4, at)), [(0, 2), (2, 2), (4, 1), (5, 0)]);
        assert_eq!([0, 1, 2].map(|at| chunk(6, 3, at)), [(0, 2), (2, 2), (4, 2)]);
        assert_eq!(chunk(0, 2, 1), (0, 0));
        assert_eq!(chunk(7, 2, u64::MAX), (7, 0));
    }
}
