//! Names of ranks' files: `model_world_size_4_rank_2.pt`, `rank_0.pt`, `pytorch_model_fsdp_rank0.bin`.

use crate::inventory::Problem;
use crate::listed::listed;
use crate::locate::{Content, sniff};
use crate::ranks::number;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Never were there more ranks.
const MOST: u64 = 1 << 20;

/// The files of one kind, one for each rank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Series {
    /// What stands around the rank.
    pub(super) pattern: (String, String),
    /// How many ranks the names say that there are.
    pub(super) world: Option<u64>,
    /// The file of each rank.
    pub(super) files: BTreeMap<u64, PathBuf>,
}

/// A name around its rank, and the rank: the last `rank` in it that a number follows.
pub(super) fn rank_of(name: &str) -> Option<(&str, u64, &str)> {
    if !name.ends_with(".pt") && !name.ends_with(".pth") && !name.ends_with(".bin") {
        return None;
    }
    let found = name.rmatch_indices("rank").find_map(|(at, word)| {
        let rest = &name[at + word.len()..];
        let skip = usize::from(rest.starts_with(['_', '-', '.']));
        let digits = rest[skip..].bytes().take_while(u8::is_ascii_digit).count();
        let end = at + word.len() + skip + digits;
        let rank = number(&name[end - digits..end])?;
        Some((&name[..end - digits], rank, &name[end..]))
    });
    // DeepSpeed's and Megatron's names have readers of their own.
    found.filter(|_| !name.contains("mp_rank_") && !name.contains("pp_rank_"))
}

/// `world_size_4`, `of_4`, `of-4`.
fn world_of(name: &str) -> Option<u64> {
    ["world_size_", "_of_", "-of-"].iter().find_map(|word| {
        let rest = &name[name.find(word)? + word.len()..];
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        number(&rest[..digits])
    })
}

/// All series of torch files in a folder.
pub(super) fn series(root: &Path) -> Vec<Series> {
    let mut found: BTreeMap<(String, String), Series> = BTreeMap::new();
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((before, rank, after)) = rank_of(&name) else { continue };
        let path = root.join(&name);
        let torch =
            path.is_file() && matches!(sniff(&path), Ok(Content::TorchZip | Content::TorchLegacy));
        if !torch {
            continue;
        }
        let pattern = (before.to_owned(), after.to_owned());
        let world = world_of(&name);
        let files = BTreeMap::new();
        let series = Series { pattern: pattern.clone(), world, files };
        found.entry(pattern).or_insert(series).files.insert(rank, path);
    }
    found.into_values().collect()
}

impl Series {
    /// The name of a rank's file.
    pub(super) fn name(&self, rank: u64) -> String {
        format!("{}{rank}{}", self.pattern.0, self.pattern.1)
    }

    /// Ranks that are missing: between the others, and up to the number that there are said to be.
    pub(super) fn missing(&self, root: &Path, said: Option<u64>) -> Option<Problem> {
        let last = self.files.keys().next_back().map_or(0, |last| last.saturating_add(1));
        let world = self.world.or(said).unwrap_or(0).max(last);
        if world > MOST {
            let message = format!("there would be {world} ranks of `{}`", self.name(0));
            return Some(Problem::new(root, message).help("Rename or remove the odd file."));
        }
        let absent: Vec<_> = (0..world)
            .filter(|rank| !self.files.contains_key(rank))
            .map(|rank| self.name(rank))
            .collect();
        let here = self.files.len();
        (!absent.is_empty()).then(|| {
            let message =
                format!("of {world} ranks {here} are here; missing: {}", listed(&absent, ", "));
            Problem::new(root, message).help("Copy the files of all ranks into one folder.")
        })
    }

    /// Ranks that are too many.
    pub(super) fn surplus(&self) -> Option<Problem> {
        let (world, (last, path)) = (self.world?, self.files.last_key_value()?);
        (*last >= world).then(|| {
            let message = format!("its name says rank {last} of {world}");
            Problem::new(path, message).help("Keep the files of one save.")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{rank_of, world_of};

    #[test]
    fn names_of_ranks() {
        let name = "model_world_size_4_rank_2.pt";
        assert_eq!(rank_of(name), Some(("model_world_size_4_rank_", 2, ".pt")));
        assert_eq!(world_of(name), Some(4));
        assert_eq!(rank_of("rank_0.pt"), Some(("rank_", 0, ".pt")));
        assert_eq!(rank_of("model_rank12.pt"), Some(("model_rank", 12, ".pt")));
        assert_eq!(rank_of("pytorch_model_fsdp_0_rank3.bin").map(|found| found.1), Some(3));
        assert_eq!(rank_of("model-rank-1-of-8.pth").map(|found| found.1), Some(1));
        assert_eq!(world_of("model-rank-1-of-8.pth"), Some(8));
        let others = [
            "rank.pt",
            "rank_x.pt",
            "ranker.pt",
            "rank_0.txt",
            "zero_pp_rank_0_mp_rank_00_optim_states.pt",
        ];
        assert!(others.iter().all(|name| rank_of(name).is_none()));
        assert_eq!(rank_of("rank_99999999999999999999.pt"), None);
    }
}
