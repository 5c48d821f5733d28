//! Files that lie in another rank's folder: each records the number of the rank that wrote it.
//!
//! `megatron/core/parallel_state.py`, `RankGenerator`: tensor ranks count fastest; stages slowest, unless
//! `use_tp_pp_dp_mapping` puts data ranks there; in between expert ranks, data ranks.

use super::mesh::{Degrees, Held, Rank};
use super::rank::RankFile;
use crate::inventory::Problem;
use serde_json::Value as Json;
use std::collections::BTreeMap;

/// What to do about them.
const HELP: &str = "Copy the folders again from where they were written, each under its own name.";

/// Compares the numbers with the names of folders.
pub(super) fn check(degrees: Degrees, ranks: &[Held], problems: &mut Vec<Problem>) {
    let said = || ranks.iter().filter_map(|held| Some((held, held.file.content.arg("rank")?)));
    let Some((_, first)) = said().next() else { return };
    // A converter is one process, and writes its own number everywhere.
    if said().all(|(_, number)| number == first) {
        return;
    }
    let mut seen: BTreeMap<u64, &Held> = BTreeMap::new();
    for (held, number) in said() {
        if let Some(wrong) = differs(degrees, &held.file.content, held.rank, number) {
            let message = format!("rank {number} wrote it, which is {wrong}");
            problems.push(Problem::new(&held.file.path, message).help(HELP));
        } else if let Some(earlier) = seen.insert(number, held) {
            let message = format!("rank {number} wrote it, and {}", earlier.file.path.display());
            problems.push(Problem::new(&held.file.path, message).help(HELP));
        }
    }
}

/// Where a number's rank is, if that is not where the file lies.
fn differs(degrees: Degrees, file: &RankFile, at: Rank, number: u64) -> Option<String> {
    let Degrees { tp, pp, ep, etp, .. } = degrees;
    if number % tp != at.tp {
        return Some(format!("tensor rank {}, not {}", number % tp, at.tp));
    }
    let other_order = file.args.as_ref()?.get("use_tp_pp_dp_mapping").and_then(Json::as_bool);
    let world = file.arg("world_size").filter(|world| world.is_multiple_of(pp) && *world >= pp)?;
    if other_order == Some(true) {
        return None;
    }
    let of_stage = world / pp;
    if number / of_stage != at.pp {
        return Some(format!("on stage {}, not {}", number / of_stage, at.pp));
    }
    let expert = number % of_stage / etp % ep;
    let plain = file.arg("context_parallel_size").is_none_or(|ranks| ranks == 1);
    (plain && expert != at.ep).then(|| format!("expert rank {expert}, not {}", at.ep))
}
