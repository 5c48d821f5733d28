//! The optimizer's states beside a model, in a folder of their own: loaders of models take every
//! safetensors file and every index of theirs for weights, and do not look into folders.
//!
//! `optimizer/exp_avg-00001-of-00002.safetensors` and so on: a series for each state, under the names of
//! the weights, with an index as a model's where there are several files. `optimizer/fp32…` are the masters
//! of weights of another type. `optimizer/optimizer.json` says the rest ([`States`]).

use crate::inventory::{Inventory, Optimizer, Problem, Stored, Survey};
use crate::listed::listed;
use crate::universal::{AGAIN, Entry, StateEntry, hold, read_manifest};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The folder of the states in that of the model.
pub(crate) const FOLDER: &str = "optimizer";

/// What says what they are.
pub const STATES: &str = "optimizer/optimizer.json";

/// Its format.
const FORMAT: &str = "ucl.optimizer";

/// The version of the format that this program writes.
const VERSION: u64 = 1;

/// `optimizer/optimizer.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct States {
    /// Always `ucl.optimizer`.
    pub format: String,
    /// The version of the format.
    pub version: u64,
    /// The training step.
    pub step: Option<u64>,
    /// The optimizer's groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optimizer: Option<Optimizer>,
    /// Every tensor of the model, in its order. A weight is in state `fp32` where it is the master itself,
    /// else in `param`; its file is then one of the model's.
    pub tensors: Vec<Entry>,
}

impl States {
    /// What is to be written.
    pub fn new(step: Option<u64>, optimizer: Option<Optimizer>, tensors: Vec<Entry>) -> States {
        States { format: FORMAT.to_owned(), version: VERSION, step, optimizer, tensors }
    }
}

/// What a folder says of its states; `None` if there are none.
///
/// # Errors
/// It cannot be read, or is of another version.
pub fn states(root: &Path) -> Option<Result<States, Problem>> {
    let path = root.join(STATES);
    path.is_file().then(|| read_manifest(&path, FORMAT, VERSION))
}

/// The path of a file of states in the folder of the model.
pub(crate) fn file(state: &str, number: usize, count: usize) -> String {
    match count {
        1 => format!("{FOLDER}/{state}.safetensors"),
        _ => format!("{FOLDER}/{state}-{:05}-of-{count:05}.safetensors", number + 1),
    }
}

/// Takes in the states beside weights that were read. Where they cannot be read the weights still can.
pub(crate) fn take(root: &Path, survey: &mut Survey) {
    // What is wrong with the weights comes first.
    if !survey.problems.is_empty() {
        return;
    }
    let Some(states) = states(root) else { return };
    let mut problems = Vec::new();
    let taken = states.and_then(|states| add(root, states, &mut survey.inventory, &mut problems));
    problems.extend(taken.err());
    survey.inventory.unread.extend(problems);
}

fn add(
    root: &Path,
    states: States,
    inventory: &mut Inventory,
    problems: &mut Vec<Problem>,
) -> Result<(), Problem> {
    let path = root.join(STATES);
    fits(&path, &states, inventory)?;
    let of_optimizer = |entry: &Entry| {
        let kept = entry.states.iter().filter(|(_, place)| is_beside(place));
        let states = kept.map(|(state, place)| (state.clone(), place.clone())).collect();
        Entry { states, ..entry.clone() }
    };
    let beside: Vec<Entry> = states.tensors.iter().map(of_optimizer).collect();
    let files = inventory.files.len();
    let found = hold(root, &path, &beside, inventory, problems);
    if !problems.is_empty() {
        inventory.files.truncate(files);
        return Ok(());
    }
    let known: IndexMap<&str, &Entry> =
        states.tensors.iter().map(|entry| (entry.name.as_str(), entry)).collect();
    for stored in &mut inventory.tensors {
        let Some(entry) = known.get(stored.name.as_str()) else { continue };
        stored.role = entry.role;
        if entry.states.get("fp32").is_some_and(|place| !is_beside(place)) {
            "fp32".clone_into(&mut stored.state);
            inventory.own_types.insert(stored.name.clone(), stored.dtype);
        }
    }
    inventory.tensors.extend(found);
    inventory.step = states.step.or(inventory.step);
    inventory.optimizer = states.optimizer;
    Ok(())
}

/// Whether a file is one of the optimizer's, not of the model's.
fn is_beside(place: &StateEntry) -> bool {
    Path::new(&place.file).starts_with(FOLDER)
}

/// The states are of the weights that lie beside them.
fn fits(path: &Path, states: &States, inventory: &Inventory) -> Result<(), Problem> {
    let weights: IndexMap<&str, &Stored> =
        inventory.tensors.iter().map(|stored| (stored.name.as_str(), stored)).collect();
    let mut wrong = Vec::new();
    for entry in &states.tensors {
        match weights.get(entry.name.as_str()) {
            Some(stored) if stored.shape == entry.shape => {}
            Some(stored) => wrong.push(format!(
                "`{}` is {:?}, the states say {:?}",
                entry.name, stored.shape, entry.shape
            )),
            None => wrong.push(format!("`{}` is not in the model", entry.name)),
        }
    }
    let known = |stored: &&Stored| states.tensors.iter().any(|entry| entry.name == stored.name);
    if states.tensors.len() < inventory.tensors.len() {
        let unknown = inventory.tensors.iter().filter(|stored| !known(stored));
        wrong.extend(unknown.map(|stored| format!("`{}` is not in the states", stored.name)));
    }
    let message = format!("it is not of the model beside it: {}", listed(&wrong, "; "));
    if wrong.is_empty() { Ok(()) } else { Err(Problem::new(path, message).help(AGAIN)) }
}
