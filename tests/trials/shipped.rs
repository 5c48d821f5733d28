//! The shipped specs pass their own tests, and no line of theirs could be another.

use serde_json::Value;
use std::path::PathBuf;
use ucl_tests::command::ucl;

/// The shipped specs' files.
pub(crate) fn specs() -> Vec<PathBuf> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../specs");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|end| end == "ucl")).collect();
    files.sort();
    files
}

fn tested(spec: &str) -> Value {
    let ended = ucl(&["test", spec, "--json"]);
    let found: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(ended.code, 0, "{}", ucl(&["test", spec]).text());
    found
}

#[test]
fn every_spec_passes_and_pins_its_lines() {
    assert!(specs().len() >= 9);
    for spec in specs() {
        let found = tested(spec.to_str().unwrap());
        for model in found["models"].as_array().unwrap() {
            let name = &model["model"];
            let trials = model["trials"].as_array().unwrap();
            assert!(!trials.is_empty(), "{name} has no tests");
            assert_eq!(model["not_pinned"], Value::Array(Vec::new()), "{name}");
            let passed = |what: &str| {
                trials.iter().any(|trial| {
                    let is_it = trial["trial"].as_str().unwrap().starts_with(what);
                    is_it && trial["result"] == "passed"
                })
            };
            assert!(
                passed("universal"),
                "{name}: the way over the universal form is the straight way"
            );
            // No view is skipped on every mesh.
            let views =
                trials.iter().filter_map(|trial| trial["trial"].as_str()?.split_once(" on "));
            for (view, _) in views.filter(|(view, _)| !view.starts_with("expect ")) {
                assert!(passed(&format!("{view} on ")), "{name}: {view} is tried nowhere");
            }
        }
    }
}
