//! Whole sizes where a cut need not divide: what all ranks hold together.

use super::composite::Composites;
use super::cut::Cuts;
use std::collections::BTreeMap;
use ucl_formats::Inventory;
use ucl_formats::inventory::Stored;
use ucl_ir::{Factor, Rule};

/// The extent of a stored dim over all parts of an uneven cut in it; `None` if there is no such cut, or
/// a part is missing or may be repeated.
pub(super) fn together(
    composites: &Composites<'_>,
    cuts: Cuts<'_>,
    rule: &Rule,
    (axis, factor): (usize, &Factor),
    stored: &Stored,
    inventory: &Inventory,
) -> Option<u64> {
    let met = cuts.met(std::slice::from_ref(factor), &rule.terms, composites);
    if met.iter().any(|shard| shard.rest.repeat) {
        return None;
    }
    let shard = met.into_iter().find(|shard| shard.rest.uneven.is_some())?;
    let same = inventory.tensors.iter().filter(|one| {
        one.name == stored.name && one.state == stored.state && one.shape.len() > axis
    });
    let parts: BTreeMap<u64, u64> =
        same.map(|one| (cuts.part(shard, &one.at), one.shape[axis])).collect();
    (parts.len() as u64 == cuts.ranks(shard)).then(|| parts.values().sum())
}
