//! DeepSpeed's own mixtures of experts: which files there are, and what the experts in them are called.
//!
//! A rank numbers its experts from zero, in its modules and in its optimizer (`moe/experts.py`); the
//! files of experts number them over all ranks (`runtime/engine.py`, `_save_moe_checkpoint`). The
//! inventory has the latter.

mod name;
mod present;
mod stacked;

pub(super) use name::Expert;
pub(super) use stacked::{Stacked, stacks, store};

use super::mesh::{Degrees, Step};
use super::model::ModelFile;
use super::names::ExpertFile;
use crate::inventory::{Mesh, Problem};
use crate::ranks::{Opened, name_of};
use std::collections::{BTreeMap, HashMap};

/// An opened file of an expert.
pub(super) type Read = (ExpertFile, Opened<ModelFile>);

/// What the files of experts tell.
#[derive(Debug, Default)]
pub(super) struct Experts {
    /// By the name of a mixture, how many experts it has over all ranks.
    counts: HashMap<String, u64>,
    /// Whether tensor ranks share experts out among themselves and cut none of them
    /// (`enable_expert_tensor_parallelism` is off).
    pub(super) whole: bool,
    /// Whether a file is missing or of something else, which was said.
    pub(super) incomplete: bool,
}

impl Experts {
    /// Compares the files with one another and with what the model files say.
    pub(super) fn of(
        files: &[Read],
        step: &Step<'_>,
        degrees: Degrees,
        problems: &mut Vec<Problem>,
    ) -> Experts {
        let mut experts = Experts { whole: shared_out(files, degrees), ..Experts::default() };
        // What can't be read was said too.
        experts.incomplete =
            experts.present(step, degrees, problems) | (files.len() < step.files.experts.len());
        let mut firsts: BTreeMap<(u64, String), &Read> = BTreeMap::new();
        for read in files {
            let Some(mixture) = whose(read, problems) else {
                experts.incomplete = true;
                continue;
            };
            let count = experts.counts.entry(mixture.clone()).or_default();
            *count = (*count).max(read.0.expert.saturating_add(1));
            let first = firsts.entry((read.0.mp % degrees.tp.max(1), mixture)).or_insert(read);
            alike(first, read, problems);
        }
        for (_, model) in step.models {
            for layer in &model.content.autoep {
                experts.counts.insert(layer.mixture.clone(), layer.experts);
            }
        }
        experts
    }

    /// How many experts a mixture has.
    pub(super) fn count(&self, mixture: &str) -> Option<u64> {
        self.counts.get(mixture).copied()
    }

    /// Where on the mesh an expert is that an `mp` rank holds.
    pub(super) fn at(&self, mp: u64, degrees: Degrees) -> Mesh {
        let mut at = degrees.at(mp);
        if self.whole {
            at.shift_remove("tp");
        }
        at
    }
}

/// Whether no expert is in the files of two tensor ranks.
fn shared_out(files: &[Read], degrees: Degrees) -> bool {
    let mut seen = BTreeMap::new();
    let tp = degrees.tp.max(1);
    tp > 1
        && !files.is_empty()
        && files.iter().all(|(file, _)| {
            seen.insert((file.mp / tp, file.layer, file.expert), file.mp).is_none()
        })
}

/// The mixture that a file's tensors are of. All have to be of the expert that the file is called by.
fn whose((file, read): &Read, problems: &mut Vec<Problem>) -> Option<String> {
    let mut mixture: Option<&str> = None;
    for weight in &read.content.weights {
        let wrong = match Expert::of(&weight.name) {
            None => format!("`{}` is no tensor of an expert", weight.name),
            Some(expert) if expert.id != file.expert => {
                format!(
                    "`{}` is of expert {}, the file of expert {}",
                    weight.name, expert.id, file.expert
                )
            }
            // Old files hold an expert of every mixture.
            Some(expert) if file.layer.is_none() || mixture.is_none_or(|m| m == expert.mixture) => {
                mixture = Some(expert.mixture);
                continue;
            }
            Some(expert) => {
                format!(
                    "`{}` is not of `{}`, as the others are",
                    weight.name,
                    mixture.unwrap_or(expert.mixture)
                )
            }
        };
        problems.push(
            Problem::new(&read.path, wrong)
                .help("Files were renamed or copied over one another: copy them again."),
        );
        return None;
    }
    mixture.map(str::to_owned)
}

/// All experts of a mixture have the same tensors.
fn alike(first: &Read, other: &Read, problems: &mut Vec<Problem>) {
    let tensors = |(_, read): &Read| -> BTreeMap<String, Vec<u64>> {
        let named = read.content.weights.iter().filter_map(|weight| {
            Some((Expert::of(&weight.name)?.beside(), weight.extent.shape.clone()))
        });
        named.collect()
    };
    let (ours, theirs) = (tensors(first), tensors(other));
    let name = name_of(&first.1.path);
    for (tensor, shape) in &theirs {
        let wrong = match ours.get(tensor) {
            Some(known) if known == shape => continue,
            Some(known) => {
                format!("`{tensor}` has the shape {shape:?}, in {name} it has {known:?}")
            }
            None => format!("it has `{tensor}`, {name} has not"),
        };
        problems.push(Problem::new(&other.1.path, wrong));
    }
    if let Some(absent) = ours.keys().find(|tensor| !theirs.contains_key(*tensor)) {
        let wrong = format!("it has no `{absent}`, {name} has");
        problems.push(Problem::new(&other.1.path, wrong));
    }
}
