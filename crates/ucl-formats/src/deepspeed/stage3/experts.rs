//! AutoEP's stacks of experts under ZeRO-3, cut over the ranks that hold the same experts alone.
//!
//! Each shard says of each sub-group who shares it (`runtime/zero/stage3.py`,
//! `_zero3_partition_group_metadata`), each model file which expert rank its own is (`ds_autoep_layers`).

use super::super::laid::Param;
use super::super::model::ModelFile;
use super::super::states::Row;
use crate::inventory::Problem;
use crate::ranks::{MIXED, Opened, name_of};
use std::collections::{BTreeMap, BTreeSet};

/// The model files of an `mp` rank, by data rank.
pub(super) type Models<'a> = BTreeMap<u64, &'a Opened<ModelFile>>;

/// What some ranks share of a sub-group.
pub(super) struct Share {
    /// The data ranks, in the order of their parts.
    pub(super) ranks: Vec<u64>,
    /// The parameters as they are over all ranks, with the rows that are here.
    pub(super) params: Vec<Param>,
    /// The shapes as these ranks have them.
    pub(super) shapes: Vec<Vec<u64>>,
}

/// Who shares a sub-group; nothing if all ranks do.
pub(super) fn shares(
    index: usize,
    row: &Row<'_>,
    models: &Models<'_>,
    problems: &mut Vec<Problem>,
) -> Option<Vec<Share>> {
    let all = 0..row.len() as u64;
    let recorded = row.iter().flatten().any(|shard| {
        shard.content.shared.get(index).is_some_and(|ranks| !ranks.iter().copied().eq(all.clone()))
    });
    let before = problems.len();
    if !recorded {
        return spread_out(index, models, problems).then(Vec::new);
    }
    let mut sets: BTreeSet<&[u64]> = BTreeSet::new();
    let lists = row.iter().enumerate().filter_map(|(rank, shard)| Some((rank as u64, (*shard)?)));
    for (rank, shard) in lists.clone() {
        let ranks = shard.content.shared.get(index).map_or(&[][..], Vec::as_slice);
        let distinct: BTreeSet<u64> = ranks.iter().copied().collect();
        let here = distinct.contains(&rank) && distinct.len() == ranks.len();
        if here && distinct.iter().all(|rank| all.contains(rank)) {
            sets.insert(ranks);
            continue;
        }
        let message = format!(
            "`ds_zero_partition_groups` says that the ranks {ranks:?} share sub-group {index}, this is rank \
             {rank} of {}",
            row.len()
        );
        problems.push(Problem::new(&shard.path, message).help(MIXED));
    }
    let mut owner: BTreeMap<u64, &[u64]> = BTreeMap::new();
    for ranks in &sets {
        for rank in *ranks {
            let Some(other) = owner.insert(*rank, ranks) else { continue };
            let Some((_, shard)) = lists
                .clone()
                .find(|(_, shard)| shard.content.shared.get(index).is_some_and(|own| own == ranks))
            else {
                continue;
            };
            let message = format!(
                "`ds_zero_partition_groups` says that the ranks {ranks:?} share sub-group {index}, of others that \
                 the ranks {other:?} do"
            );
            problems.push(Problem::new(&shard.path, message).help(MIXED));
        }
    }
    if problems.len() > before {
        return Some(Vec::new());
    }
    let shares: Vec<Share> =
        sets.into_iter().filter_map(|ranks| share(index, ranks, models, problems)).collect();
    if let Some((name, ranks)) = twice(&shares) {
        let model = ranks.iter().find_map(|rank| models.get(rank))?;
        let message = format!(
            "`ds_autoep_layers` says that other ranks than {ranks:?} have the same experts of `{name}`, and they \
             do not share sub-group {index}"
        );
        problems.push(Problem::new(&model.path, message).help(MIXED));
        return Some(Vec::new());
    }
    Some(shares)
}

/// A stack of which ranks say that they have what others have, and those ranks.
fn twice(shares: &[Share]) -> Option<(&str, &[u64])> {
    let mut seen = BTreeSet::new();
    let stacks =
        shares.iter().flat_map(|share| share.params.iter().map(move |param| (share, param)));
    let mut firsts = stacks.filter_map(|(share, param)| {
        Some((share, param.name.as_str(), *param.rows.as_ref()?.first()?))
    });
    let (share, name, _) = firsts.find(|(_, name, row)| !seen.insert((*name, *row)))?;
    Some((name, &share.ranks))
}

/// Whether a sub-group that all ranks are said to share has stacks that none of them has whole.
fn spread_out(index: usize, models: &Models<'_>, problems: &mut Vec<Problem>) -> bool {
    let found = models.values().find_map(|model| {
        let shapes = model.content.shapes.as_ref()?.get(index)?;
        let spread = |name: &str| model.content.stacked(name).is_some_and(|s| s.of_rank.len() > 1);
        shapes.iter().find(|(name, _)| spread(name)).map(|(name, _)| (*model, name))
    });
    let Some((model, name)) = found else { return false };
    let message = format!(
        "`ds_autoep_layers` spreads `{name}` over ranks, and no shard's `ds_zero_partition_groups` says which \
         of them share it"
    );
    problems.push(Problem::new(&model.path, message).help(MIXED));
    true
}

fn share(
    index: usize,
    ranks: &[u64],
    models: &Models<'_>,
    problems: &mut Vec<Problem>,
) -> Option<Share> {
    let mut share: Option<(Share, &Opened<ModelFile>)> = None;
    for rank in ranks {
        // That a file is missing was said.
        let Some(model) = models.get(rank) else { continue };
        let shapes = model.content.shapes.as_ref()?.get(index)?;
        let params: Result<Vec<Param>, String> =
            shapes.iter().map(|(name, shape)| param(name, shape, &model.content)).collect();
        let wrong = match (params, &share) {
            (Err(message), _) => message,
            (Ok(params), None) => {
                let shapes = shapes.iter().map(|(_, shape)| shape.clone()).collect();
                share = Some((Share { ranks: ranks.to_vec(), params, shapes }, model));
                continue;
            }
            (Ok(params), Some((known, _))) if params == known.params => continue,
            (Ok(_), Some((_, witness))) => format!(
                "it has other experts of sub-group {index} than {}, which shares it",
                name_of(&witness.path)
            ),
        };
        problems.push(Problem::new(&model.path, wrong).help(MIXED));
        return None;
    }
    share.map(|(share, _)| share)
}

fn param(name: &str, shape: &[u64], model: &ModelFile) -> Result<Param, String> {
    let stack = model.stacked(name).ok_or_else(|| {
        format!(
            "`{name}` is cut over some of the ranks, and is of no mixture of `ds_autoep_layers`"
        )
    })?;
    let rank = stack.here.ok_or("`ds_autoep_layers` does not say which `ep_rank` this is")?;
    let (shape, rows) = stack.whole(name, shape, rank)?;
    Ok(Param { name: name.to_owned(), shape, rows: Some(rows.to_vec()) })
}
