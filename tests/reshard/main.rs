//! One set of whole tensors, cut naively for many meshes: each must convert to the same bytes, and what
//! was cut wrongly must be noticed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod megatron;
mod meshes;
mod noticed;
mod ranks;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use ucl_tests::made::run::Run;
use ucl_tests::oracle::Tensors;
use ucl_tests::{command::convert, written};

/// Writes a run, converts it, and compares everything with what it must come to.
fn check(
    folder: &Path,
    name: &str,
    run: &Run,
    flags: &[&str],
    expected: &BTreeMap<String, Tensors>,
) {
    let source = write(folder, name, run);
    let out = folder.join(format!("{name}-out"));
    convert(&source, &out, flags);
    let found = written::states(&out);
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{name}");
    for (state, tensors) in expected {
        let names: Vec<_> = tensors.keys().collect();
        assert_eq!(found[state].keys().collect::<Vec<_>>(), names, "{name} {state}");
        for (tensor, known) in tensors {
            assert_eq!(&found[state][tensor], known, "{name}: {tensor} ({state})");
        }
    }
}

fn write(folder: &Path, name: &str, run: &Run) -> PathBuf {
    let source = folder.join(name);
    run.write(&source);
    source
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of UTF-8")
}

/// The names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
