//! From a path to an inventory: finds out what lies there and lets its reader read it.

use crate::huggingface::{model_files, other_entries, read_config};
use crate::inventory::Survey;
use crate::listed::listed;
use crate::locate::{Kind, Located, locate};
use crate::lora::set_apart;
use crate::{consolidated, dcp, deepspeed, fsdp, megatron, plain, universal};
use std::path::Path;

/// Reads the headers of whatever lies at a path: all that can be read, and all that is wrong.
pub fn survey(path: &Path) -> Survey {
    let located = match locate(path) {
        Ok(located) => located,
        Err(problem) => {
            let mut survey = Survey::default();
            survey.inventory.root = path.to_owned();
            survey.problems.push(problem);
            return survey;
        }
    };
    let root = &located.root;
    let mut survey = match located.kind {
        Kind::DeepSpeed => deepspeed::survey(root),
        Kind::Universal => universal::survey(root),
        Kind::Weights => plain::survey_folder(root),
        Kind::File(_) => plain::survey_file(root),
        Kind::DeepSpeedUniversal => deepspeed::universal::survey(root),
        Kind::Consolidated => consolidated::survey(root),
        Kind::Ranks => fsdp::survey(root),
        Kind::Megatron => megatron::survey(root),
        Kind::TorchDistributed => dcp::survey(root),
    };
    set_apart(located.adapter.as_deref(), &mut survey);
    let mut notes = located.notes.clone();
    notes.append(&mut survey.inventory.notes);
    survey.inventory.notes = notes;
    configure(&located, &mut survey);
    consolidated::describe(&mut survey);
    accompany(&located, &mut survey);
    survey
}

/// What belongs to the model beside its weights goes along; a universal folder names its own.
fn accompany(located: &Located, survey: &mut Survey) {
    let folder = match located.kind {
        Kind::Universal => return,
        Kind::Weights => Some(located.root.as_path()),
        Kind::Consolidated => {
            let root = Some(located.root.as_path());
            located.config.as_deref().and_then(Path::parent).or(root)
        }
        _ => located.config.as_deref().and_then(Path::parent),
    };
    let Some(folder) = folder else { return };
    let files = model_files(folder);
    let mut others = other_entries(folder, &files);
    let taken = &survey.inventory.carried;
    let read = |name: &String| {
        let path = folder.join(name);
        survey.inventory.files.iter().any(|file| file.path == path)
            || taken.iter().any(|carried| carried.source == path)
    };
    others.retain(|name| !read(name));
    if !matches!(located.kind, Kind::Weights | Kind::Consolidated) {
        // Beside a step lie what points at it, DeepSpeed's script, and other steps.
        let of_run = ["latest", "zero_to_fp32.py"];
        others.retain(|name| !of_run.contains(&name.as_str()) && folder.join(name).is_file());
    }
    if folder != located.root || matches!(located.kind, Kind::Weights | Kind::Consolidated) {
        survey.inventory.notes.extend(not_taken(&others));
    }
    survey.inventory.carried.extend(files);
}

/// Says what lies beside a model and is not the model's.
fn not_taken(others: &[String]) -> Option<String> {
    let said = || format!("Not taken along, as it is not the model's: {}.", listed(others, ", "));
    (!others.is_empty()).then(said)
}

/// Reads the `config.json` that goes with a checkpoint.
fn configure(located: &Located, survey: &mut Survey) {
    let Some(path) = &located.config else { return };
    match read_config(path) {
        Ok(config) => {
            survey.inventory.documents.insert("config".to_owned(), config);
            let folder = path.parent().and_then(Path::file_name).unwrap_or_default();
            survey
                .inventory
                .notes
                .push(format!("config.json was read from {}.", folder.to_string_lossy()));
        }
        Err(problem) => {
            survey.problems.push(problem.help("Move it away if it is not the model's."));
        }
    }
}
