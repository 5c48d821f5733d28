//! `distrib_optim.pt`: the distributed optimizer's states, in flat buffers without names.
//!
//! `megatron/core/optimizer/distrib_optimizer.py`, `get_parameter_state_dp_zero`: a buffer for each chunk and
//! type of its parameters. Where a parameter lies is not stored. `_ParamAndGradBuffer` walks the parameters
//! backwards, starts each at a multiple of 64 elements, and cuts the buffer into buckets, by a size that
//! depends on flags and around tables that stages share; the file has the buckets without the padding at
//! their ends. So an order is taken only if it comes to the buffer's length and no other that does
//! differs. That it is the right one is seen when masters are compared with weights.

use crate::torch::{TensorExtent, TorchFile, Value};
use indexmap::IndexMap;
use std::collections::BTreeSet;

/// The states of one optimizer; nothing where another rank has them.
pub(super) type Buffers = Option<Vec<Flat>>;

/// One buffer in all its states.
#[derive(Debug)]
pub(super) struct Flat {
    pub(super) states: IndexMap<String, TensorExtent>,
    /// Elements, the same in all states.
    pub(super) len: u64,
}

/// A parameter, as far as its place goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    pub(super) numel: u64,
    /// Whether another stage has it too.
    pub(super) shared: bool,
}

/// Reads the buffers of all optimizers.
///
/// # Errors
/// Says what is not as this format has it.
pub(super) fn read(file: &TorchFile) -> Result<Vec<Buffers>, String> {
    let root = file.value.root();
    if root.as_dict().is_some() {
        return Ok(vec![Some(buffers(file, root)?)]);
    }
    let items = root.items().ok_or_else(|| format!("it holds {}, not a dict", root.kind()))?;
    let one = |item: Value<'_>| match item.is_none() {
        true => Ok(None),
        false => buffers(file, item).map(Some),
    };
    items.map(one).collect()
}

fn buffers(file: &TorchFile, value: Value<'_>) -> Result<Vec<Flat>, String> {
    let mut by_number: Vec<(i64, Value<'_>)> = Vec::new();
    for (key, held) in value.pairs().into_iter().flatten() {
        by_number.extend(key.as_i64().filter(|_| key.as_bool().is_none()).map(|n| (n, held)));
    }
    by_number.sort_by_key(|(number, _)| *number);
    let mut found = Vec::new();
    for (number, types) in by_number {
        let mut types: Vec<_> = types.pairs().into_iter().flatten().collect();
        let (Some((_, states)), true) = (types.pop(), types.is_empty()) else {
            return Err(format!("buffer {number} is not of one type"));
        };
        if states.as_list().is_some() {
            return Err(format!(
                "buffer {number} is in buckets, as before 2024: where these begin is not recorded"
            ));
        }
        found.push(flat(file, number, states)?);
    }
    Ok(found)
}

fn flat(file: &TorchFile, number: i64, value: Value<'_>) -> Result<Flat, String> {
    let mut states = IndexMap::new();
    let mut lens = BTreeSet::new();
    for (name, held) in value.pairs().into_iter().flatten() {
        let (Some(name), Some(tensor)) = (name.as_str(), held.as_tensor()) else { continue };
        let extent = file.extent(tensor).map_err(|error| error.kind.to_string())?;
        if extent.shape.len() != 1 || !extent.is_contiguous() {
            return Err(format!("`{name}` of buffer {number} has the shape {:?}", extent.shape));
        }
        lens.insert(extent.numel);
        // The masters are called after the parameters that they are of.
        let state = if name == "param" { "fp32" } else { name };
        states.insert(state.to_owned(), extent);
    }
    let said = value.get("numel_unpadded").and_then(Value::as_u64);
    lens.extend(said);
    match (lens.len(), lens.first()) {
        (1, Some(len)) if !states.is_empty() => Ok(Flat { states, len: *len }),
        _ => Err(format!("buffer {number} has the lengths {lens:?} in its states")),
    }
}

/// Where each parameter of a buffer starts, in its own order.
///
/// # Errors
/// No order comes to the buffer's length, or several that differ do.
pub(super) fn starts(params: &[Placed], len: u64, sizes: &[u64]) -> Result<Vec<u64>, String> {
    let sizes = sizes.iter().copied().map(Some).chain([None]);
    let ways: Vec<(u64, Option<u64>)> = sizes.flat_map(|size| [(64, size), (1, size)]).collect();
    let mut found: Vec<Vec<u64>> = Vec::new();
    let mut lens = BTreeSet::new();
    for (align, size) in ways {
        let Some((starts, whole)) = walk(params, align, size) else { continue };
        lens.insert(whole);
        if whole == len && !found.contains(&starts) {
            found.push(starts);
        }
    }
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(format!(
            "a buffer has {len} elements, and its {} parameters come to {lens:?} by Megatron's rules",
            params.len()
        )),
        more => {
            Err(format!("{more} orders of its parameters come to the {len} elements of a buffer"))
        }
    }
}

/// The starts, and the length of all buckets together.
fn walk(params: &[Placed], align: u64, size: Option<u64>) -> Option<(Vec<u64>, u64)> {
    let mut starts = vec![0; params.len()];
    // Elements in closed buckets, and in the open one.
    let (mut closed, mut open, mut empty) = (0_u64, 0_u64, true);
    for (index, param) in params.iter().enumerate().rev() {
        open = open.checked_next_multiple_of(align)?;
        if param.shared && !empty {
            (closed, open) = (closed.checked_add(open)?, 0);
        }
        starts[index] = closed.checked_add(open)?;
        open = open.checked_add(param.numel)?;
        empty = false;
        if param.shared || size.is_some_and(|size| open >= size) {
            (closed, open, empty) = (closed.checked_add(open)?, 0, true);
        }
    }
    Some((starts, closed.checked_add(open)?))
}

#[cfg(test)]
mod tests {
    use super::{Placed, starts};

    fn params(numels: &[u64]) -> Vec<Placed> {
        numels.iter().map(|numel| Placed { numel: *numel, shared: false }).collect()
    }

    #[test]
    fn parameters_are_walked_backwards_and_aligned() {
        // The last comes first: 5 at 0, 70 at 64, 10 at 192.
        assert_eq!(starts(&params(&[10, 70, 5]), 202, &[]), Ok(vec![192, 64, 0]));
        // Without alignment, as before 2024.
        assert_eq!(starts(&params(&[10, 70, 5]), 85, &[]), Ok(vec![75, 5, 0]));
    }

    #[test]
    fn a_shared_table_has_a_bucket_of_its_own() {
        let mut three = params(&[10, 70, 5]);
        three[1].shared = true;
        // 5 and its gap close a bucket; the table's ends where it ends.
        assert_eq!(starts(&three, 144, &[]), Ok(vec![134, 64, 0]));
    }

    #[test]
    fn buckets_end_without_a_gap() {
        assert_eq!(starts(&params(&[10, 70, 5]), 144, &[70]), Ok(vec![134, 64, 0]));
    }

    #[test]
    fn what_does_not_come_to_the_length_is_refused() {
        assert!(starts(&params(&[10, 70, 5]), 203, &[]).unwrap_err().contains("203"));
        let huge = params(&[u64::MAX, u64::MAX]);
        assert!(starts(&huge, 1, &[]).is_err());
    }
}
