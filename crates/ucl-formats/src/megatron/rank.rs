//! One rank's file: weights by virtual stage, arguments, what the run knew of itself.

use super::chunks::{Chunk, chunks};
use super::optimizer::{Part, parts};
use crate::inventory::Problem;
use crate::ranks::unchecked;
use crate::torch::TorchFile;
use crate::torch::json::{json, object};
use serde_json::{Map, Value as Json};

/// What is wanted of a rank's file.
#[derive(Debug, Default)]
pub(super) struct RankFile {
    /// The weights of each virtual stage.
    pub(super) chunks: Vec<Chunk>,
    /// Entries of the module that are no tensors and say something.
    pub(super) others: Vec<String>,
    /// The optimizers; several where experts have one of their own.
    pub(super) optimizer: Vec<Part>,
    pub(super) args: Option<Map<String, Json>>,
    pub(super) version: Option<Json>,
    pub(super) iteration: Option<u64>,
    /// Paths of keys that are converted, not carried.
    pub(super) taken: Vec<Vec<String>>,
    /// Whether names had wrapper prefixes.
    pub(super) wrapped: bool,
    /// Whether data has no checksum in the file.
    pub(super) unchecked: bool,
}

impl RankFile {
    /// Reads `model_optim_rng.pt` or `model_rng.pt`.
    pub(super) fn read(file: &TorchFile, problems: &mut Vec<Problem>) -> RankFile {
        let root = file.value.root();
        let mut rank = RankFile { unchecked: unchecked(file), ..RankFile::default() };
        rank.args = root.get("args").and_then(|args| object(file, args));
        rank.version = root.get("checkpoint_version").map(|version| json(file, version));
        rank.iteration = root.get("iteration").and_then(|iteration| iteration.as_u64());
        chunks(file, &mut rank, problems);
        if let Some(optimizer) = root.get("optimizer").filter(|value| !value.is_none()) {
            rank.optimizer = parts(file, optimizer, &mut rank.taken, problems);
        }
        rank
    }

    /// A count among the arguments; nothing where it is missing or null.
    pub(super) fn arg(&self, key: &str) -> Option<u64> {
        self.args.as_ref()?.get(key)?.as_u64()
    }
}
