//! Muon's momentum under stages 1 and 2, where a rank keeps it of whole matrices.

use super::Rank;
use super::shard::Shard;
use crate::inventory::Problem;
use crate::ranks::Opened;

/// The state.
const MOMENTUM: &str = "momentum_buffer";

/// Takes Muon's momentum out of the shards, and says why it can't be read.
///
/// A partition's buffer is as long as all matrices that the partition meets, one behind the other, not as
/// long as the partition: what lies on a cut is there twice. On a last rank with padding the two lengths
/// can be the same, so that only the groups tell.
pub(super) fn without_momentum(shards: &mut [(Rank, Opened<Shard>)]) -> Option<Problem> {
    let mut found = None;
    for (_, shard) in shards.iter_mut().filter(|(_, shard)| shard.content.stage != Some(3)) {
        let Shard { params, groups, .. } = &mut shard.content;
        let muon = params.iter().filter(|group| group.hyper.get("use_muon") == Some(&true.into()));
        for buffer in muon.flat_map(|group| &group.buffers) {
            let part = groups.get_mut(*buffer);
            if part.and_then(|part| part.flat.shift_remove(MOMENTUM)).is_some() {
                found.get_or_insert(shard.path.clone());
            }
        }
    }
    let problem = |path| {
        let message = format!(
            "this version can't read Muon's `{MOMENTUM}` under ZeRO-1 and 2, which each rank keeps of whole matrices"
        );
        let help = "Convert with `--states weights`, or save the run once under ZeRO-3.";
        Problem::new(path, message).help(help)
    };
    found.map(problem)
}
