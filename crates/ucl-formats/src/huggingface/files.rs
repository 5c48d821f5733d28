//! The files of a model beside its weights: they go along with it.

use std::fs;
use std::path::Path;

const NAMES: [&str; 21] = [
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

/// Whether a file belongs to the model: its config, tokenizer, licence, or its code, which is copied
/// and never run. A model card (`README.md`) tells of the checkpoint that was converted, so it does not.
pub fn is_model_file(name: &str) -> bool {
    let licence = ["LICENSE", "LICENCE", "NOTICE", "USE_POLICY"];
    NAMES.contains(&name)
        || (name.ends_with(".py") && !name.contains('/'))
        || (!name.contains('/') && licence.iter().any(|start| name.starts_with(start)))
}

/// The names of the model's files in a folder, sorted; none if it cannot be read. Code is among them
/// only where the config says that the model has code of its own: other scripts are a user's.
pub fn model_files(folder: &Path) -> Vec<String> {
    let own_code = || {
        let text = fs::read(folder.join("config.json")).unwrap_or_default();
        let config: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
        config.get("auto_map").is_some()
    };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> =
        names.filter(|name| is_model_file(name) && folder.join(name).is_file()).collect();
    if names.iter().any(|name| name.ends_with(".py")) && !own_code() {
        names.retain(|name| !name.ends_with(".py"));
    }
    names.sort();
    names
}
