//! What a step says of itself: step, version, arguments, and what a person should know.

use super::mesh::Step;
use super::names::Files;
use crate::inventory::{Inventory, Problem};
use crate::listed::listed;
use crate::ranks::{MIXED, agreed};
use serde_json::{Map, Value as Json};
use std::path::Path;

/// Arguments that all ranks of a run have the same.
const SHARED: [&str; 14] = [
    "num_layers",
    "hidden_size",
    "ffn_hidden_size",
    "num_attention_heads",
    "group_query_attention",
    "num_query_groups",
    "kv_channels",
    "padded_vocab_size",
    "make_vocab_size_divisible_by",
    "swiglu",
    "normalization",
    "num_experts",
    "untie_embeddings_and_output_weights",
    "params_dtype",
];

/// Fills in everything but tensors.
pub(super) fn tell(
    step: &Step<'_>,
    files: &Files,
    inventory: &mut Inventory,
    problems: &mut Vec<Problem>,
) {
    let said =
        step.ranks.iter().filter_map(|held| Some((held.file.content.iteration?, &held.file.path)));
    inventory.step = agreed(said, problems, |theirs, witness, usual| {
        format!("it is of step {theirs}, {witness} is of step {usual}")
    });
    let versions: Vec<(String, _)> = step
        .ranks
        .iter()
        .map(|held| {
            let version = held.file.content.version.as_ref();
            (version.map_or_else(|| "none".to_owned(), Json::to_string), &held.file.path)
        })
        .collect();
    let known = versions.iter().map(|(version, path)| (version.as_str(), *path));
    let version = agreed(known, problems, |theirs, witness, usual| {
        format!("its `checkpoint_version` is {theirs}, that of {witness} is {usual}")
    });
    let version = version.filter(|version| *version != "none");
    inventory.version = version.map(|version| format!("{version} (of the checkpoint)"));
    let interleaved = if step.degrees.vpp > 1 { ", interleaved" } else { "" };
    inventory.kind = format!("Megatron-LM, torch{interleaved}");
    documents(step, inventory, problems);
    notes(step, files, inventory);
}

fn documents(step: &Step<'_>, inventory: &mut Inventory, problems: &mut Vec<Problem>) {
    let mut with_args = step
        .ranks
        .iter()
        .filter_map(|held| Some((held.file.content.args.as_ref()?, &held.file.path)));
    let (mut args, witness) = match with_args.next() {
        Some((args, path)) => (args.clone(), Some(path)),
        None => (Map::new(), None),
    };
    for (other, path) in with_args {
        let differs = SHARED.into_iter().find(|key| args.get(*key) != other.get(*key));
        if let (Some(key), Some(witness)) = (differs, witness) {
            let text = |args: &Map<String, Json>| {
                args.get(key).map_or_else(|| "missing".to_owned(), Json::to_string)
            };
            let message = format!(
                "its argument `{key}` is {}, in {} it is {}",
                text(other),
                witness.display(),
                text(&args)
            );
            problems.push(Problem::new(path, message).help(MIXED));
        }
    }
    if let Some(version) = step.contents().find_map(|rank| rank.version.clone()) {
        args.insert("checkpoint_version".to_owned(), version);
    }
    inventory.notes.extend(settle_vocabulary(&mut args));
    problems.extend(unspelled(&args, witness.map_or(step.root, |path| path.as_path())));
    if !args.is_empty() {
        inventory.documents.insert("args".to_owned(), args);
    }
}

/// What the arguments say that no spec spells, and would be read wrongly: pairs of neighbours in a part of
/// each head's rows. Of whole heads the views know them.
pub(crate) fn unspelled(args: &Map<String, Json>, path: &Path) -> Option<Problem> {
    let turned = args.get("rotary_interleaved").and_then(Json::as_bool) == Some(true);
    let whole = args.get("rotary_percent").and_then(Json::as_f64).is_none_or(|part| part == 1.0);
    let rotary = args
        .get("position_embedding_type")
        .and_then(Json::as_str)
        .is_none_or(|kind| kind == "rope");
    (turned && !(whole && rotary)).then(|| {
        let message = "its arguments say that the rows of queries and keys are in pairs of neighbours \
                       (`rotary_interleaved`), and that positions turn a part of each head or none of it \
                       (`rotary_percent`, `position_embedding_type`): an order that this version can't read";
        Problem::new(path, message)
            .help("Convert it with Megatron's own tools to a model without that argument.")
    })
}

/// Adds the size of the vocabulary to the arguments where they tell it; what to say of that.
pub(crate) fn settle_vocabulary(args: &mut Map<String, Json>) -> Option<String> {
    let size = true_vocabulary(args)?;
    args.entry("true_vocab_size").or_insert_with(|| size.into());
    Some(format!(
        "The vocabulary has {size} entries: its tokenizer, NullTokenizer, adds one to those that it was \
         given."
    ))
}

/// The size of the vocabulary where the arguments alone tell it: a tokenizer of nothing but numbers has
/// an end of text beside them. Others are in files of their own.
fn true_vocabulary(args: &Map<String, Json>) -> Option<u64> {
    if args.get("tokenizer_type")?.as_str()? != "NullTokenizer"
        || args.contains_key("true_vocab_size")
    {
        return None;
    }
    let size = args.get("vocab_size")?.as_u64()?.checked_add(1)?;
    let padded = args.get("padded_vocab_size")?.as_u64()?;
    (size <= padded).then_some(size)
}

fn notes(step: &Step<'_>, files: &Files, inventory: &mut Inventory) {
    let folder = step.root.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let tagged = folder.strip_prefix("iter_").and_then(|number| number.parse::<u64>().ok());
    let mut note = |text: String| inventory.notes.push(text);
    if let (Some(tagged), Some(found)) = (tagged, inventory.step)
        && tagged != found
    {
        note(format!("The folder is called {folder}, its files are of step {found}."));
    }
    if step.contents().any(|rank| rank.wrapped) {
        note("Wrapper prefixes (`module.`, `_orig_mod.`) were taken off the names.".to_owned());
    }
    let mut others: Vec<&str> =
        step.contents().flat_map(|rank| rank.others.iter().map(String::as_str)).collect();
    others.sort_unstable();
    others.dedup();
    if !others.is_empty() {
        note(format!("Left out, as they are no tensors: {}.", listed(&others, ", ")));
    }
    if !files.others.is_empty() {
        let names = listed(&files.others, ", ");
        note(format!("Not read, as their names are no rank's: {names}."));
    }
    let scales =
        step.contents().flat_map(|rank| &rank.optimizer).filter_map(|part| part.loss_scale);
    if let Some(scale) = scales.into_iter().next() {
        note(format!("A dynamic loss scaler stands at {scale}; it goes along as it is."));
    }
    let unchecked = step.contents().filter(|rank| rank.unchecked).count();
    if unchecked > 0 {
        note(format!("{unchecked} files have no checksums: damage to their data can't be seen."));
    }
}
