//! Checkpoints that are damaged, incomplete or contradict themselves.

use crate::redact::redacted;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use ucl_tests::command::{convert, ucl};
use ucl_tests::fixture;

const PIPELINE: &str = "megds-llama-tp2-pp2-dp1-bf16";

/// A copy of a fixture that may be damaged.
fn copy(name: &str, scratch: &Path) -> PathBuf {
    let target = scratch.join("copy");
    copy_folder(&fixture(name), &target);
    target
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// Flips the bits of the byte at this share of a file's length.
fn damage(path: &Path, at: f64) {
    let mut bytes = fs::read(path).unwrap();
    let at = (bytes.len() as f64 * at) as usize;
    bytes[at] ^= 0xff;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_missing_rank_is_named() {
    let scratch = TempDir::new().unwrap();
    let source = copy(PIPELINE, scratch.path());
    fs::remove_file(source.join("global_step4/bf16_zero_pp_rank_0_mp_rank_02_optim_states.pt"))
        .unwrap();
    let ended = ucl(&["inspect", source.to_str().unwrap()]);
    assert_eq!(ended.code, 2);
    insta::assert_snapshot!(redacted(&ended, scratch.path()));
    let target = scratch.path().join("target");
    let ended = ucl(&["convert", source.to_str().unwrap(), target.to_str().unwrap()]);
    assert_eq!(ended.code, 2);
    assert!(!target.exists());
    insta::assert_snapshot!("convert", redacted(&ended, scratch.path()));
}

#[test]
fn a_wrong_master_stops_the_run_and_leaves_nothing() {
    let scratch = TempDir::new().unwrap();
    let source = copy(PIPELINE, scratch.path());
    let shard = source.join("global_step4/bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt");
    let found = ucl(&["explain", source.to_str().unwrap(), "l.0.attn.q", "--json"]);
    let found: serde_json::Value = serde_json::from_str(&found.out).unwrap();
    let slices = found["slices"].as_array().unwrap();
    let master = slices.iter().find(|slice| {
        slice["state"] == "fp32"
            && slice["file"].as_str().unwrap().ends_with("mp_rank_00_optim_states.pt")
    });
    let offset = master.unwrap()["offset"].as_u64().unwrap() as usize;
    let mut bytes = fs::read(&shard).unwrap();
    bytes[offset + 3] ^= 0x80; // the sign of an F32
    fs::write(&shard, bytes).unwrap();
    let target = scratch.path().join("target");
    let ended = ucl(&["convert", source.to_str().unwrap(), target.to_str().unwrap()]);
    assert_eq!(ended.code, 2);
    insta::assert_snapshot!(redacted(&ended, scratch.path()));
    let left: Vec<_> =
        fs::read_dir(scratch.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["copy"], "nothing half-written stays");
}

#[test]
fn verify_finds_a_changed_byte() {
    let scratch = TempDir::new().unwrap();
    let target = scratch.path().join("llama");
    convert(&fixture(PIPELINE), &target, &[]);
    let path = target.to_str().unwrap();
    let ended = ucl(&["verify", path]);
    assert_eq!(ended.code, 0);
    insta::assert_snapshot!("whole", redacted(&ended, scratch.path()));
    let file = fs::read_dir(&target).unwrap().map(|e| e.unwrap().path());
    let mut files: Vec<PathBuf> =
        file.filter(|p| p.extension().is_some_and(|e| e == "safetensors")).collect();
    files.sort();
    damage(&files[0], 0.9);
    fs::write(target.join("stray"), "").unwrap();
    let ended = ucl(&["verify", path]);
    assert_eq!(ended.code, 1);
    insta::assert_snapshot!("damaged", redacted(&ended, scratch.path()));
    let ended = ucl(&["diff", fixture(PIPELINE).to_str().unwrap(), path]);
    assert_eq!(ended.code, 1);
    insta::assert_snapshot!("differs", redacted(&ended, scratch.path()));
}
