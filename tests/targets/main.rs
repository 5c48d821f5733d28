//! What each target writes: from a source directly as from its universal folder, and back again.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod chat;
mod dcp;
mod deepspeed;
mod experts;
mod families;
mod fastgen;
mod fastgen_once;
mod hf_states;
mod order;
mod torch_dist;

use std::collections::BTreeMap;
use std::path::Path;
use ucl_tests::command::{convert, ucl};
use ucl_tests::fixture;

/// A fixture, and flags that its conversion to a target needs.
type Source = (&'static str, &'static [&'static str]);

/// All files below a folder, by their path in it.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            let below = files(&path).into_iter();
            found.extend(below.map(|(file, bytes)| (format!("{name}/{file}"), bytes)));
        } else {
            found.insert(name, std::fs::read(&path).unwrap());
        }
    }
    found
}

/// Two folders hold the same files, byte for byte.
fn same(a: &Path, b: &Path, what: &str) {
    let (a, b) = (files(a), files(b));
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>(), "{what}");
    for (name, bytes) in &a {
        assert!(bytes == &b[name], "{what}: {name} differs");
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of UTF-8")
}

/// Both checkpoints hold the same tensors in every state.
fn equal(a: &Path, b: &Path, flags: &[&str]) {
    let ended = ucl(&[&["diff", text(a), text(b)], flags].concat());
    assert_eq!(ended.code, 0, "{} and {}\n{}", a.display(), b.display(), ended.text());
}

/// Nothing is wrong with a checkpoint, and something of it was verified.
fn sound(folder: &Path) {
    let ended = ucl(&["verify", text(folder), "--json"]);
    assert_eq!(ended.code, 0, "{}\n{}", folder.display(), ended.text());
    let said: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_ne!(said["verified"], serde_json::json!([]), "{}", ended.text());
}

/// A target from a source directly, and from its universal folder: the same bytes.
fn commutes((name, flags): Source, to: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let [direct, universal, through] =
        ["direct", "universal", "through"].map(|f| folder.path().join(f));
    convert(&fixture(name), &direct, &[to, flags].concat());
    // The view of the source and the model are in the folder.
    let read: Vec<&str> = flags
        .chunks(2)
        .filter(|flag| ["--spec", "--config", "--from-view"].contains(&flag[0]))
        .flatten()
        .copied()
        .collect();
    convert(&fixture(name), &universal, &read);
    let left: Vec<&str> = flags
        .chunks(2)
        .filter(|flag| !["--spec", "--from-view"].contains(&flag[0]))
        .flatten()
        .copied()
        .collect();
    convert(&universal, &through, &[to, &left].concat());
    same(&direct, &through, name);
}
