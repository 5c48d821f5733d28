//! What the folders of a step are called, and what lies in them.
//!
//! `megatron/training/checkpointing.py`, `get_checkpoint_name`: `mp_rank_{tensor:02}`, then `_{stage:03}`
//! if there are stages, then `_{expert:03}` if there are expert ranks. Numbers are padded and grow beyond,
//! so they are compared as numbers.

use crate::inventory::Problem;
use crate::ranks::number;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The numbers in the name of a rank's folder.
pub(super) type Numbers = Vec<u64>;

/// The files of a step by the numbers of their folders.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// `model_optim_rng.pt`; `model_rng.pt` of 2023's distributed optimizer.
    pub(super) models: BTreeMap<Numbers, PathBuf>,
    /// `distrib_optim.pt`: the states of all data ranks together.
    pub(super) distributed: BTreeMap<Numbers, PathBuf>,
    /// `optim.pt`: one data rank's states, of early 2023.
    pub(super) early: Vec<PathBuf>,
    /// `layer_wise_optimizer_0.pt`: states of whole layers, by data rank.
    pub(super) layer_wise: Vec<PathBuf>,
    /// Folders whose names are near a rank's and no rank's.
    pub(super) others: Vec<String>,
}

impl Files {
    /// Looks into all folders; two for one rank are a problem.
    pub(super) fn scan(root: &Path, problems: &mut Vec<Problem>) -> Files {
        let mut files = Files::default();
        let mut by_numbers: BTreeMap<Numbers, String> = BTreeMap::new();
        for name in entries(root, problems) {
            let Some(rest) = name.strip_prefix("mp_rank_") else { continue };
            let folder = root.join(&name);
            if !folder.is_dir() {
                continue;
            }
            let Some(numbers) = numbers(rest) else {
                files.others.push(name);
                continue;
            };
            if let Some(earlier) = by_numbers.insert(numbers.clone(), name) {
                problems.push(
                    Problem::new(folder, format!("it is of the same rank as {earlier}"))
                        .help("Two runs may have written here: keep the folders of one."),
                );
                continue;
            }
            files.look_into(&folder, numbers, problems);
        }
        files
    }

    fn look_into(&mut self, folder: &Path, numbers: Numbers, problems: &mut Vec<Problem>) {
        let mut early = false;
        for name in entries(folder, problems) {
            let path = folder.join(&name);
            match name.as_str() {
                "model_optim_rng.pt" | "model_rng.pt" => {
                    if let Some(earlier) = self.models.insert(numbers.clone(), path) {
                        let message = format!("{} and {name} are both here", named(&earlier));
                        problems.push(
                            Problem::new(folder, message)
                                .help("Two runs may have written here: keep the files of one."),
                        );
                    }
                }
                "distrib_optim.pt" => {
                    self.distributed.insert(numbers.clone(), path);
                }
                "optim.pt" => {
                    self.early.push(path);
                    early = true;
                }
                name if name.starts_with("layer_wise_optimizer_") => self.layer_wise.push(path),
                _ => {}
            }
        }
        // Early in 2023 a data rank's states had a folder of their own.
        if !early && !self.models.contains_key(&numbers) {
            problems.push(
                Problem::new(folder, "there is no model_optim_rng.pt in it")
                    .help("Copy the rank's file again from where it was written."),
            );
        }
    }
}

/// The last part of a path, printable.
pub(super) fn named(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// One to four numbers.
fn numbers(text: &str) -> Option<Numbers> {
    let numbers: Option<Numbers> = text.split('_').map(number).collect();
    numbers.filter(|numbers| numbers.len() <= 4)
}

fn entries(path: &Path, problems: &mut Vec<Problem>) -> Vec<String> {
    let mut names: Vec<String> = match fs::read_dir(path) {
        Ok(entries) => entries
            .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
            .collect(),
        Err(error) => {
            problems.push(Problem::new(path, format!("the folder can't be read: {error}")));
            Vec::new()
        }
    };
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::numbers;

    #[test]
    fn folders_mean_numbers() {
        assert_eq!(numbers("00"), Some(vec![0]));
        assert_eq!(numbers("100_1000_007"), Some(vec![100, 1000, 7]));
        for text in ["", "00_model_states.pt", "00_", "0_1_2_3_4", "+1"] {
            assert_eq!(numbers(text), None, "{text}");
        }
    }
}
