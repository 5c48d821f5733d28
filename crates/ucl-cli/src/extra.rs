//! What goes along as it is, under `extra/`.

use crate::failure::{Stop, of_problem};
use std::error::Error;
use std::path::{Path, PathBuf};
use ucl_formats::carry::carried_bytes;
use ucl_formats::inventory::Carried;
use ucl_formats::{Inventory, Problem};

/// Files of `--config` that belong to the model.
const OF_MODEL: [&str; 10] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
];

/// Names and bytes, or why there are none, as the executor takes them.
type Files = Result<Vec<(String, Vec<u8>)>, Box<dyn Error + Send + Sync>>;

/// Files to make beside the tensors.
pub(crate) struct Extra<'a> {
    carried: &'a [Carried],
    copied: Vec<(String, PathBuf)>,
}

impl<'a> Extra<'a> {
    /// What a checkpoint carries, and the model's files in the folder of `--config`.
    pub(crate) fn of(inventory: &'a Inventory, config: Option<&Path>) -> Result<Extra<'a>, Stop> {
        let mut copied = Vec::new();
        for name in OF_MODEL {
            let Some(path) = config.map(|folder| folder.join(name)).filter(|path| path.is_file())
            else {
                continue;
            };
            let name = format!("extra/{name}");
            if inventory.carried.iter().any(|carried| format!("extra/{}", carried.name) == name) {
                let problem =
                    Problem::new(&path, "the checkpoint carries a file of this name itself.");
                return Err(of_problem(
                    &problem.help("leave --config out, or take this file away"),
                )
                .into());
            }
            copied.push((name, path));
        }
        Ok(Extra { carried: &inventory.carried, copied })
    }

    /// Their names and bytes.
    pub(crate) fn files(&self) -> Files {
        let mut files = Vec::new();
        for carried in self.carried {
            files.push((format!("extra/{}", carried.name), carried_bytes(carried)?));
        }
        for (name, path) in &self.copied {
            let bytes =
                std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
            files.push((name.clone(), bytes));
        }
        Ok(files)
    }
}
