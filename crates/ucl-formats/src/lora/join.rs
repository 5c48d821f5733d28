//! Puts the pairs of an adapter's own folder beside the model that it was made for.

use super::apart::pairs_of;
use super::config;
use super::names::{Named, bare, named};
use crate::inventory::{Data, FileId, Problem, Survey};
use crate::plain::survey_file;
use std::path::Path;

/// What PEFT calls the document and the weights of an adapter.
const CONFIG: &str = "adapter_config.json";
const WEIGHTS: [&str; 2] = ["adapter_model.safetensors", "adapter_model.bin"];

/// Reads the headers of an adapter's folder, as PEFT saves it, and adds its pairs to a checkpoint.
///
/// What is wrong with it is among the problems afterwards.
pub fn join(survey: &mut Survey, folder: &Path) {
    if let Err(problem) = try_join(survey, folder) {
        survey.problems.push(problem);
    }
}

fn try_join(survey: &mut Survey, folder: &Path) -> Result<(), Problem> {
    if !survey.inventory.adapters.is_empty() {
        let message = "the checkpoint has low-rank pairs of its own";
        return Err(Problem::new(folder, message)
            .help("`--merge-lora` without a folder merges those; then merge this adapter into the result."));
    }
    let path = folder.join(CONFIG);
    if !path.is_file() {
        let message = format!("it is no adapter's folder: {CONFIG} is missing");
        return Err(Problem::new(folder, message).help("Give the folder that PEFT saved."));
    }
    let said = config::read(&path)?;
    let Some(file) = WEIGHTS.iter().map(|name| folder.join(name)).find(|path| path.is_file())
    else {
        let message = format!("it holds neither {} nor {}", WEIGHTS[0], WEIGHTS[1]);
        return Err(Problem::new(folder, message).help("Copy the adapter again, with its weights."));
    };
    let adapter = survey_file(&file);
    survey.problems.extend(adapter.problems);
    let mut tensors = adapter.inventory.tensors;
    for stored in &mut tensors {
        stored.name = bare(&stored.name).to_owned();
    }
    let mut adapters = pairs_of(tensors.iter().map(|stored| stored.name.as_str()));
    let is_own = |name: &str| matches!(named(name), Named::Own(_));
    let whole: Vec<String> =
        tensors.iter().filter(|t| is_own(&t.name)).map(|t| t.name.clone()).collect();
    if !whole.is_empty() {
        adapters.obstacles.push(format!(
            "it holds tensors that are no halves of pairs: {}",
            crate::listed::listed(&whole, ", ")
        ));
    }
    if adapters.pairs.is_empty() && adapters.obstacles.is_empty() {
        return Err(Problem::new(&file, "it holds no low-rank pairs"));
    }
    adapters.obstacles.extend(config::apply(&said, &mut adapters.pairs, false));
    let inventory = &mut survey.inventory;
    let shift = inventory.files.len() as FileId;
    inventory.files.extend(adapter.inventory.files);
    let known: Vec<String> = inventory.tensors.iter().map(|stored| stored.name.clone()).collect();
    for mut stored in tensors.into_iter().filter(|stored| adapters.has(&stored.name)) {
        if known.contains(&stored.name) {
            let message = format!("`{}` is the name of a tensor of the model too", stored.name);
            return Err(Problem::new(&file, message));
        }
        if let Data::Strided { file, .. } = &mut stored.data {
            *file += shift;
        }
        inventory.tensors.push(stored);
    }
    inventory.adapters = adapters;
    Ok(())
}
