//! What readers make of real checkpoints, and what they say of damaged ones.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod damage;
mod dcp;
mod experts;
mod fsdp_dtensor;
mod gather;
mod partitioned;
mod plain;
mod universal;
mod values;

use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Fixtures of one tensor rank: every tensor can be compared whole.
const WHOLE: [&str; 37] = [
    "ds-pipe-pp2-dp1-fp32",
    "z1-gpt2-fp32-dp4-groups3",
    "z1-llama-bf16opt-dp2-groups2",
    "z1-llama-fp16-dp2",
    "z1-llama-fp32-dp2",
    "z1-mixtral-bf16-dp2",
    "z2-llama-bf16-dp2-frozen",
    "z2-qwen2-fp32-dp2-frozen-excl",
    "ds-z1-align-dp2-bf16",
    "ds-z1-buffer-tied-dp2-bf16",
    "ds-z1-lion-dp2-fp32",
    "ds-z1-roundrobin-dp2-fp32",
    "ds-z1-sgd-dp2-fp32",
    "ds-z2-adagrad-dp2-fp32",
    "ds-z2-roundrobin-dp3-bf16",
    "z3-llama-bf16-dp4-groups2",
    "ds-z2-muon-dp3-bf16",
    "z3-phi3-fp32-dp2-frozen",
    "ds-z3-adagrad-dp2-fp32",
    "ds-z3-gathered-dp2-bf16",
    "ds-z3-lion-dp2-fp32",
    "ds-z3-sgd-dp2-fp32",
    "ds-z3-subgroups-dp3-bf16",
    "dsmoe-ep2-z1-fp32",
    "moe-z0-ep2-dp2-fp32",
    "moe-z1-ep2-dp4-fp32",
    "moe-z1-residual-dp2-fp32",
    "moe-z2-data-first-dp4-bf16",
    "moe-z1-legacy-dp4-indexed",
    "moe-z1-pp2-ep2-dp2-fp32",
    "moe-z1-tp2-shared-indexed",
    "autoep-z1-ep2-dp4-indexed",
    "autoep-z3-ep2-dp4-fp32",
    "ds-z0-dp2-bf16",
    "ds-z0-dp2-fp32",
    "ds-z1-elastic-dp2-fp32",
    "ds-z2-elastic-dp3-bf16",
];

/// Fixtures with tensor ranks.
const CUT: [&str; 4] = [
    "ds-z1-tp2-dp2-bf16",
    "megds-gpt-tp2-pp2-dp1-bf16",
    "megds-llama-tp2-pp1-dp1-z1-nopipe-fp32",
    "megds-llama-tp2-pp2-dp1-bf16",
];

/// A fixture in a folder of its own, to be damaged. The folder is called `run`.
fn copy(fixture: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let run = folder.path().join("run");
    copy_folder(&ucl_tests::fixture(fixture), &run);
    (folder, run)
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
