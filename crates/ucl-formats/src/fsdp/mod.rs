//! What each rank saved by itself with `torch.save`: FSDP's sharded state dicts, as DTensors or as
//! ShardedTensors.
//!
//! Names of files vary, so they only tell ranks; what a file is, its content tells.

mod file;
mod series;

use crate::inventory::{Carried, Framework, Inventory, Problem, Role, Survey};
use crate::listed::listed;
use crate::optimizer::{Model, Order, Saved, copies, merge};
use crate::ranks::{Opened, agreed, count, open_all};
use crate::sharded::gather;
use file::{RankFile, read};
use indexmap::{IndexMap, IndexSet};
use series::{Series, series};
use std::path::{Path, PathBuf};

/// Whether a folder has files whose names are of ranks and that torch wrote.
pub(crate) fn has_ranks(root: &Path) -> bool {
    !series(root).is_empty()
}

/// Whether a name is one that a rank's file may have.
pub(crate) fn is_rank_file(name: &str) -> bool {
    series::rank_of(name).is_some()
}

/// A rank and its file.
type RankOpened = (u64, Opened<RankFile>);

/// Reads the headers of all ranks' files of a folder.
pub(crate) fn survey(root: &Path) -> Survey {
    let mut inventory = Inventory { root: root.to_owned(), ..Inventory::default() };
    inventory.framework = Framework::TorchDistributed;
    let mut problems = Vec::new();
    let mut ranks: Vec<(Series, Vec<RankOpened>)> = Vec::new();
    for series in series(root) {
        let paths: Vec<(u64, PathBuf)> =
            series.files.iter().map(|(rank, path)| (*rank, path.clone())).collect();
        let files = open_all(&paths, &mut inventory, &mut problems, read);
        ranks.push((series, files));
    }
    extras(&mut ranks);
    for (series, files) in &ranks {
        let world = files.iter().filter_map(|(_, file)| file.content.world()).max();
        let of_model = files.iter().any(|(_, file)| file.content.holds_states());
        // What else the ranks saved says little by itself: random states, schedulers.
        if of_model {
            problems.extend(series.missing(root, world).or_else(|| series.surplus()));
        }
    }
    same_number(root, &ranks, &mut problems);
    let all = || ranks.iter().flat_map(|(_, files)| files);
    if let Some((_, flat)) = all().find(|(_, file)| file.content.flat.is_some()) {
        let name = flat.content.flat.as_deref().unwrap_or_default();
        problems.push(flattened(&flat.path, name));
        inventory.kind = "FSDP, flat parameters".to_owned();
        return Survey { inventory, problems };
    }
    for (rank, file) in all() {
        problems.extend(other_rank(*rank, file));
    }
    inventory.step = step(all().map(|(_, file)| file), &mut problems);
    let world = all().map(|(rank, _)| rank.saturating_add(1)).max().unwrap_or(1);
    inventory.mesh.insert("dp".to_owned(), world);
    let sharded = all().any(|(_, file)| file.content.sharded());
    let kind =
        if sharded { "FSDP, a file for each rank" } else { "torch files, one for each rank" };
    inventory.kind = format!("{kind}, {}", count(world, "rank"));
    if !all().any(|(_, file)| !file.content.weights.is_empty()) {
        let message = "its ranks' files hold no named tensors of a model";
        let help = "Give the folder that holds the model's state dict, or one file of weights.";
        problems.push(Problem::new(root, message).help(help));
        return Survey { inventory, problems };
    }
    let shapes = weights(&ranks, &mut inventory, &mut problems);
    let saved: Vec<(&Path, u32, &Saved)> = all()
        .filter_map(|(_, file)| {
            Some((file.path.as_path(), file.file, file.content.optimizer.as_ref()?))
        })
        .collect();
    // What is missing among the files was said, and explains what is missing in a tensor.
    if !saved.is_empty() && problems.is_empty() {
        let model = Model { shapes: &shapes, order: Some(Order::Files) };
        merge(&saved, &model, &mut inventory, &mut problems);
    }
    rest(&ranks, &mut inventory);
    Survey { inventory, problems }
}

type Ranks = [(Series, Vec<(u64, Opened<RankFile>)>)];

/// Beside tensors that are cut over ranks, files of whole ones are no model's: random states, schedulers.
fn extras(ranks: &mut Ranks) {
    let sharded =
        |files: &[(u64, Opened<RankFile>)]| files.iter().any(|(_, file)| file.content.sharded());
    if !ranks.iter().any(|(_, files)| sharded(files)) {
        return;
    }
    for (_, files) in ranks.iter_mut().filter(|(_, files)| !sharded(files)) {
        for (_, file) in files {
            file.content.weights.clear();
            file.content.aliases.clear();
            file.content.others.clear();
        }
    }
}

/// All kinds of files are of as many ranks.
fn same_number(root: &Path, ranks: &Ranks, problems: &mut Vec<Problem>) {
    let of_model = || {
        ranks.iter().filter(|(_, files)| files.iter().any(|(_, file)| file.content.holds_states()))
    };
    let most = of_model().max_by_key(|(series, _)| series.files.len());
    let Some((most, _)) = most else { return };
    for (series, _) in of_model().filter(|(series, _)| series.files.len() < most.files.len()) {
        let (here, there) = (series.files.len(), most.files.len());
        let message = format!(
            "there are {here} files like `{}` and {there} like `{}`",
            series.name(0),
            most.name(0)
        );
        problems
            .push(Problem::new(root, message).help("Keep the files of one save, of all ranks."));
    }
}

/// The step of all files. What else the ranks saved may count something of its own, so it says the step
/// only where the model's and the optimizer's files do not.
fn step<'a>(
    files: impl Iterator<Item = &'a Opened<RankFile>> + Clone,
    problems: &mut Vec<Problem>,
) -> Option<u64> {
    [true, false].into_iter().find_map(|holds| {
        let files = files.clone().filter(|file| file.content.holds_states() == holds);
        let said = files.filter_map(|file| Some((file.content.step?, &file.path)));
        agreed(said, problems, |theirs, witness, usual| {
            format!("it is of step {theirs}, {witness} is of step {usual}")
        })
    })
}

/// A file whose content is of another rank than its name.
fn other_rank(rank: u64, file: &Opened<RankFile>) -> Option<Problem> {
    let said = file.content.rank()?;
    (said != rank).then(|| {
        let message = format!("its name says rank {rank}, the tensors in it are of rank {said}");
        Problem::new(&file.path, message).help("Copy the files again under their own names.")
    })
}

/// Whether a name is that of a flat parameter.
pub(crate) fn is_flat(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    last.starts_with("_flat_param") || last == "flat_param"
}

/// Flat parameters have no shapes of their own.
pub(crate) fn flattened(path: &Path, name: &str) -> Problem {
    let message = format!(
        "`{name}` is a flat parameter: FSDP put several parameters into one row of numbers here, and neither \
         their names nor their shapes are in the file"
    );
    Problem::new(path, message).help(
        "Save with StateDictType.SHARDED_STATE_DICT or FULL_STATE_DICT, or with torch.distributed.checkpoint: \
         load this once with the script that saved it and save it so.",
    )
}

/// The model's own tensors; gives their shapes, in the order of the files.
fn weights(
    ranks: &Ranks,
    inventory: &mut Inventory,
    problems: &mut Vec<Problem>,
) -> IndexMap<String, Vec<u64>> {
    let mut parts: IndexMap<&str, Vec<_>> = IndexMap::new();
    let (mut others, mut wrapped) = (IndexSet::new(), false);
    let files = || ranks.iter().flat_map(|(_, files)| files).map(|(_, file)| file);
    for file in files() {
        for (name, held) in &file.content.weights {
            parts.entry(name).or_default().push((file.file, held.clone()));
        }
        for (alias, original) in &file.content.aliases {
            inventory.aliases.insert(alias.clone(), original.clone());
        }
        others.extend(file.content.others.iter().map(String::as_str));
        wrapped |= file.content.wrapped;
    }
    // A rank without elements of a tensor can't see that it is another's second name.
    parts.retain(|name, _| !inventory.aliases.contains_key(*name));
    let mut shapes = IndexMap::new();
    let quiet = !problems.is_empty();
    for (name, parts) in parts {
        match gather(&parts) {
            Ok(place) => {
                if place.dtype.is_float() {
                    shapes.insert(name.to_owned(), place.shape.clone());
                }
                let role = if place.dtype.is_float() { Role::Trained } else { Role::Buffer };
                inventory.tensors.extend(copies(name, "param", role, place));
            }
            // Files that are missing were said.
            Err(_) if quiet => {}
            Err(why) => {
                let path = files().find(|file| file.content.weights.contains_key(name));
                let path = path.map_or(inventory.root.as_path(), |file| &file.path);
                let problem = Problem::new(path, format!("`{name}`: {why}"));
                problems.push(problem.help("Are the files of one save, from all ranks?"));
            }
        }
    }
    if wrapped {
        inventory.notes.push(
            "Wrapper prefixes (`module.`, `_orig_mod.`) were taken off the names.".to_owned(),
        );
    }
    if !others.is_empty() {
        let all: Vec<_> = others.into_iter().collect();
        let all = listed(&all, ", ");
        inventory.notes.push(format!("Left out, as it is no named tensor: {all}."));
    }
    shapes
}

/// What else each rank saved goes along.
fn rest(ranks: &Ranks, inventory: &mut Inventory) {
    for (series, files) in ranks {
        if files.iter().any(|(_, file)| file.content.holds_states()) {
            continue;
        }
        inventory.carried.extend(series.files.values().map(|path| Carried::of(path, &[])));
    }
}

#[cfg(test)]
mod tests {
    use super::{Opened, RankFile, Saved, step};

    #[test]
    fn files_of_different_steps() {
        let file = |number: u32, step: u64, holds: bool| {
            let optimizer = holds.then(Saved::default);
            let content = RankFile { step: Some(step), optimizer, ..RankFile::default() };
            let path = format!("rank_{number}.pt").into();
            Opened { file: number, path, saved_as: None, content }
        };
        let mut problems = Vec::new();
        let files = [file(0, 3, true), file(1, 3, true), file(2, 99, false)];
        assert_eq!(step(files.iter(), &mut problems), Some(3));
        assert_eq!(problems, []);
        let files = [file(0, 3, true), file(1, 4, true), file(2, 4, true)];
        assert_eq!(step(files.iter(), &mut problems), Some(4));
        let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(said, ["rank_0.pt: it is of step 3, rank_1.pt is of step 4"]);
    }
}
