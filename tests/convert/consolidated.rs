//! Meta's and Mistral's files, against the model that they were cut from.

use std::fs;
use ucl_tests::command::{convert, ucl};
use ucl_tests::oracle::sets;
use ucl_tests::{fixture, written};

const FIXTURES: [&str; 5] = [
    "meta-llama2-mp2",
    "meta-llama3-mp2",
    "meta-llama3-mp4",
    "meta-mistral",
    "meta-mixtral-files3",
];

#[test]
fn every_file_becomes_the_model_that_it_is_of() {
    for name in FIXTURES {
        let scratch = tempfile::tempdir().unwrap();
        let at = |way: &str| scratch.path().join(way);
        let known = sets(&fixture(name).join("oracle/oracle.json"));
        let source = fixture(name).join("weights");
        convert(&source, &at("universal"), &[]);
        assert_eq!(written::states(&at("universal"))["param"], known["universal"], "{name}");
        convert(&source, &at("hf"), &["--to", "hf"]);
        assert_eq!(written::model(&at("hf")), known["live.model"], "{name}");
        convert(&at("universal"), &at("by-way"), &["--to", "hf"]);
        assert_eq!(written::model(&at("by-way")), known["live.model"], "{name} by way");
        let params = fs::read(source.join("params.json")).unwrap();
        assert_eq!(fs::read(at("universal").join("extra/params.json")).unwrap(), params, "{name}");
    }
}

/// A config of transformers beside or around the files says the same sizes, and goes along.
#[test]
fn a_config_around_them() {
    let scratch = tempfile::tempdir().unwrap();
    let (run, out) = (scratch.path().join("run"), scratch.path().join("out"));
    fs::create_dir_all(run.join("original")).unwrap();
    let (weights, oracle) = (fixture("meta-llama2-mp2/weights"), fixture("meta-llama2-mp2/oracle"));
    for entry in fs::read_dir(weights).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, run.join("original").join(path.file_name().unwrap())).unwrap();
    }
    fs::copy(oracle.join("config.json"), run.join("config.json")).unwrap();
    convert(&run.join("original"), &out, &["--to", "hf"]);
    let known = sets(&oracle.join("oracle.json"));
    assert_eq!(written::model(&out), known["live.model"]);
    assert!(out.join("config.json").is_file());
}

/// Mistral publishes both: the files for transformers count, and that is told.
#[test]
fn mistral_beside_transformers() {
    let scratch = tempfile::tempdir().unwrap();
    let (run, out) = (scratch.path().join("run"), scratch.path().join("out"));
    fs::create_dir(&run).unwrap();
    for name in ["model.safetensors", "config.json"] {
        fs::copy(fixture("hf-mistral-bf16/hf").join(name), run.join(name)).unwrap();
    }
    let own = "consolidated.safetensors";
    fs::copy(fixture("meta-mistral/weights").join(own), run.join(own)).unwrap();
    let ended = convert(&run, &out, &["--to", "hf"]);
    assert!(ended.out.contains("other files: consolidated.safetensors"), "{}", ended.text());
    let before = fs::read(run.join("model.safetensors")).unwrap();
    assert!(fs::read(out.join("model.safetensors")).unwrap() == before);
}

/// The only file may be given by its name.
#[test]
fn one_file_by_its_name() {
    let scratch = tempfile::tempdir().unwrap();
    let one = fixture("meta-mistral/weights/consolidated.safetensors");
    convert(&one, &scratch.path().join("out"), &[]);
    let several = fixture("meta-llama3-mp2/weights/consolidated.01.pth");
    let out = scratch.path().join("none");
    let ended = ucl(&["convert", several.to_str().unwrap(), out.to_str().unwrap()]);
    assert_eq!(ended.code, 2);
    assert!(ended.err.contains("one of several files of a model"), "{}", ended.text());
}
