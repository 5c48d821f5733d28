//! The files of a model beside its weights: they go along with it.

use super::config::read_config;
use super::states::{FOLDER, STATES};
use crate::inventory::Carried;
use crate::plain::is_weight_file;
use std::fs;
use std::path::Path;

const NAMES: [&str; 22] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer.model.v3",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "spm.model",
    "sentencepiece.bpe.model",
    "tiktoken.model",
    "tekken.json",
    "chat_template.jinja",
    "chat_template.json",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "quantize_config.json",
];

/// Where transformers puts the chat templates after the first.
const TEMPLATES: &str = "additional_chat_templates";

/// Configs that may say that a model has code of its own.
const SAY_CODE: [&str; 4] =
    ["config.json", "tokenizer_config.json", "preprocessor_config.json", "processor_config.json"];

/// Whether a file belongs to the model: its config, tokenizer, licence, or its code, which is copied
/// and never run. A model card (`README.md`) tells of the checkpoint that was converted, so it does not.
pub fn is_model_file(name: &str) -> bool {
    if let Some((folder, name)) = name.split_once('/') {
        return folder == TEMPLATES && !name.contains('/') && name.ends_with(".jinja");
    }
    let licence = ["LICENSE", "LICENCE", "NOTICE", "USE_POLICY"];
    let end = |end: &str| name.ends_with(end);
    NAMES.contains(&name)
        || end(".py")
        || end(".tiktoken")
        || (!is_weight_file(name) && licence.iter().any(|start| name.starts_with(start)))
}

/// The model's files in a folder, sorted by name; none if it cannot be read. Code is among them
/// only where a config says that the model has code of its own: other scripts are a user's.
pub fn model_files(folder: &Path) -> Vec<Carried> {
    let says_code = |name: &&str| {
        read_config(&folder.join(name)).is_ok_and(|config| config.contains_key("auto_map"))
    };
    let mut names = entries(folder);
    let templates = entries(&folder.join(TEMPLATES));
    names.extend(templates.into_iter().map(|name| format!("{TEMPLATES}/{name}")));
    names.retain(|name| is_model_file(name) && folder.join(name).is_file());
    if names.iter().any(|name| name.ends_with(".py")) && !SAY_CODE.iter().any(says_code) {
        names.retain(|name| !name.ends_with(".py"));
    }
    names.sort();
    let carried = |name: String| Carried {
        source: folder.join(&name),
        name,
        slice: None,
        without: Vec::new(),
    };
    names.into_iter().map(carried).collect()
}

/// Where the Trainer counts its steps.
const TRAINER: &str = "trainer_state.json";

/// The step that a folder of the Trainer is of.
pub(crate) fn trainer_step(folder: &Path) -> Option<u64> {
    let state = read_config(&folder.join(TRAINER)).ok()?;
    state.get("global_step").and_then(serde_json::Value::as_u64)
}

/// What else lies in a folder of a model, sorted: neither weights nor the model's files. Hidden
/// entries are not counted.
pub(crate) fn other_entries(folder: &Path, files: &[Carried]) -> Vec<String> {
    let taken = |name: &String| {
        let below = format!("{name}/");
        files.iter().any(|file| file.name == *name || file.name.starts_with(&below))
    };
    let mut names = entries(folder);
    let states = folder.join(STATES).is_file();
    names.retain(|name| !name.starts_with('.') && !is_weight_file(name) && !taken(name));
    names.retain(|name| !(states && name == FOLDER));
    names.sort();
    names
}

fn entries(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
