//! What one rank's file holds: weights, an optimizer's states, or something else.

use super::is_flat;
use crate::inventory::Problem;
use crate::named::{Storages, bare};
use crate::optimizer::{Saved, is_optimizer};
use crate::sharded::{Held, held, is_tensor};
use crate::torch::{TorchFile, Value};
use indexmap::IndexMap;

/// What was wanted of a file.
#[derive(Debug, Default)]
pub(super) struct RankFile {
    /// The model's tensors, in order.
    pub(super) weights: IndexMap<String, Held>,
    /// Second names of the same bytes.
    pub(super) aliases: IndexMap<String, String>,
    /// The optimizer's states.
    pub(super) optimizer: Option<Saved>,
    /// What else stands among the weights.
    pub(super) others: Vec<String>,
    /// Whether names had wrappers.
    pub(super) wrapped: bool,
    /// A flat parameter, if there is one.
    pub(super) flat: Option<String>,
    /// The step.
    pub(super) step: Option<u64>,
}

/// Keys of a file that holds more than a model.
const MODEL: [&str; 4] = ["model", "state_dict", "model_state_dict", "module"];
const OPTIMIZER: [&str; 5] =
    ["optimizer", "optim", "optimizer_state_dict", "optimizer_state", "optimizers"];
const STEP: [&str; 4] = ["step", "global_step", "iteration", "steps"];

/// Reads a file's directory.
pub(super) fn read(file: &TorchFile, problems: &mut Vec<Problem>) -> RankFile {
    let mut out = RankFile::default();
    let root = file.value.root();
    if is_optimizer(root) {
        out.optimizer = Some(Saved::read(file, root, problems));
        return out;
    }
    let model = MODEL.iter().find_map(|key| root.get(key)).filter(|held| held.as_dict().is_some());
    let optimizer =
        OPTIMIZER.iter().find_map(|key| root.get(key)).filter(|held| is_optimizer(*held));
    out.optimizer = optimizer.map(|held| Saved::read(file, held, problems));
    out.step = STEP.iter().find_map(|key| root.get(key)?.as_u64());
    let direct = root.pairs().into_iter().flatten().any(|(_, value)| is_tensor(value));
    match model {
        Some(model) if !direct => weights(file, model, &mut out, problems),
        _ if direct => weights(file, root, &mut out, problems),
        _ => {}
    }
    out
}

fn weights(file: &TorchFile, root: Value<'_>, out: &mut RankFile, problems: &mut Vec<Problem>) {
    let mut storages = Storages::new();
    for (key, value) in root.pairs().into_iter().flatten() {
        let Some(key) = key.as_str() else {
            out.others.push("a key that is no name".to_owned());
            continue;
        };
        if !is_tensor(value) {
            if !value.is_none() {
                out.others.push(key.to_owned());
            }
            continue;
        }
        let name = bare(key, &mut out.wrapped);
        if is_flat(&name) {
            out.flat.get_or_insert(name);
            continue;
        }
        let held = match held(file, value) {
            Ok(held) => held,
            Err(why) => {
                problems.push(Problem::new(&file.path, format!("`{name}`: {why}")));
                continue;
            }
        };
        let place: Vec<_> =
            held.boxes.iter().filter(|(_, extent)| extent.numel > 0).cloned().collect();
        let place: Vec<_> = place
            .into_iter()
            .map(|(at, one)| (at, one.file_offset, one.shape, one.strides))
            .collect();
        let place = (!place.is_empty()).then(|| (held.shape.clone(), held.dtype, place));
        if let Some(original) = storages.original(place, || name.clone()) {
            out.aliases.insert(name, original.clone());
            continue;
        }
        if out.weights.insert(name.clone(), held).is_some() {
            let message =
                format!("two tensors are called `{name}` once wrapper prefixes are taken off");
            problems.push(Problem::new(&file.path, message));
        }
    }
}

impl RankFile {
    fn held(&self) -> impl Iterator<Item = &Held> {
        self.weights.values().chain(self.optimizer.iter().flat_map(Saved::held))
    }

    /// The rank that its tensors say that they are of.
    pub(super) fn rank(&self) -> Option<u64> {
        self.held().find_map(|held| held.rank)
    }

    /// How many ranks its tensors know of, at least.
    pub(super) fn world(&self) -> Option<u64> {
        self.held().filter_map(|held| held.world).max()
    }

    /// Whether something in it is cut over ranks.
    pub(super) fn sharded(&self) -> bool {
        self.held().any(|held| held.sharded)
    }

    /// Whether it holds a model's tensors or an optimizer's.
    pub(super) fn holds_states(&self) -> bool {
        !self.weights.is_empty() || self.optimizer.is_some() || self.flat.is_some()
    }
}
