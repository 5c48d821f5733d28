//! Flags that say what the source is, where files alone do not.

use super::value;
use clap::Args;
use std::path::PathBuf;
use ucl_ir::Mesh;

/// What is said about the source.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "What the source is")]
pub(crate) struct SourceArgs {
    /// A spec file, or the name of a built-in spec; it is tried alone. May be repeated for specs that
    /// it extends, it first
    #[arg(long, value_name = "FILE")]
    pub(crate) spec: Vec<PathBuf>,
    /// The view that the source is stored in, if it is not the one that was recognised
    #[arg(long, value_name = "VIEW")]
    pub(crate) from_view: Option<String>,
    /// The mesh that wrote the source (`tp=2,pp=2`); it has to be what the files say
    #[arg(long, value_name = "MESH", value_parser = value::mesh)]
    pub(crate) from_mesh: Option<Mesh>,
    /// The size of a dim that does not follow from the files (`k=8`); may be repeated
    #[arg(long, value_name = "DIM=N", value_parser = value::size_of_dim)]
    pub(crate) set: Vec<(String, u64)>,
    /// A folder with the model's config.json, to read dims from; it and the tokenizer go along
    #[arg(long, value_name = "DIR")]
    pub(crate) config: Option<PathBuf>,
}

impl SourceArgs {
    /// The same flags, as words to type again.
    pub(crate) fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        let mut add = |flag: &str, value: String| words.extend([flag.to_owned(), value]);
        self.spec.iter().for_each(|file| add("--spec", file.display().to_string()));
        self.from_view.iter().for_each(|view| add("--from-view", view.clone()));
        self.set.iter().for_each(|(dim, size)| add("--set", format!("{dim}={size}")));
        self.config.iter().for_each(|folder| add("--config", folder.display().to_string()));
        words
    }
}
