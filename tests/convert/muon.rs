//! Muon's momentum under ZeRO-1 and 2, where a matrix on a cut is whole on two ranks.

use crate::stored::check;
use std::fs;
use std::path::Path;
use ucl_formats::inventory::Data;
use ucl_formats::survey;
use ucl_tests::command::{convert, ucl};
use ucl_tests::fixture;

const RUN: &str = "ds-z2-muon-dp3-bf16";

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn what_the_training_held() {
    check(RUN, &[]);
}

/// Two ranks follow a matrix on a cut, and come to the same: what differs is of two runs.
#[test]
fn copies_that_differ() {
    let scratch = tempfile::tempdir().unwrap();
    let step = scratch.path().join("global_step3");
    fs::create_dir(&step).unwrap();
    for entry in fs::read_dir(fixture(RUN).join("global_step3")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), step.join(entry.file_name())).unwrap();
    }
    let inventory = survey(&step).inventory;
    let copies = inventory.tensors.iter().filter(|held| held.at.contains_key("replica"));
    let copies: Vec<_> = copies.collect();
    assert_eq!(copies.len(), 2);
    let Data::Runs(runs) = &copies[1].data else { panic!("runs") };
    let path = &inventory.files[runs[0].file as usize].path;
    let mut bytes = fs::read(path).unwrap();
    bytes[runs[0].offset as usize + 3] ^= 1;
    fs::write(path, bytes).unwrap();
    let out = scratch.path().join("out");
    let ended = ucl(&["convert", text(&step), text(&out), "--view", "stored"]);
    assert_ne!(ended.code, 0, "{}", ended.text());
    let told = format!("\"{}\" (momentum_buffer) at replica=1", copies[1].name);
    assert!(ended.err.contains(&told), "{}", ended.text());
    assert!(!out.exists());
}

/// Written for other ranks and stages it is what it was, and each rank has the matrices that it meets.
#[test]
fn written_for_other_ranks() {
    let scratch = tempfile::tempdir().unwrap();
    // 309 elements in seven matrices, 77, 77, 35, 35, 35, 25 and 25: of two parts both meet the third. DeepSpeed's
    // own run on two ranks has buffers of these lengths.
    for (zero, dp, lens) in [
        ("1", "dp=2", Some(vec![189, 155])),
        ("2", "dp=3", None),
        ("2", "dp=7", None),
        ("3", "dp=2", None),
    ] {
        let out = scratch.path().join(format!("{zero}-{dp}"));
        let source = fixture(RUN);
        let told = convert(&source, &out, &["--to", "deepspeed", "--zero", zero, "--mesh", dp]);
        let whole = "Muon's `momentum_buffer` is written of whole matrices";
        assert_eq!(told.out.contains(whole), zero != "3", "{}", told.out);
        let ended = ucl(&["diff", text(&source), text(&out)]);
        assert_eq!(ended.code, 0, "{zero} {dp}: {}", ended.text());
        let Some(lens) = lens else { continue };
        let buffers = survey(&out).inventory.buffers;
        let momentum = buffers.iter().filter(|buffer| buffer.label.contains("momentum_buffer"));
        assert_eq!(momentum.map(|buffer| buffer.len).collect::<Vec<_>>(), lens);
    }
}
