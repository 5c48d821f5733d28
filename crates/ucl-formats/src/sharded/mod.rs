//! Tensors as one rank of many pickles them: a DTensor, a ShardedTensor, or a plain one.
//!
//! Each says the size of the whole and where the rank's part of it lies; the parts of all ranks together
//! are the tensor.

mod dtensor;
mod gather;
mod shards;
#[cfg(test)]
mod tests;

use crate::torch::{TensorExtent, TorchFile, Value};
use ucl_tensor::DType;

pub(crate) use gather::{Place, gather};

/// What one rank's file holds of a tensor.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    /// The shape of the whole.
    pub(crate) shape: Vec<u64>,
    /// The element type; `None` if the rank has no part.
    pub(crate) dtype: Option<DType>,
    /// The rank's boxes: the index of the first element, and where they lie.
    pub(crate) boxes: Vec<(Vec<u64>, TensorExtent)>,
    /// The rank that the object says it is of, and of how many.
    pub(crate) rank: Option<u64>,
    /// How many ranks there were.
    pub(crate) world: Option<u64>,
    /// Whether the object is a cut of a larger tensor by its own word.
    pub(crate) sharded: bool,
}

/// The class of a tensor that torch wraps around another, and the call that makes it.
fn wrapped<'a>(value: Value<'a>) -> Option<(&'a str, Value<'a>)> {
    let mut value = value;
    // A parameter around it, at most.
    for _ in 0..2 {
        let class = value.class()?;
        match (&*class.module, &*class.name) {
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
                value = value.argument(0)?;
            }
            ("torch._tensor", "_rebuild_from_type_v2") => {
                let class = value.argument(1)?.as_global()?;
                return Some((&class.name, value));
            }
            _ => return None,
        }
    }
    None
}

/// Whether a value is a tensor of any of these kinds.
pub(crate) fn is_tensor(value: Value<'_>) -> bool {
    value.as_tensor().is_some() || is_sharded(value)
}

/// Whether a value is a rank's part of a larger tensor.
pub(crate) fn is_sharded(value: Value<'_>) -> bool {
    wrapped(value).is_some_and(|(name, _)| matches!(name, "DTensor" | "ShardedTensor"))
}

/// What a file holds of a tensor.
///
/// # Errors
/// Says what is wrong with it, to stand after its name.
pub(crate) fn held(file: &TorchFile, value: Value<'_>) -> Result<Held, String> {
    if let Some(tensor) = value.as_tensor() {
        let extent = file.extent(tensor).map_err(|error| error.kind.to_string())?;
        return Ok(Held {
            shape: extent.shape.clone(),
            dtype: Some(extent.dtype),
            boxes: vec![(vec![0; extent.shape.len()], extent)],
            rank: None,
            world: None,
            sharded: false,
        });
    }
    match wrapped(value) {
        Some(("DTensor", object)) => dtensor::held(file, object),
        Some(("ShardedTensor", object)) => shards::held(file, object),
        _ => Err(format!("it is {}, not a tensor", value.kind())),
    }
}

/// The size of the whole that the wrapper was made with.
fn size(object: Value<'_>) -> Option<Vec<u64>> {
    let size = object.argument(2)?.index(2)?.as_shape()?;
    (size.len() <= crate::torch::limits::MAX_DIMS).then_some(size)
}

/// A value of an object's state: a dict, or the pair of a dict and that of the slots.
fn slot<'a>(state: Value<'a>, name: &str) -> Option<Value<'a>> {
    match state.as_tuple() {
        Some(mut parts) => parts.find_map(|part| part.get(name)),
        None => state.get(name),
    }
}
