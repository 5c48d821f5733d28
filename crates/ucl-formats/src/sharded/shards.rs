//! ShardedTensors: the local shards with their offsets, and the metadata of all.

use super::{Held, size};
use crate::torch::{TorchFile, Value};

/// What a rank holds of a ShardedTensor, whose state is (shards, metadata, group, spec, …).
pub(super) fn held(file: &TorchFile, object: Value<'_>) -> Result<Held, String> {
    let lacks = |what: &str| format!("its ShardedTensor has no {what}");
    let state = object.argument(3).ok_or_else(|| lacks("state"))?;
    let local = state.index(0).and_then(Value::as_list).ok_or_else(|| lacks("list of shards"))?;
    let metadata = state.index(1).ok_or_else(|| lacks("metadata"))?;
    let shape = metadata.attr("size").and_then(Value::as_shape).ok_or_else(|| lacks("size"))?;
    if size(object).is_some_and(|made| made != shape) {
        return Err("its ShardedTensor gives two sizes of the whole".to_owned());
    }
    let mut boxes = Vec::new();
    for shard in local {
        let tensor = shard.attr("tensor").and_then(Value::as_tensor);
        let tensor = tensor.ok_or_else(|| lacks("tensor in a shard"))?;
        let extent = file.extent(tensor).map_err(|error| error.kind.to_string())?;
        let said = |name: &str| shard.attr("metadata")?.attr(name)?.as_shape();
        let (offsets, sizes) = (said("shard_offsets"), said("shard_sizes"));
        let (offsets, sizes) = offsets.zip(sizes).ok_or_else(|| lacks("place of a shard"))?;
        if sizes != extent.shape || offsets.len() != shape.len() || sizes.len() != shape.len() {
            let found = &extent.shape;
            return Err(format!(
                "a shard has the shape {found:?}, its metadata say {sizes:?} at {offsets:?}"
            ));
        }
        boxes.push((offsets, extent));
    }
    let group = state.index(2);
    let of_group = |name: &str| group?.attr(name)?.as_u64();
    Ok(Held {
        shape,
        dtype: boxes.first().map(|(_, extent)| extent.dtype),
        boxes,
        rank: of_group("global_rank"),
        world: of_group("global_world_size"),
        sharded: true,
    })
}
