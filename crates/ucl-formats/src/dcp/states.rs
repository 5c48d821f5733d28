//! The model and the optimizer of a folder that PyTorch wrote: FSDP, DTensors, plain tensors.

use super::folder::{Sharded, Whole};
use super::optimizer::{Groups, groups};
use super::tree::{Part, Tree};
use crate::fsdp::{flattened, is_flat};
use crate::inventory::{Inventory, Mesh, Optimizer, Problem, Role, Stored};
use crate::named::bare;
use crate::optimizer::{BY_ORDER, Odd};
use indexmap::{IndexMap, IndexSet};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Adds the tensors of a folder to an inventory: the model's and, if it has some, the optimizer's
/// states; gives the optimizer's groups.
pub(crate) fn collect(
    folder: &Sharded,
    inventory: &mut Inventory,
    problems: &mut Vec<Problem>,
) -> Option<Optimizer> {
    let tree = Tree::of(folder);
    let mut out = Collected::default();
    for (name, whole) in &folder.tensors {
        match tree.part(folder, name) {
            Part::Model(own) if is_flat(own) => problems.push(flattened(&folder.root, own)),
            Part::Model(own) => out.weight((name, own), whole, folder, problems),
            Part::State(_, param, state) => out.states.push((param, state, name, whole)),
            Part::Group(..) | Part::GroupOf(_) => {}
            Part::Other => out.others.push(name),
        }
    }
    let objects = folder.objects.keys().map(String::as_str);
    let of_model = objects.filter(|name| {
        !matches!(tree.part(folder, name), Part::State(..) | Part::Group(..) | Part::GroupOf(_))
    });
    out.others.extend(of_model);
    let mut held = Groups::default();
    groups(folder, &tree, &inventory.files, &mut held, problems);
    let numbers = match numbered(&out, &held, folder) {
        Ok(numbers) => numbers,
        Err(problem) => {
            inventory.unread.push(problem);
            out.states.clear();
            BTreeMap::new()
        }
    };
    if numbers.len() > 1 {
        inventory.notes.push(BY_ORDER.to_owned());
    }
    let mut odd = Odd::default();
    let mut trained: IndexSet<String> = IndexSet::new();
    let mut stored = Vec::new();
    for (param, state, full, whole) in std::mem::take(&mut out.states) {
        let name = match param.parse::<u64>().ok().and_then(|number| numbers.get(&number)) {
            Some(name) => name.clone(),
            None => bare(param, &mut out.wrapped),
        };
        let weight = out.weights.get(&name).map(|weight| &weight.shape);
        let counts = state == "step" || weight != Some(&whole.shape);
        if counts && whole.shape.iter().all(|size| *size == 1) {
            match folder.scalar(full, &inventory.files) {
                Some(value) => held.scalar(&name, state, value),
                None => inventory
                    .notes
                    .push(format!("Left out: the state `{full}` of {}.", whole.dtype.name())),
            }
            continue;
        }
        trained.insert(name.clone());
        match weight {
            Some(weight) if *weight != whole.shape => odd.add(state, &name, &whole.shape, weight),
            _ => stored.push(tensor(name, state, whole)),
        }
    }
    let weights = out.weights.into_iter().map(|(name, whole)| weight(name, whole));
    inventory.tensors.extend(weights);
    if !trained.is_empty() {
        inventory.freeze(|name| !trained.contains(name));
    }
    inventory.tensors.extend(stored);
    inventory.unread.extend(odd.told(&folder.root.join(super::metadata::METADATA)));
    if out.wrapped {
        inventory.notes.push(
            "Wrapper prefixes (`module.`, `_orig_mod.`) were taken off the names.".to_owned(),
        );
    }
    folder.carry(out.others.into_iter(), inventory);
    let trained: Vec<String> = trained.into_iter().collect();
    held.optimizer(&numbers, &trained)
}

/// What a folder's tensors are.
#[derive(Debug, Default)]
struct Collected<'a> {
    weights: IndexMap<String, &'a Whole>,
    /// Their places in the order of the dicts, where it is recorded.
    order: HashMap<String, usize>,
    /// The parameter, the state, the whole name, the tensor.
    states: Vec<(&'a str, &'a str, &'a str, &'a Whole)>,
    others: Vec<&'a str>,
    wrapped: bool,
}

impl<'a> Collected<'a> {
    fn weight(
        &mut self,
        (full, name): (&str, &str),
        whole: &'a Whole,
        folder: &Sharded,
        problems: &mut Vec<Problem>,
    ) {
        let name = bare(name, &mut self.wrapped);
        self.order.extend(folder.paths.get_index_of(full).map(|place| (name.clone(), place)));
        if self.weights.insert(name.clone(), whole).is_some() {
            let message =
                format!("two tensors are called `{name}` once wrapper prefixes are taken off");
            problems.push(Problem::new(&folder.root, message));
        }
    }
}

/// A tensor of the model: a parameter, unless it has no fractions.
pub(super) fn weight(name: String, whole: &Whole) -> Stored {
    let role = if whole.dtype.is_float() { Role::Trained } else { Role::Buffer };
    Stored { role, ..tensor(name, "param", whole) }
}

/// A state of a tensor of the model.
pub(super) fn tensor(name: String, state: &str, whole: &Whole) -> Stored {
    Stored {
        name,
        state: state.to_owned(),
        dtype: whole.dtype,
        shape: whole.shape.clone(),
        at: Mesh::new(),
        role: Role::Trained,
        data: whole.data(),
    }
}

/// The names of parameters that the optimizer numbers: `optim.state_dict()` without
/// `get_state_dict` around it. One group has all of them in the model's order, which the recorded
/// keys are in; shapes have to agree. Of several groups nothing says which number is which.
fn numbered(
    out: &Collected<'_>,
    held: &Groups,
    folder: &Sharded,
) -> Result<BTreeMap<u64, String>, Problem> {
    let numbers: BTreeSet<u64> =
        out.states.iter().filter_map(|(param, ..)| param.parse().ok()).collect();
    let unnamed = |number: &u64| !out.weights.contains_key(&number.to_string());
    if numbers.is_empty() || !numbers.iter().all(unnamed) {
        return Ok(BTreeMap::new());
    }
    let refuse = |why: String| {
        Problem::new(
            folder.root.join(super::metadata::METADATA),
            format!("the optimizer numbers its parameters, and {why}"),
        )
        .help(
            "Save `torch.distributed.checkpoint.state_dict.get_state_dict(model, optimizer)`, which \
             names them, or convert the weights alone with --states weights.",
        )
    };
    let listed = held.numbers();
    let [order] = listed.as_slice() else {
        return Err(refuse(format!(
            "its {} groups do not say which number is which",
            listed.len()
        )));
    };
    let mut trained: Vec<_> =
        out.weights.iter().filter(|(_, whole)| whole.dtype.is_float()).collect();
    if trained.iter().any(|(name, _)| !out.order.contains_key(*name)) {
        return Err(refuse("the order of the model's own is not recorded".to_owned()));
    }
    trained.sort_by_key(|(name, _)| out.order.get(*name));
    if order.len() != trained.len() {
        let (ours, theirs) = (trained.len(), order.len());
        return Err(refuse(format!("it has {theirs} of them, the model {ours}")));
    }
    let mut names = BTreeMap::new();
    for (number, (name, whole)) in order.iter().zip(trained) {
        let shaped = |(param, _, _, state): &&(&str, &str, &str, &Whole)| {
            param.parse() == Ok(*number)
                && state.shape.len() == whole.shape.len()
                && !state.shape.is_empty()
        };
        if let Some((_, _, full, state)) = out.states.iter().find(shaped)
            && state.shape != whole.shape
        {
            let (theirs, ours) = (&state.shape, &whole.shape);
            return Err(refuse(format!(
                "`{full}` of shape {theirs:?} is in the place of `{name}`, which is {ours:?}"
            )));
        }
        names.insert(*number, name.clone());
    }
    Ok(names)
}
