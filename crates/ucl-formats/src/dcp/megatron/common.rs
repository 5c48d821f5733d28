//! What is not sharded: arguments, iteration, the optimizer's groups, schedulers.

use super::super::folder::Sharded;
use crate::inventory::{Carried, Inventory, Problem, SourceFile};
use crate::megatron::{settle_vocabulary, unspelled};
use crate::named::unreadable;
use crate::torch::json;
use crate::torch::{TorchFile, Value};
use serde_json::{Map, Value as Json};
use std::io::Read;
use std::path::Path;

/// The file that it was in until core 0.19.
pub(super) const COMMON: &str = "common.pt";

/// The object that it is in since.
pub(super) const COMMON_STATE: &str = "common_state";

/// The file that says how the tensors were saved.
pub(super) const METADATA_JSON: &str = "metadata.json";

/// `metadata.json` is a line.
const LONGEST: u64 = 1 << 16;

/// What says that tensors were saved in another way than in `.distcp` files.
pub(crate) fn other_backend(root: &Path) -> Option<Problem> {
    let path = root.join(METADATA_JSON);
    let mut text = Vec::new();
    std::fs::File::open(&path).ok()?.take(LONGEST).read_to_end(&mut text).ok()?;
    let json: Json = serde_json::from_slice(&text).ok()?;
    let backend = json.get("sharded_backend")?.as_str().filter(|name| *name != "torch_dist")?;
    let message = format!("its tensors were saved as {backend:?}; this version reads `torch_dist`");
    Some(Problem::new(path, message).help(
        "Megatron-core before 0.16 reads it: load the step there and save it with `--dist-ckpt-format torch_dist`.",
    ))
}

/// The common state, opened.
pub(super) struct Common {
    file: TorchFile,
    /// Whether it is a file of its own, which can go along.
    own_file: bool,
    bytes: u64,
}

impl Common {
    /// Opens it, where it is.
    pub(super) fn read(folder: &Sharded, problems: &mut Vec<Problem>) -> Option<Common> {
        let path = folder.root.join(COMMON);
        if path.is_file() {
            let bytes = path.metadata().map_or(0, |metadata| metadata.len());
            let opened = TorchFile::open(&path).map_err(unreadable);
            return problem(opened, problems).map(|file| Common { file, own_file: true, bytes });
        }
        let object =
            folder.objects.iter().find(|(name, _)| super::keys::object(name) == COMMON_STATE);
        let Some((_, object)) = object else {
            problems.push(
                Problem::new(&path, "it is missing, and so is the object `common_state`: they hold the arguments of the run")
                    .help("Copy the folder again, with all its files."),
            );
            return None;
        };
        problem(object.open(), problems).map(|file| Common { file, own_file: false, bytes: 0 })
    }

    /// The dict itself; an object is a list of one.
    fn root(&self) -> Value<'_> {
        let root = self.file.value.root();
        match root.as_list().map(|mut items| (items.len(), items.next())) {
            Some((1, Some(only))) => only,
            _ => root,
        }
    }

    /// Puts what it says into an inventory.
    pub(super) fn tell(self, inventory: &mut Inventory, problems: &mut Vec<Problem>) {
        let root = self.root();
        let args = root.get("args").and_then(|args| json::object(&self.file, args));
        let version = root.get("checkpoint_version").map(|version| json::json(&self.file, version));
        arguments((args, version), &self.file.path, inventory, problems);
        inventory.step = root.get("iteration").and_then(Value::as_u64);
        let optimizer = root.get("optimizer").map(|optimizer| json::json(&self.file, optimizer));
        let sharding =
            root.at(&["content_metadata", "distrib_optim_sharding_type"]).and_then(Value::as_str);
        inventory.kind = match sharding {
            Some(sharding) => format!("Megatron-core torch_dist, {sharding}"),
            None => "Megatron-core torch_dist".to_owned(),
        };
        if let Some(optimizer) = optimizer {
            super::groups::tell(&optimizer, inventory);
        }
        if self.own_file {
            let path = self.file.path.clone();
            inventory.files.push(SourceFile {
                path: path.clone(),
                bytes: self.bytes,
                header_bytes: self.file.header_bytes_read,
            });
            let carried =
                Carried { name: COMMON.to_owned(), source: path, slice: None, without: Vec::new() };
            inventory.carried.push(carried);
        }
    }
}

/// Puts the arguments of a run and the version of its checkpoint into an inventory.
pub(super) fn arguments(
    (args, version): (Option<Map<String, Json>>, Option<Json>),
    path: &Path,
    inventory: &mut Inventory,
    problems: &mut Vec<Problem>,
) {
    let mut args = args.unwrap_or_default();
    if let Some(version) = version {
        args.insert("checkpoint_version".to_owned(), version);
    }
    inventory.notes.extend(settle_vocabulary(&mut args));
    problems.extend(unspelled(&args, path));
    if !args.is_empty() {
        inventory.documents.insert("args".to_owned(), args);
    }
}

fn problem<T>(result: Result<T, Problem>, problems: &mut Vec<Problem>) -> Option<T> {
    result.map_err(|problem| problems.push(problem)).ok()
}
