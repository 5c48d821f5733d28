//! Flags that say what becomes of low-rank adapters.

use clap::Args;
use std::path::{Path, PathBuf};

/// What becomes of low-rank adapters. Without a flag they are kept apart.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "What to make")]
pub(crate) struct LoraArgs {
    /// Add the low-rank pairs (LoRA) in the source to their weights; or, with a folder that PEFT saved,
    /// those in it
    #[arg(long, value_name = "DIR", num_args = 0..=1, require_equals = true)]
    pub(crate) merge_lora: Option<Option<PathBuf>>,
    /// Pairs are scaled by X / rank, where no file records it [default: 1 for DeepSpeed-Chat's]
    #[arg(long, value_name = "X", requires = "merge_lora")]
    pub(crate) lora_alpha: Option<f64>,
}

impl LoraArgs {
    /// The folder of an adapter, if one is named.
    pub(crate) fn folder(&self) -> Option<&Path> {
        self.merge_lora.as_ref()?.as_deref()
    }
}
