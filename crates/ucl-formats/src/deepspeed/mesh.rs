//! Which ranks wrote a step, and whether all their files are here.

use super::Rank;
use super::experts::Expert;
use super::model::ModelFile;
use super::names::Files;
use super::shard::Shard;
use crate::inventory::{Mesh, Problem};
use crate::ranks::{MIXED, Opened, agreed, count};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// More ranks than this are no number but damage.
const MOST_RANKS: u64 = 1 << 20;
/// The same for the files of a step.
pub(super) const MOST_FILES: u64 = 1 << 20;
/// What an `mp` rank is called in messages.
pub(super) const MODEL_RANK: &str = "model-parallel rank";
/// So many names of missing files are listed.
const LISTED: usize = 12;

/// The degrees of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Degrees {
    /// Data ranks; sequence-parallel ranks count among them.
    pub(super) dp: u64,
    pub(super) tp: u64,
    pub(super) pp: u64,
}

impl Degrees {
    /// The coordinates of an `mp` rank: stages count first. Axes of size 1 are left out.
    pub(super) fn at(self, mp: u64) -> Mesh {
        let mut at = Mesh::new();
        if self.pp > 1 {
            at.insert("pp".to_owned(), mp / self.tp.max(1));
        }
        if self.tp > 1 {
            at.insert("tp".to_owned(), mp % self.tp);
        }
        at
    }

    /// The coordinates of a layer's file, which says nothing of the stage.
    pub(super) fn at_layer(self, tp: u64) -> Mesh {
        let axis = || ("tp".to_owned(), tp);
        if self.tp > 1 { Mesh::from([axis()]) } else { Mesh::new() }
    }

    /// The whole mesh.
    pub(super) fn mesh(self) -> Mesh {
        [("dp", self.dp), ("tp", self.tp), ("pp", self.pp)]
            .map(|(axis, size)| (axis.to_owned(), size))
            .into()
    }
}

/// Everything that was opened of a step.
pub(super) struct Step<'a> {
    pub(super) root: &'a Path,
    pub(super) files: &'a Files,
    pub(super) models: &'a [(Rank, Opened<ModelFile>)],
    pub(super) shards: &'a [(Rank, Opened<Shard>)],
    /// Whether the weights are cut over data ranks too: ZeRO-3.
    pub(super) partitioned: bool,
}

impl Step<'_> {
    /// Works out the degrees and compares them with the files that are here.
    pub(super) fn degrees(&self, problems: &mut Vec<Problem>) -> Degrees {
        let (pp, tp) = self.model_degrees(problems);
        let dp = self.data_degree(problems);
        let degrees = Degrees { dp, tp, pp };
        self.ranks_present(degrees, problems);
        degrees
    }

    /// Pipeline and tensor degree: recorded, or from the names of files.
    fn model_degrees(&self, problems: &mut Vec<Problem>) -> (u64, u64) {
        let said =
            self.models.iter().filter_map(|(_, model)| Some((model.content.degrees?, &model.path)));
        let (pp, tp) = match agreed(said, problems, |theirs, witness, usual| {
            let told = |(pp, tp)| format!("{} of {}", count(pp, "stage"), count(tp, "tensor rank"));
            format!("{} wrote it, {} wrote {witness}", told(theirs), told(usual))
        }) {
            Some(degrees) => degrees,
            None => self.inferred(),
        };
        if pp == 0 || tp == 0 || pp.saturating_mul(tp) > MOST_RANKS {
            let message = format!(
                "its files say that {} of {} wrote it",
                count(pp, "stage"),
                count(tp, "tensor rank")
            );
            problems.push(Problem::new(self.root, message));
            return (1, 1);
        }
        for (_, model) in self.models {
            if let Some(mp) = model.content.mp.filter(|mp| *mp != pp * tp) {
                let message = format!(
                    "{} wrote it, {} of {} wrote the step",
                    count(mp, MODEL_RANK),
                    count(pp, "stage"),
                    count(tp, "tensor rank")
                );
                problems.push(Problem::new(&model.path, message).help(MIXED));
            }
        }
        (pp, tp)
    }

    /// Files older than 2025 do not record the degrees.
    fn inferred(&self) -> (u64, u64) {
        let models = self.models.iter().find_map(|(_, model)| model.content.mp);
        let named: BTreeSet<_> = self.files.model_ranks().map(|(mp, _)| mp).collect();
        let models = models.unwrap_or(named.len() as u64).max(1);
        if self.files.layers.is_empty() {
            return (1, models);
        }
        let ranks: BTreeSet<_> = self.files.layers.keys().map(|(_, tp)| *tp).collect();
        let tp = (ranks.len() as u64).clamp(1, models);
        (models / tp, tp)
    }

    fn data_degree(&self, problems: &mut Vec<Problem>) -> u64 {
        // Groups of experts are cut over fewer ranks.
        let models: BTreeMap<u64, _> =
            self.models.iter().map(|((mp, _), m)| (*mp, &m.content)).collect();
        let by_shards = self.shards.iter().flat_map(|((mp, _), shard)| {
            let model = models.get(mp).copied();
            let counts = shard.content.partitions.iter().enumerate();
            counts
                .filter(move |(group, _)| !is_of_experts(model, Some(&shard.content), *group))
                .map(move |(_, count)| (*count, &shard.path))
        });
        // MiCS cuts over the ranks of a group, and only the first group saves.
        let whole = self.models.iter().filter(|(_, model)| model.content.shard_size().is_none());
        let by_models = whole.filter_map(|(_, model)| Some((model.content.dp?, &model.path)));
        let dp = agreed(by_shards.chain(by_models), problems, |theirs, witness, usual| {
            let (theirs, usual) = (count(theirs, "data rank"), count(usual, "data rank"));
            format!("{theirs} wrote it, {usual} wrote {witness}")
        });
        let named = self.files.shards.keys().copied().chain(self.files.model_ranks());
        let found = named.map(|(_, dp)| dp.saturating_add(1)).max().unwrap_or(1);
        match dp {
            Some(dp) if (1..=MOST_RANKS).contains(&dp) => dp,
            None if found <= MOST_RANKS => found,
            dp => {
                let said = count(dp.unwrap_or(found), "data rank");
                let message = format!("its files say that {said} wrote it");
                problems.push(Problem::new(self.root, message));
                if found <= MOST_RANKS { found } else { 1 }
            }
        }
    }

    /// Names what is missing and what is too much.
    fn ranks_present(&self, degrees: Degrees, problems: &mut Vec<Problem>) {
        let models = degrees.pp * degrees.tp;
        if models.saturating_mul(degrees.dp) > MOST_FILES {
            let message =
                format!("its files say that {models} times {} ranks wrote it", degrees.dp);
            problems.push(Problem::new(self.root, message));
            return;
        }
        let of_models = count(models, MODEL_RANK);
        let mut missing = Vec::new();
        for mp in 0..models {
            if !self.partitioned {
                let here = self.files.models.contains_key(&mp);
                missing.extend((!here).then(|| format!("mp_rank_{mp:02}_model_states.pt")));
                continue;
            }
            for dp in (0..degrees.dp).filter(|dp| !self.files.stage3.contains_key(&(mp, *dp))) {
                missing.push(format!("zero_pp_rank_{dp}_mp_rank_{mp:02}_model_states.pt"));
            }
        }
        for path in self.files.models.iter().filter(|(mp, _)| **mp >= models).map(|(_, path)| path)
        {
            problems.push(surplus(path, &of_models));
        }
        let sharded = self.models.iter().any(|(_, model)| model.content.shapes.is_some());
        if sharded && !self.without_shards() || !self.files.shards.is_empty() {
            let prefix = self.shard_prefix();
            for mp in 0..models {
                for dp in (0..degrees.dp).filter(|dp| !self.files.shards.contains_key(&(mp, *dp))) {
                    missing
                        .push(format!("{prefix}zero_pp_rank_{dp}_mp_rank_{mp:02}_optim_states.pt"));
                }
            }
        }
        for ((mp, dp), path) in self.files.shards.iter().chain(&self.files.stage3) {
            if *dp >= degrees.dp {
                problems.push(surplus(path, &count(degrees.dp, "data rank")));
            } else if *mp >= models {
                problems.push(surplus(path, &of_models));
            }
        }
        self.layers_present(degrees, &mut missing, problems);
        if !missing.is_empty() {
            problems.push(absent(self.root, &missing, degrees));
        }
    }

    /// Whether there is no file of an optimizer and every weight is in the model files: people pass on
    /// weights alone.
    pub(super) fn without_shards(&self) -> bool {
        !self.partitioned && self.files.shards.is_empty()
    }

    /// Layers have a file of every tensor rank; which layers there are, the shapes tell.
    fn layers_present(
        &self,
        degrees: Degrees,
        missing: &mut Vec<String>,
        problems: &mut Vec<Problem>,
    ) {
        if self.files.layers.is_empty() {
            return;
        }
        let mut layers: BTreeSet<u64> = self.files.layers.keys().map(|(layer, _)| *layer).collect();
        let shapes = self.models.iter().filter_map(|(_, model)| model.content.shapes.as_ref());
        for (name, _) in shapes.flatten().flatten() {
            layers.extend(name.split_once('.').and_then(|(layer, _)| layer.parse::<u64>().ok()));
        }
        let suffixed = degrees.tp > 1
            || self.files.layers.values().any(|path| path.to_string_lossy().contains("-model_0"));
        for layer in layers {
            for tp in (0..degrees.tp).filter(|tp| !self.files.layers.contains_key(&(layer, *tp))) {
                let rank = if suffixed { format!("-model_{tp:02}") } else { String::new() };
                missing.push(format!("layer_{layer:02}{rank}-model_states.pt"));
            }
        }
        for (_, path) in self.files.layers.iter().filter(|((_, tp), _)| *tp >= degrees.tp) {
            problems.push(surplus(path, &count(degrees.tp, "tensor rank")));
        }
    }

    /// `bf16_` if the shards that are here have it.
    fn shard_prefix(&self) -> &'static str {
        let names = self.files.shards.values().filter_map(|path| path.file_name()?.to_str());
        let mut prefixes = names.map(|name| match name {
            name if name.starts_with("bf16_") => "bf16_",
            name if name.starts_with("fp16_") => "fp16_",
            _ => "",
        });
        prefixes.next().unwrap_or("")
    }
}

/// Whether a parameter group is of experts: it says so, or the names of its parameters do.
pub(super) fn is_of_experts(
    model: Option<&ModelFile>,
    shard: Option<&Shard>,
    group: usize,
) -> bool {
    let said = shard.and_then(|shard| shard.params.get(group)?.hyper.get("moe")?.as_bool());
    let named = || {
        let shapes = model.and_then(|model| Some((model, model.shapes.as_ref()?.get(group)?)));
        shapes.is_some_and(|(model, shapes)| {
            shapes
                .iter()
                .any(|(name, _)| Expert::one(name).is_some() || model.stacked(name).is_some())
        })
    };
    said.unwrap_or_else(named)
}

fn absent(root: &Path, missing: &[String], degrees: Degrees) -> Problem {
    let Degrees { dp, tp, pp } = degrees;
    let mut names = missing[..missing.len().min(LISTED)].join(", ");
    if missing.len() > LISTED {
        names += &format!(" and {} more", missing.len() - LISTED);
    }
    let verb = if missing.len() == 1 { "is" } else { "are" };
    Problem::new(root, format!("{names} {verb} missing: dp {dp}, tp {tp}, pp {pp} wrote this step"))
        .help("Copy every rank's files into one folder; each node may have kept its own.")
}

pub(super) fn surplus(path: &Path, ranks: &str) -> Problem {
    Problem::new(path, format!("it belongs to no rank: {ranks} wrote this step"))
        .help("It may be left from a run on more ranks: move it away if its date says so.")
}
