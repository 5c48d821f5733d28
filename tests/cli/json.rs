//! `--json`: one document on stdout, nothing on stderr, always with its version.

use tempfile::TempDir;
use ucl_tests::command::ucl;
use ucl_tests::fixture;

fn document(arguments: &[&str]) -> (i32, serde_json::Value) {
    let mut arguments = arguments.to_vec();
    arguments.push("--json");
    let ended = ucl(&arguments);
    assert_eq!(ended.err, "", "{arguments:?}");
    let document: serde_json::Value = serde_json::from_str(&ended.out).expect("one document");
    assert_eq!(document["version"], 1, "{arguments:?}");
    (ended.code, document)
}

#[test]
fn every_command_answers_in_json() {
    let scratch = TempDir::new().unwrap();
    let fixture = fixture("megds-llama-tp2-pp2-dp1-bf16");
    let source = fixture.to_str().unwrap();
    let target = scratch.path().join("x");
    let target = target.to_str().unwrap();
    let spec = scratch.path().join("mine.ucl");
    std::fs::write(&spec, "ucl 1\n\nmodel mine extends llama {}\n").unwrap();
    let spec = spec.to_str().unwrap();
    let commands: [&[&str]; 10] = [
        &["inspect", source],
        &["plan", source],
        &["explain", source, "embed"],
        &["convert", source, target],
        &["verify", target],
        &["diff", source, target],
        &["check", spec],
        &["fmt", spec],
        &["compile", "llama"],
        &["specs"],
    ];
    for command in commands {
        let (code, document) = document(command);
        assert_eq!(code, 0, "{command:?}: {document:#}");
    }
}

#[test]
fn errors_are_json_too() {
    let (code, found) = document(&["convert", "/no/such/folder", "/tmp/x"]);
    assert_eq!(code, 2);
    assert!(found["errors"][0]["message"].as_str().unwrap().contains("/no/such/folder"));
}
