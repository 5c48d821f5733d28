//! What each rank of FSDP saved by itself, and whole optimizers beside whole weights.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use ucl_tests::command::convert;
use ucl_tests::oracle::{Tensors, sets};
use ucl_tests::{fixture, written};

/// The fixtures, and where the checkpoint is in them.
const FIXTURES: [(&str, &str); 7] = [
    ("rank-fsdp2-w4", "run"),
    ("rank-hsdp-w4", "run"),
    ("rank-tp-w4", "run"),
    ("rank-fsdp1-w2", "run"),
    ("whole-fsdp1", "run"),
    ("trainer-llama", "run"),
    ("trainer-llama-bin", "run/checkpoint-3"),
];

fn found(folder: &Path) -> BTreeMap<String, Tensors> {
    let mut states = written::states(folder);
    states.retain(|state, _| state != "ucl");
    states
}

#[test]
fn weights_and_moments_of_all_ranks() {
    for (name, within) in FIXTURES {
        let scratch = tempfile::tempdir().unwrap();
        let out = scratch.path().join("out");
        let source = fixture(name).join(within);
        convert(&source, &out, &["--view", "stored"]);
        let (known, found) = (sets(&fixture(name).join("oracle/oracle.json")), found(&out));
        assert_eq!(found["param"], known["live.model"], "{name}");
        for state in ["exp_avg", "exp_avg_sq"] {
            assert_eq!(found[state], known[&format!("live.{state}")], "{name} {state}");
        }
        let flags = ["--to", "hf"];
        let model = scratch.path().join("hf");
        let sizes = ["--set", "n=4", "--set", "k=2"];
        convert(&source, &model, &[&flags[..], &sizes].concat());
        assert_eq!(written::model(&model), known["live.model"], "{name}: hf");
    }
}

#[test]
fn groups_have_names_and_steps() {
    for (name, within) in FIXTURES {
        let scratch = tempfile::tempdir().unwrap();
        let out = scratch.path().join("out");
        convert(&fixture(name).join(within), &out, &["--view", "stored"]);
        let manifest = fs::read(out.join("ucl.json")).unwrap();
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        let groups = manifest["optimizer"]["groups"].as_array().unwrap();
        let named: usize =
            groups.iter().map(|group| group["params"].as_array().unwrap().len()).sum();
        let known = sets(&fixture(name).join("oracle/oracle.json"));
        assert_eq!(named, known["live.exp_avg"].len(), "{name}");
        assert!(
            groups.iter().all(|group| group["step"].as_f64() == Some(3.0)),
            "{name}: {groups:?}"
        );
    }
}

/// Safetensors are sorted by name: which number is which parameter, the view tells that they are of, and a
/// person is told.
#[test]
fn a_trainer_that_wrote_safetensors() {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("out");
    let ended = convert(&fixture("trainer-llama/run"), &out, &["--view", "stored"]);
    assert!(ended.out.contains("in the order of the view `hf` of `llama`"), "{}", ended.text());
    assert!(!ended.out.contains("left out"), "{}", ended.text());
    let manifest: Value = serde_json::from_slice(&fs::read(out.join("ucl.json")).unwrap()).unwrap();
    assert_eq!(
        manifest["source"]["step"].as_u64().or(manifest["step"].as_u64()),
        Some(3),
        "{manifest}"
    );
}

/// The states of another model: their shapes do not fit in any order.
#[test]
fn numbers_that_stay_numbers() {
    let scratch = tempfile::tempdir().unwrap();
    let run = scratch.path().join("run");
    fs::create_dir(&run).unwrap();
    let model = fixture("hf-llamatied-fp32/hf");
    for name in ["config.json", "model.safetensors"] {
        fs::copy(model.join(name), run.join(name)).unwrap();
    }
    let states = fixture("trainer-llama/run/checkpoint-3/optimizer.pt");
    fs::copy(states, run.join("optimizer.pt")).unwrap();
    let out = scratch.path().join("out");
    let ended = convert(&run, &out, &["--view", "stored"]);
    assert!(ended.out.contains("optimizer.pt are left out"), "{}", ended.text());
    assert!(ended.out.contains("are not those of the model's"), "{}", ended.text());
    assert_eq!(found(&out), BTreeMap::from([("param".to_owned(), written::model(&run))]));
}
