//! Megatron-core's FSDP (`fsdp_dtensor`): a plain save of PyTorch, with the arguments of the run beside the
//! model. Gated layers are saved in halves, `linear_fc1.weight_w` and `linear_fc1.weight_v`.

use super::super::folder::Sharded;
use super::common::arguments;
use crate::inventory::{Framework, Inventory, Problem};
use crate::ranks::MIXED;
use crate::torch::{TorchFile, json};
use std::collections::{BTreeSet, HashMap};
use std::path::Path;

/// What the halves of a gated layer's parameter end with.
const HALVES: [&str; 2] = ["_w", "_v"];
/// What is saved in halves.
const WHOLE: [&str; 2] = [".weight", ".bias"];

/// Takes what Megatron-LM tells of its run, if the save is of it: a save of PyTorch's that has `args` and
/// `checkpoint_version` at the top.
pub(crate) fn tell(folder: &Sharded, inventory: &mut Inventory, problems: &mut Vec<Problem>) {
    let object = |name: &str| folder.objects.get(name);
    let (Some(args), Some(version)) = (object("args"), object("checkpoint_version")) else {
        return;
    };
    let whole = |file: &TorchFile| json::json(file, file.value.root());
    let opened = args.open().and_then(|args| Ok((args, version.open()?)));
    let (args, version) = match opened {
        Ok(opened) => opened,
        Err(problem) => {
            problems.push(problem);
            return;
        }
    };
    inventory.framework = Framework::MegatronFsdp;
    inventory.kind = inventory.kind.replacen("PyTorch DCP", "Megatron-core fsdp_dtensor", 1);
    let read = json::object(&args, args.value.root());
    let path = folder.root.join(super::super::metadata::METADATA);
    arguments((read, Some(whole(&version))), &path, inventory, problems);
    let iteration = object("iteration").and_then(|iteration| iteration.open().ok());
    inventory.step = iteration.and_then(|file| file.value.root().as_u64()).or(inventory.step);
    both_halves(&path, inventory, problems);
    name_halves(inventory);
}

/// A gated layer has both halves, of one shape.
fn both_halves(path: &Path, inventory: &Inventory, problems: &mut Vec<Problem>) {
    let held = inventory.tensors.iter().map(|held| ((&*held.state, &*held.name), &held.shape));
    let shapes: HashMap<(&str, &str), &Vec<u64>> = held.collect();
    for held in &inventory.tensors {
        for (own, other) in [(HALVES[0], HALVES[1]), (HALVES[1], HALVES[0])] {
            let whole = held.name.strip_suffix(own);
            let Some(whole) = whole.filter(|name| WHOLE.iter().any(|end| name.ends_with(end)))
            else {
                continue;
            };
            let other = format!("{whole}{other}");
            let (name, state, shape) = (&held.name, &held.state, &held.shape);
            let wrong = match shapes.get(&(&**state, &*other)) {
                None => format!(
                    "`{name}` ({state}) is half of a gated layer, and there is no `{other}`"
                ),
                // Said once, of the first.
                Some(theirs) if *theirs != shape && own == HALVES[0] => format!(
                    "`{name}` ({state}) has the shape {shape:?}, the other half of it, `{other}`, has {theirs:?}"
                ),
                Some(_) => continue,
            };
            problems.push(Problem::new(path, wrong).help(MIXED));
        }
    }
}

/// Groups name the whole parameters; the states are of the halves.
fn name_halves(inventory: &mut Inventory) {
    let Inventory { optimizer: Some(optimizer), tensors, .. } = inventory else { return };
    let known: BTreeSet<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    for group in &mut optimizer.groups {
        let halves = |param: String| {
            let split = HALVES.map(|end| format!("{param}{end}"));
            let whole = known.contains(param.as_str());
            if !whole && split.iter().all(|half| known.contains(half.as_str())) {
                split.to_vec()
            } else {
                vec![param]
            }
        };
        group.params = std::mem::take(&mut group.params).into_iter().flat_map(halves).collect();
    }
}
