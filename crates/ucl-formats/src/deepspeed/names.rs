//! What the files of a step are called, and which ranks they belong to.
//!
//! DeepSpeed's engine writes them in `runtime/engine.py` (`_get_ckpt_name`, `_get_zero_ckpt_name`)
//! and `runtime/pipe/module.py` (`ckpt_layer_path`). Numbers are padded to two digits and grow
//! beyond, so they are compared as numbers and never as text.

use crate::inventory::Problem;
use crate::ranks::number;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What one file of a step is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RankFile {
    /// `mp_rank_01_model_states.pt`: `mp` counts pipeline stages, and in each the tensor ranks.
    Model { mp: u64 },
    /// `zero_pp_rank_3_mp_rank_01_optim_states.pt`: what follows `pp_rank` is the data rank.
    Shard { dp: u64, mp: u64 },
    /// `layer_02-model_01-model_states.pt`, or without `-model_01` if there is one tensor rank.
    Layer { layer: u64, tp: u64 },
    /// `zero_pp_rank_0_mp_rank_00_model_states.pt`: ZeRO-3 has one of every data rank.
    Stage3Model { dp: u64, mp: u64 },
    /// `layer_0_expert_1_mp_rank_00_model_states.pt`, or without the layer in releases before 0.5.
    Expert(ExpertFile),
    /// `expp_rank_0_mp_rank_00_optim_states.pt`: what follows `expp_rank` is the expert rank.
    ExpertOptimizer { mp: u64, ep: u64 },
}

/// Which expert a file is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ExpertFile {
    /// The model-parallel rank.
    pub(super) mp: u64,
    /// Counts the mixtures of the rank's modules; nothing in old files, which hold those of all.
    pub(super) layer: Option<u64>,
    /// The expert, counted over all ranks.
    pub(super) expert: u64,
}

impl ExpertFile {
    /// What the file is called.
    pub(super) fn name(&self) -> String {
        let layer = self.layer.map_or_else(String::new, |layer| format!("layer_{layer}_"));
        format!("{layer}expert_{}_mp_rank_{:02}_model_states.pt", self.expert, self.mp)
    }
}

/// The files of a step by their ranks.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// By `mp` rank.
    pub(super) models: BTreeMap<u64, PathBuf>,
    /// By `mp`, then data rank.
    pub(super) shards: BTreeMap<(u64, u64), PathBuf>,
    /// By layer, then tensor rank.
    pub(super) layers: BTreeMap<(u64, u64), PathBuf>,
    /// ZeRO-3's model files, by `mp`, then data rank.
    pub(super) stage3: BTreeMap<(u64, u64), PathBuf>,
    /// Files of experts.
    pub(super) experts: BTreeMap<ExpertFile, PathBuf>,
    /// Optimizers of a run without ZeRO, by `mp`, then expert rank.
    pub(super) expert_optimizers: BTreeMap<(u64, u64), PathBuf>,
    /// Whether optimizer states were swapped to `offloaded_tensors`.
    pub(super) offloaded: bool,
}

impl RankFile {
    /// The meaning of a name, if it is one of DeepSpeed's.
    pub(super) fn parse(name: &str) -> Option<RankFile> {
        let stem = name.strip_suffix(".pt")?;
        if let Some(rest) = stem.strip_prefix("mp_rank_") {
            let mp = number(rest.strip_suffix("_model_states")?)?;
            return Some(RankFile::Model { mp });
        }
        if let Some(rest) = stem.strip_prefix("layer_") {
            if let Some((layer, rest)) = rest.split_once("_expert_") {
                return expert(Some(number(layer)?), rest);
            }
            let rest = rest.strip_suffix("-model_states")?;
            let (layer, tp) = rest.split_once("-model_").unwrap_or((rest, "0"));
            return Some(RankFile::Layer { layer: number(layer)?, tp: number(tp)? });
        }
        if let Some(rest) = stem.strip_prefix("expert_") {
            return expert(None, rest);
        }
        if let Some(rest) = stem.strip_prefix("expp_rank_") {
            let (ep, mp) = rest.strip_suffix("_optim_states")?.split_once("_mp_rank_")?;
            return Some(RankFile::ExpertOptimizer { mp: number(mp)?, ep: number(ep)? });
        }
        let zero = ["bf16_", "fp16_"].iter().find_map(|prefix| stem.strip_prefix(prefix));
        let rest = zero.unwrap_or(stem).strip_prefix("zero_pp_rank_")?;
        let (dp, rest) = rest.split_once("_mp_rank_")?;
        let dp = number(dp)?;
        if let Some(mp) = rest.strip_suffix("_model_states") {
            return Some(RankFile::Stage3Model { dp, mp: number(mp)? });
        }
        // Very old releases forgot the underscore.
        let mp = rest.strip_suffix("optim_states")?;
        Some(RankFile::Shard { dp, mp: number(mp.strip_suffix('_').unwrap_or(mp))? })
    }
}

impl Files {
    /// Sorts the files of a folder; two for one rank are a problem.
    pub(super) fn scan(root: &Path, problems: &mut Vec<Problem>) -> Files {
        let mut files = Files::default();
        let mut names: Vec<String> = match fs::read_dir(root) {
            Ok(entries) => entries
                .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
                .collect(),
            Err(error) => {
                problems.push(Problem::new(root, format!("the folder can't be read: {error}")));
                return files;
            }
        };
        names.sort();
        for name in names {
            let path = root.join(&name);
            let earlier = match RankFile::parse(&name) {
                Some(RankFile::Model { mp }) => files.models.insert(mp, path.clone()),
                Some(RankFile::Shard { dp, mp }) => files.shards.insert((mp, dp), path.clone()),
                Some(RankFile::Layer { layer, tp }) => {
                    files.layers.insert((layer, tp), path.clone())
                }
                Some(RankFile::Stage3Model { dp, mp }) => {
                    files.stage3.insert((mp, dp), path.clone())
                }
                Some(RankFile::Expert(expert)) => files.experts.insert(expert, path.clone()),
                Some(RankFile::ExpertOptimizer { mp, ep }) => {
                    files.expert_optimizers.insert((mp, ep), path.clone())
                }
                None => {
                    files.offloaded |= name == "offloaded_tensors";
                    None
                }
            };
            if let Some(earlier) = earlier {
                let other = earlier.file_name().unwrap_or_default().to_string_lossy().into_owned();
                problems.push(
                    Problem::new(path, format!("it is of the same rank as {other}"))
                        .help("Two runs may have written here: keep the files of one."),
                );
            }
        }
        files
    }
}

impl Files {
    /// The ranks of the model files: `mp`, then data rank.
    pub(super) fn model_ranks(&self) -> impl Iterator<Item = (u64, u64)> {
        let first = self.models.keys().map(|mp| (*mp, 0));
        first.chain(self.stage3.keys().copied())
    }
}

/// What follows the layer: `1_mp_rank_00_model_states`.
fn expert(layer: Option<u64>, rest: &str) -> Option<RankFile> {
    let (expert, mp) = rest.strip_suffix("_model_states")?.split_once("_mp_rank_")?;
    let (expert, mp) = (number(expert)?, number(mp)?);
    Some(RankFile::Expert(ExpertFile { mp, layer, expert }))
}

#[cfg(test)]
mod tests {
    use super::ExpertFile;
    use super::RankFile::{self, *};

    #[test]
    fn names_mean_ranks() {
        let file = |layer, expert, mp| Some(Expert(ExpertFile { mp, layer, expert }));
        let cases = [
            ("mp_rank_00_model_states.pt", Some(Model { mp: 0 })),
            ("mp_rank_100_model_states.pt", Some(Model { mp: 100 })),
            ("zero_pp_rank_100_mp_rank_07_optim_states.pt", Some(Shard { dp: 100, mp: 7 })),
            ("bf16_zero_pp_rank_3_mp_rank_00_optim_states.pt", Some(Shard { dp: 3, mp: 0 })),
            ("fp16_zero_pp_rank_3_mp_rank_00_optim_states.pt", Some(Shard { dp: 3, mp: 0 })),
            ("zero_pp_rank_0_mp_rank_00optim_states.pt", Some(Shard { dp: 0, mp: 0 })),
            ("zero_pp_rank_12_mp_rank_03_model_states.pt", Some(Stage3Model { dp: 12, mp: 3 })),
            ("layer_02-model_01-model_states.pt", Some(Layer { layer: 2, tp: 1 })),
            ("layer_102-model_states.pt", Some(Layer { layer: 102, tp: 0 })),
            ("layer_1_expert_103_mp_rank_02_model_states.pt", file(Some(1), 103, 2)),
            ("expert_3_mp_rank_00_model_states.pt", file(None, 3, 0)),
            ("layer_1_expert_x_mp_rank_00_model_states.pt", None),
            ("expp_rank_3_mp_rank_01_optim_states.pt", Some(ExpertOptimizer { mp: 1, ep: 3 })),
            ("zero_pp_rank__mp_rank_00_optim_states.pt", None),
            ("zero_pp_rank_+1_mp_rank_00_optim_states.pt", None),
            ("mp_rank_00", None),
            ("mp_rank_00_model_states.pt.tmp", None),
        ];
        for (name, expected) in cases {
            assert_eq!(RankFile::parse(name), expected, "{name}");
        }
    }
}
