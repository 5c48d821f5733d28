//! One wrong line at a time, in the shipped specs: `ucl test` says so.

use crate::shipped::specs;
use std::fs;
use tempfile::TempDir;
use ucl_tests::command::ucl;

/// Spec, a text that stands in it once, and the wrong one.
const MUTANTS: &[(&str, &str, &str)] = &[
    // The order inside of a fused qkv.
    (
        "decoder",
        "view megatron-v0 extends megatron when checkpoint_version < 1 { dims qkv = n d | k d | k d }",
        "view megatron-v0 extends megatron when checkpoint_version < 1 { dims qkv = k (q|1|1) d }",
    ),
    (
        "decoder",
        "view megatron-v1 extends megatron when checkpoint_version = 1 { dims qkv = k d (q|1|1) }",
        "view megatron-v1 extends megatron when checkpoint_version = 1 { dims qkv = k (q|1|1) d }",
    ),
];

#[test]
fn a_wrong_line_fails() {
    let scratch = TempDir::new().unwrap();
    for (spec, right, wrong) in MUTANTS {
        let path = specs().into_iter().find(|path| path.file_stem().unwrap() == *spec).unwrap();
        let text = fs::read_to_string(path).unwrap();
        assert_eq!(text.matches(right).count(), 1, "{spec}: {right}");
        let mutated = scratch.path().join(format!("{spec}.ucl"));
        fs::write(&mutated, text.replace(right, wrong)).unwrap();
        let mutated = mutated.to_str().unwrap();
        assert_eq!(ucl(&["check", mutated]).code, 0, "{spec}: {wrong} passes every proof");
        let ended = ucl(&["test", mutated]);
        assert_eq!(ended.code, 1, "{spec}: {wrong}\n{}", ended.text());
    }
}
