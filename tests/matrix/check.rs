//! One checkpoint, all the way: its own names, universal and back, Hugging Face.

use crate::rows::Row;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use tempfile::TempDir;
use ucl_tests::command::{convert, ucl};
use ucl_tests::oracle::{Tensors, sets};
use ucl_tests::{fixture, written};

/// What was seen of a checkpoint.
#[derive(Clone)]
pub(crate) struct Seen {
    /// Its kind, as `ucl inspect` says it.
    pub(crate) kind: String,
    /// The spec that it is of, if one knows it.
    pub(crate) family: Option<String>,
    /// The states that were compared.
    pub(crate) states: BTreeSet<String>,
}

/// Converts a checkpoint in all ways and holds each against the oracle.
pub(crate) fn see(row: &Row) -> Seen {
    let scratch = TempDir::new().expect("a folder");
    let source = fixture(row.fixture).join(row.within);
    let out = |name: &str| scratch.path().join(name);
    let config = row.config.map(|name| fixture(name).join("hf"));
    let config: Vec<&str> =
        config.iter().flat_map(|path| ["--config", path.to_str().expect("UTF-8")]).collect();
    let oracle = sets(&fixture(row.fixture).join("oracle/oracle.json"));
    let flags = [row.flags, &config].concat();

    // A checkpoint that keeps its names needs no answer to what they mean.
    let stored = ["--view", "stored"];
    let asked = if row.names == stored { &[][..] } else { &flags[..] };
    convert(&source, &out("own"), &[asked, row.names].concat());
    let mut states = compare(row, &oracle, &written::states(&out("own")), "its own names");

    convert(&source, &out("universal"), &flags);
    let model = model(&out("universal"));
    if model.is_some() && !row.names.contains(&"stored") {
        convert(&out("universal"), &out("back"), row.names);
        compare(row, &oracle, &written::states(&out("back")), "by way of a universal folder");
    }
    let known = fixture(row.fixture).join("oracle/universal.json");
    if known.exists() {
        let found = written::states(&out("universal"));
        for (state, tensors) in sets(&known) {
            assert_eq!(found[&state], tensors, "{}: universal {state}", row.fixture);
        }
    }
    if row.hf {
        convert(&source, &out("hf"), &[&flags[..], &["--to", "hf"]].concat());
        convert(&out("universal"), &out("by-way"), &["--to", "hf"]);
        let (direct, by_way) = (written::model(&out("hf")), written::model(&out("by-way")));
        assert_eq!(direct, by_way, "{}: hf by way of a universal folder", row.fixture);
        same_weights(row, &oracle, &direct);
        let masters = fixture(row.fixture).join("oracle/hf.json");
        if masters.exists() {
            let way = [row.flags, &["--view", "hf"]].concat();
            convert(&source, &out("masters"), &way);
            let found = written::states(&out("masters"));
            for (state, tensors) in sets(&masters) {
                assert_eq!(found[&state], tensors, "{}: hf {state}", row.fixture);
            }
        }
    }
    states.retain(|state| state != "model");
    Seen { kind: kind(&source), family: model, states }
}

/// Every tensor of the live states is there, and nothing else is in those states.
fn compare(
    row: &Row,
    oracle: &BTreeMap<String, Tensors>,
    found: &BTreeMap<String, Tensors>,
    way: &str,
) -> BTreeSet<String> {
    let what = |state: &str| format!("{}, {way}: {state}", row.fixture);
    let mut compared = BTreeSet::new();
    for (set, tensors) in oracle {
        let Some(state) = set.strip_prefix("live.").filter(|state| *state != "model") else {
            continue;
        };
        // Without masters the oracle has an empty set of them.
        if tensors.is_empty() {
            continue;
        }
        // FSDP's weights are their own masters.
        let state = if state == "fp32" && !found.contains_key("fp32") { "param" } else { state };
        assert_eq!(found.get(state), Some(tensors), "{}", what(state));
        compared.insert(if state == "param" { "weights" } else { state }.to_owned());
    }
    if !compared.contains("fp32") && !compared.contains("weights") {
        let mut weights = found.get("param").cloned().unwrap_or_default();
        weights.extend(found.get("fp32").cloned().unwrap_or_default());
        let live = oracle.get("live.model").expect("weights in the oracle");
        for (name, known) in &weights {
            assert_eq!(live.get(name), Some(known), "{} of {name}", what("weights"));
        }
        assert!(!weights.is_empty(), "{}", what("weights"));
        compared.insert("weights".to_owned());
    }
    compared
}

/// The written model has the live weights. Where the live names are not Hugging Face's, the oracle has
/// the masters under those, too.
fn same_weights(row: &Row, oracle: &BTreeMap<String, Tensors>, model: &Tensors) {
    let masters = fixture(row.fixture).join("oracle/hf.json");
    if masters.exists() {
        let expected = &sets(&masters)["fp32"];
        let names = |tensors: &Tensors| tensors.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(model), names(expected), "{}, hf", row.fixture);
        return;
    }
    let live = oracle.get("live.model").or(oracle.get("live.fp32")).expect("weights in the oracle");
    for (name, known) in model {
        // What is fused or stacked in memory has other names in files.
        let Some(expected) = live.get(name) else {
            assert_eq!(row.names, ["--view", "hf5"], "{}, hf: {name}", row.fixture);
            continue;
        };
        assert_eq!(known, expected, "{}, hf: {name}", row.fixture);
    }
}

fn kind(source: &Path) -> String {
    let ended = ucl(&["inspect", &source.to_string_lossy(), "--json"]);
    let said: Value = serde_json::from_str(&ended.out).expect("JSON");
    let kind = said["source"]["kind"].as_str().expect("a kind");
    // In how many files it lies makes it no other kind.
    kind.split(", ")
        .filter(|part| !part.starts_with(|c: char| c.is_ascii_digit()))
        .collect::<Vec<_>>()
        .join(", ")
}

/// The spec that a universal folder names.
fn model(folder: &Path) -> Option<String> {
    let text = fs::read(folder.join("ucl.json")).expect("a manifest");
    let manifest: Value = serde_json::from_slice(&text).expect("JSON");
    let model = manifest["model"].as_str().expect("a model");
    (model != "identity").then(|| model.to_owned())
}
