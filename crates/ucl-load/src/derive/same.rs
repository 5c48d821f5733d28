//! Whether tensor ranks hold the same of a tensor of which nothing is said: the first elements tell.

use std::collections::BTreeMap;
use ucl_exec::{DigestRange, Options, Silent, digest_ranges};
use ucl_formats::Inventory;
use ucl_formats::inventory::{Data, Stored, row_major};

/// So many elements of each rank are looked at.
const FIRST: u64 = 2048;

/// What the ranks' first elements say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Same {
    /// They are the same on all ranks, and not all one number: copies.
    Copies,
    /// All one number everywhere: parts or copies.
    Unknown,
    /// They differ, or can't be looked at.
    Parts,
}

/// Looks at the tensors of these names.
pub(super) fn same(inventory: &Inventory, names: &[&str]) -> Vec<Same> {
    let mut places: BTreeMap<(usize, &str), BTreeMap<u64, Option<Start>>> = BTreeMap::new();
    let numbers: BTreeMap<&str, usize> =
        names.iter().enumerate().map(|(number, name)| (*name, number)).collect();
    for stored in &inventory.tensors {
        let Some(number) = numbers.get(stored.name.as_str()) else { continue };
        let rank = stored.at.get("tp").copied().unwrap_or(0);
        let ranks = places.entry((*number, &stored.state)).or_default();
        ranks.entry(rank).or_insert_with(|| start(inventory, stored));
    }
    // Two halves of what is looked at: where both are the same it is all one number.
    let mut ranges = Vec::new();
    let mut asked: Vec<(usize, &str, usize)> = Vec::new();
    for ((number, state), ranks) in places {
        let Some(starts) = ranks.into_values().collect::<Option<Vec<Start>>>() else { continue };
        let half = starts.iter().map(|start| start.elements).min().unwrap_or(0).min(FIRST) / 2;
        if half == 0 {
            continue;
        }
        asked.push((number, state, starts.len()));
        for start in starts {
            let (path, len) = (start.range.path, half * start.size);
            for offset in [start.range.offset, start.range.offset + len] {
                ranges.push(DigestRange { path: path.clone(), offset, len });
            }
        }
    }
    let digests = digest_ranges(&ranges, &Options::default(), &Silent);
    let mut digests = digests.into_iter().map(Result::ok);
    // The weights decide, then the first state that does.
    let mut found: Vec<Vec<(bool, Same)>> = vec![Vec::new(); names.len()];
    for (number, state, ranks) in asked {
        let halves: Vec<[Option<String>; 2]> =
            (0..ranks).map(|_| [digests.next().flatten(), digests.next().flatten()]).collect();
        let one = halves.first().cloned().unwrap_or_default();
        let equal = halves.iter().all(|two| *two == one && two[0].is_some());
        let same = match (equal, one[0] == one[1]) {
            (false, _) => Same::Parts,
            (true, true) => Same::Unknown,
            (true, false) => Same::Copies,
        };
        found[number].push((!matches!(state, "fp32" | "param"), same));
    }
    let decided = |mut states: Vec<(bool, Same)>| {
        states.sort_by_key(|(later, _)| *later);
        let said = states.iter().map(|(_, same)| *same).find(|same| *same != Same::Unknown);
        said.unwrap_or(if states.is_empty() { Same::Parts } else { Same::Unknown })
    };
    found.into_iter().map(decided).collect()
}

/// Elements that lie together at the beginning of a tensor.
struct Start {
    range: DigestRange,
    elements: u64,
    size: u64,
}

fn start(inventory: &Inventory, stored: &Stored) -> Option<Start> {
    let (file, offset, elements) = match &stored.data {
        Data::Strided { file, offset, strides } => {
            let dense = *strides == row_major(&stored.shape);
            (dense.then_some(*file)?, *offset, stored.shape.iter().product())
        }
        Data::Runs(runs) => {
            let run = runs.iter().find(|run| run.len > 0).filter(|run| run.start == 0)?;
            (run.file, run.offset, run.len)
        }
        Data::Boxes(_) => return None,
    };
    let path = inventory.files.get(usize::try_from(file).ok()?)?.path.clone();
    let size = stored.dtype.size_bytes();
    Some(Start { range: DigestRange { path, offset, len: 0 }, elements, size })
}
