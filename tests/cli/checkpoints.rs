//! Commands on checkpoints that real frameworks wrote.

use crate::redact::redacted;
use std::path::Path;
use tempfile::TempDir;
use ucl_tests::command::{Ended, ucl};
use ucl_tests::fixture;

const PLAIN: &str = "z1-llama-fp32-dp2";
const PIPELINE: &str = "megds-llama-tp2-pp2-dp1-bf16";
const GPT: &str = "megds-gpt-tp2-pp2-dp1-bf16";
const LEFT_OUT: &str = "z2-qwen2-fp32-dp2-frozen-excl";

fn on(command: &str, name: &str, more: &[&str]) -> Ended {
    let path = fixture(name);
    let mut arguments = vec![command, path.to_str().unwrap()];
    arguments.extend(more);
    ucl(&arguments)
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().unwrap().to_owned()
}

macro_rules! shown {
    ($ended:expr, $scratch:expr) => {
        insta::assert_snapshot!(redacted(&$ended, $scratch))
    };
    ($ended:expr) => {
        shown!($ended, Path::new("/no scratch"))
    };
}

#[test]
fn inspect_plain() {
    shown!(on("inspect", PLAIN, &[]));
}

#[test]
fn inspect_pipeline() {
    shown!(on("inspect", PIPELINE, &[]));
}

#[test]
fn inspect_gpt() {
    shown!(on("inspect", GPT, &[]));
}

#[test]
fn inspect_with_frozen_parameters_left_out() {
    shown!(on("inspect", LEFT_OUT, &[]));
}

#[test]
fn inspect_nothing() {
    let scratch = TempDir::new().unwrap();
    std::fs::create_dir(scratch.path().join("runs")).unwrap();
    let ended = ucl(&["inspect", &path(scratch.path(), "there-is-no-such-folder")]);
    assert_eq!(ended.code, 2);
    shown!(ended, scratch.path());
}

#[test]
fn plan_pipeline() {
    let ended = on("plan", PIPELINE, &[]);
    assert_eq!(ended.code, 0);
    shown!(ended);
}

#[test]
fn plan_in_full_has_every_move() {
    let brief = on("plan", PIPELINE, &[]);
    let full = on("plan", PIPELINE, &["--full"]);
    assert!(full.out.starts_with(&brief.out));
    assert!(full.out.lines().count() > brief.out.lines().count() + 100);
}

#[test]
fn explain_a_cut_tensor() {
    shown!(on("explain", PIPELINE, &["l.2.attn.q"]));
}

#[test]
fn explain_an_unknown_tensor() {
    let ended = on("explain", PIPELINE, &["l.2.attn.qq"]);
    assert_eq!(ended.code, 2);
    shown!(ended);
}

#[test]
fn convert_says_what_it_did() {
    let scratch = TempDir::new().unwrap();
    let target = path(scratch.path(), "llama");
    let ended = on("convert", PIPELINE, &[&target]);
    assert_eq!(ended.code, 0, "{}", ended.text());
    shown!(ended, scratch.path());
}

#[test]
fn convert_replaces_only_when_asked() {
    let scratch = TempDir::new().unwrap();
    let target = path(scratch.path(), "llama");
    std::fs::create_dir(&target).unwrap();
    std::fs::write(path(scratch.path(), "llama/mine"), "keep").unwrap();
    let ended = on("convert", PLAIN, &[&target]);
    assert_eq!(ended.code, 2);
    assert!(scratch.path().join("llama/mine").is_file());
    shown!(ended, scratch.path());
    assert_eq!(on("convert", PLAIN, &[&target, "--overwrite"]).code, 0);
    assert!(scratch.path().join("llama/ucl.json").is_file());
    assert!(!scratch.path().join("llama/mine").exists());
}

#[test]
fn convert_to_hugging_face() {
    let scratch = TempDir::new().unwrap();
    let target = path(scratch.path(), "llama");
    let config = fixture("hf-llama-fp32/hf");
    let flags = ["--to", "hf", "--max-file-size", "40KB", "--config", config.to_str().unwrap()];
    let run = "z1-llama-bf16opt-dp2-groups2";
    let planned = on("plan", run, &[&[target.as_str()][..], &flags].concat());
    assert_eq!(planned.code, 0, "{}", planned.text());
    let converted = on("convert", run, &[&[target.as_str()][..], &flags].concat());
    assert_eq!(converted.code, 0, "{}", converted.text());
    let without = on("plan", run, &["--to", "hf"]);
    let seen = [planned, converted, ucl(&["inspect", &target]), without];
    let seen: Vec<String> = seen.iter().map(|ended| redacted(ended, scratch.path())).collect();
    insta::assert_snapshot!(seen.concat());
}

#[test]
fn the_same_input_gives_the_same_bytes_for_any_jobs_and_memory() {
    let scratch = TempDir::new().unwrap();
    let one = path(scratch.path(), "one");
    let four = path(scratch.path(), "four");
    assert_eq!(on("convert", PIPELINE, &[&one, "--jobs", "1", "--memory", "4MiB"]).code, 0);
    assert_eq!(on("convert", PIPELINE, &[&four, "--jobs", "4", "--memory", "64MiB"]).code, 0);
    assert_same(Path::new(&one), Path::new(&four));
}

/// Both folders hold the same files with the same bytes.
fn assert_same(a: &Path, b: &Path) {
    let (a, b) = (files(a), files(b));
    let names: Vec<_> = a.keys().chain(b.keys()).collect();
    let differ: Vec<_> = names.iter().filter(|name| a.get(**name) != b.get(**name)).collect();
    assert!(differ.is_empty(), "{differ:?} differ");
}

/// Every file below a folder with its bytes, by name.
fn files(folder: &Path) -> std::collections::BTreeMap<String, Vec<u8>> {
    let mut found = std::collections::BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
                found.insert(name, std::fs::read(path).unwrap());
            }
        }
    }
    assert!(!found.is_empty());
    found
}

#[test]
fn verify_torch_files() {
    shown!(on("verify", PIPELINE, &[]));
}

#[test]
fn diff_with_itself_converted() {
    let scratch = TempDir::new().unwrap();
    let target = path(scratch.path(), "llama");
    assert_eq!(on("convert", PIPELINE, &[&target]).code, 0);
    let ended = on("diff", PIPELINE, &[&target]);
    shown!(ended, scratch.path());
    assert_eq!(ended.code, 0);
}

#[test]
fn a_universal_folder_is_a_source_too() {
    let scratch = TempDir::new().unwrap();
    let (first, second) = (path(scratch.path(), "first"), path(scratch.path(), "second"));
    assert_eq!(on("convert", PIPELINE, &[&first]).code, 0);
    shown!(ucl(&["inspect", &first]), scratch.path());
    let again = ucl(&["convert", &first, &second]);
    assert_eq!(again.code, 0, "{}", again.text());
    assert_same(Path::new(&first), Path::new(&second));
}
