//! What a path means: a run's folder, a step's folder, one file, a universal folder.
//!
//! Names only suggest; a file is what its first bytes say. Nothing outside the given folder is
//! followed.

mod pointer;
mod sniff;

use crate::consolidated::{is_consolidated, rank_files, rank_of};
use crate::fsdp;
use crate::inventory::Problem;
use crate::universal::MANIFEST;
use crate::{dcp, deepspeed};
use std::fs;
use std::path::{Path, PathBuf};

pub use sniff::{Content, sniff};

/// What lies at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// What it is.
    pub kind: Kind,
    /// The step's folder or the file.
    pub root: PathBuf,
    /// The `config.json` that goes with it, if there is one.
    pub config: Option<PathBuf>,
    /// The `adapter_config.json` that goes with it, if there is one.
    pub adapter: Option<PathBuf>,
    /// How it was found, a sentence each.
    pub notes: Vec<String>,
}

/// A kind of checkpoint, as its file names tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `mp_rank_00_model_states.pt`, `zero_pp_rank_0_mp_rank_00_optim_states.pt`.
    DeepSpeed,
    /// `zero/<parameter>/fp32.pt`, made by DeepSpeed's own converter.
    DeepSpeedUniversal,
    /// `mp_rank_00/model_optim_rng.pt`.
    Megatron,
    /// `.metadata` and `__0_0.distcp`; Megatron-core adds `metadata.json` and `common.pt`, Accelerate
    /// has one such folder for the model and one for the optimizer.
    TorchDistributed,
    /// A folder with `model.safetensors` or `pytorch_model.bin`, perhaps in shards.
    Weights,
    /// `consolidated.00.pth` and its like, of Meta and Mistral.
    Consolidated,
    /// `model_world_size_4_rank_2.pt`, `rank_0.pt`: what each rank of FSDP saved.
    Ranks,
    /// One safetensors or torch file.
    File(Content),
    /// `ucl.json`.
    Universal,
}

/// Finds out what a path means.
///
/// A run's folder points at its step: by `latest`, else by `latest_checkpointed_iteration.txt`, else
/// by holding a single step, or a single run of one. `*_universal` beside steps is passed over; where there is no step,
/// `latest_universal` points at one.
///
/// # Errors
/// Says what is there instead, and which of it could be given.
pub fn locate(path: &Path) -> Result<Located, Problem> {
    let metadata = fs::metadata(path).map_err(|error| {
        let nearest = path.ancestors().skip(1).find(|above| above.is_dir());
        let help = nearest.map(|above| format!("{} holds {}.", above.display(), listing(above)));
        let problem = Problem::new(path, format!("it can't be opened: {error}"));
        help.into_iter().fold(problem, Problem::help)
    })?;
    let mut located = if metadata.is_dir() { folder(path, 0)? } else { file(path)? };
    located.config = beside(&located, path, "config.json");
    located.adapter = beside(&located, path, "adapter_config.json");
    Ok(located)
}

/// A single file.
fn file(path: &Path) -> Result<Located, Problem> {
    let name = file_name(path);
    if name == MANIFEST {
        let root = path.parent().unwrap_or(Path::new(".")).to_owned();
        return Ok(Located::new(Kind::Universal, root));
    }
    if deepspeed::is_rank_file(&name) {
        let folder = path.parent().unwrap_or(Path::new(".")).display();
        return Err(Problem::new(path, "it is one rank's part of a DeepSpeed checkpoint")
            .help(format!("Give the folder, which has all ranks: {folder}.")));
    }
    if rank_of(&name).is_some() {
        let folder = path.parent().unwrap_or(Path::new("."));
        if rank_files(folder).len() > 1 {
            return Err(Problem::new(path, "it is one of several files of a model")
                .help(format!("Give the folder, which has all of them: {}.", folder.display())));
        }
        sniff(path)?;
        return Ok(Located::new(Kind::Consolidated, folder.to_owned()));
    }
    match sniff(path)? {
        Content::Unknown => Err(pointer::alone(path).unwrap_or_else(|| neither(path))),
        content => Ok(Located::new(Kind::File(content), path.to_owned())),
    }
}

/// A file of something else.
pub(crate) fn neither(path: &Path) -> Problem {
    let message = "it is neither a safetensors nor a torch file: its first bytes are of neither";
    Problem::new(path, message)
}

/// A folder: what it holds itself counts before what it points at.
fn folder(path: &Path, depth: u32) -> Result<Located, Problem> {
    if let Some(kind) = direct(path)? {
        return Ok(Located::new(kind, path.to_owned()));
    }
    if let Some((tag, by)) = pointer::target(path)? {
        // A Trainer's run may point at `checkpoint-500`, which points at `global_step500`.
        if depth < 4 {
            let mut found = folder(&tag, depth + 1)?;
            found.notes.insert(0, format!("`{by}` points at {}.", file_name(&tag)));
            return Ok(found);
        }
    }
    if let Some(kind) = weights(path)? {
        return Ok(Located::new(kind, path.to_owned()));
    }
    let mut steps = steps(path)?;
    if steps.len() != 1 {
        steps.extend(runs(path)?);
        steps.sort();
    }
    if steps.len() == 1 && depth < 4 {
        let mut found = folder(&steps.remove(0), depth + 1)?;
        found.notes.insert(0, format!("{} is the only step here.", file_name(&found.root)));
        return Ok(found);
    }
    if steps.is_empty() {
        let empty = entries(path)?.is_empty();
        let here = if empty { "the folder is empty".to_owned() } else { listing(path) };
        return Err(Problem::new(path, format!("there is no checkpoint here: {here}"))
            .help("Give a run's folder, a step's folder or a single file."));
    }
    let names: Vec<_> = steps.iter().map(|step| file_name(step)).collect();
    Err(Problem::new(path, format!("there are {} checkpoints here and no `latest`", names.len()))
        .help(format!("Give one of them: {}.", names.join(", "))))
}

/// What a folder's own entries make it, weights apart.
fn direct(path: &Path) -> Result<Option<Kind>, Problem> {
    let names = entries(path)?;
    let has = |name: &str| names.iter().any(|entry| entry == name);
    let kind = if has(MANIFEST) {
        Kind::Universal
    } else if names.iter().any(|name| deepspeed::is_rank_file(name)) && !has("latest") {
        if path.join("zero").is_dir() { Kind::DeepSpeedUniversal } else { Kind::DeepSpeed }
    } else if has("optimizer_state.pt") && path.join("zero").is_dir() || is_bare_universal(path) {
        Kind::DeepSpeedUniversal
    } else if names.iter().any(|name| is_megatron_rank(path, name)) {
        Kind::Megatron
    } else if has(".metadata")
        || has("common.pt")
        || names.iter().any(|name| {
            name.ends_with(".distcp") || dcp::is_shard(name) || dcp::is_model_part(path, name)
        })
    {
        Kind::TorchDistributed
    } else {
        return Ok(None);
    };
    Ok(Some(kind))
}

/// DeepSpeed's universal form of ZeRO-3 has no model files beside `zero`.
fn is_bare_universal(path: &Path) -> bool {
    path.join("zero").join("optimizer_state.pt").is_file()
}

fn is_megatron_rank(path: &Path, name: &str) -> bool {
    name.starts_with("mp_rank_")
        && ["model_optim_rng.pt", "model_rng.pt"].iter().any(|f| path.join(name).join(f).is_file())
}

/// Whether the folder holds files of named tensors.
fn weights(path: &Path) -> Result<Option<Kind>, Problem> {
    let names = entries(path)?;
    let weights =
        names.iter().filter(|name| crate::plain::is_weight_file(name) && path.join(name).is_file());
    let (own, others): (Vec<_>, Vec<_>) = weights.partition(|name| is_consolidated(name));
    // Mistral puts its own files beside those for transformers, which say more.
    let ranks = names.iter().any(|name| fsdp::is_rank_file(name)) && fsdp::has_ranks(path);
    // Whole weights count before what ranks left beside them.
    let whole = others.iter().any(|name| !fsdp::is_rank_file(name));
    Ok(if ranks && !whole {
        Some(Kind::Ranks)
    } else if !others.is_empty() {
        Some(Kind::Weights)
    } else if names.iter().any(|name| rank_of(name).is_some() && path.join(name).is_file()) {
        Some(Kind::Consolidated)
    } else {
        (!own.is_empty()).then_some(Kind::Weights)
    })
}

/// Folders in `path` that are steps, or say which of theirs is one.
fn steps(path: &Path) -> Result<Vec<PathBuf>, Problem> {
    let mut steps = Vec::new();
    for below in folders(path)? {
        if is_step(&below)? {
            steps.push(below);
        }
    }
    Ok(steps)
}

/// Folders in `path` that are none themselves, but hold some.
fn runs(path: &Path) -> Result<Vec<PathBuf>, Problem> {
    let mut runs = folders(path)?;
    runs.retain(|below| {
        is_step(below).is_ok_and(|step| !step) && steps(below).is_ok_and(|held| !held.is_empty())
    });
    Ok(runs)
}

fn is_step(path: &Path) -> Result<bool, Problem> {
    let points =
        || ["latest", "latest_checkpointed_iteration.txt"].iter().any(|f| path.join(f).is_file());
    Ok(direct(path)?.is_some() || points() || weights(path)?.is_some())
}

/// The folders in `path`, without those that a converter made.
fn folders(path: &Path) -> Result<Vec<PathBuf>, Problem> {
    let names = entries(path)?.into_iter().filter(|name| !name.ends_with("_universal"));
    Ok(names.map(|name| path.join(name)).filter(|below| below.is_dir()).collect())
}

/// A document in the step's folder, in the run's that holds it, or in the folder that was given.
fn beside(located: &Located, given: &Path, name: &str) -> Option<PathBuf> {
    let mut folders = vec![located.root.as_path()];
    folders.extend(located.root.parent());
    if given.is_dir() {
        folders.push(given);
    }
    let (extra, verl) = (located.root.join("extra"), located.root.join("huggingface"));
    match located.kind {
        Kind::Universal => folders = vec![&extra],
        Kind::Weights => folders.truncate(1),
        Kind::Ranks => folders.push(&verl),
        _ => {}
    }
    folders.into_iter().map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// The names in a folder, sorted.
fn entries(path: &Path) -> Result<Vec<String>, Problem> {
    let unread = |error| Problem::new(path, format!("the folder can't be read: {error}"));
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(unread)? {
        names.push(entry.map_err(unread)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// A few names of a folder, for a person.
fn listing(path: &Path) -> String {
    let names = entries(path).unwrap_or_default();
    match names.len() {
        0 => "nothing".to_owned(),
        count if count > 8 => format!("{} and {} more", names[..7].join(", "), count - 7),
        _ => names.join(", "),
    }
}

/// The last part of a path, printable.
fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

impl Located {
    fn new(kind: Kind, root: PathBuf) -> Located {
        Located { kind, root, config: None, adapter: None, notes: Vec::new() }
    }
}
