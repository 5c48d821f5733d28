//! Files whose pickles want more than to be read.

use std::fs;
use std::path::{Path, PathBuf};
use ucl_tests::command::ucl;
use ucl_tests::oracle::Known;
use ucl_tests::written;

/// What the pickles of `fixtures/make_hostile.py` create, if anything runs them.
const MARKER: &str = "/tmp/ucl-must-not-exist";

fn files() -> Vec<PathBuf> {
    let entries = fs::read_dir(ucl_tests::fixture("hostile")).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "pt"));
    files.sort();
    assert_eq!(files.len(), 8);
    files
}

#[derive(serde::Deserialize)]
struct Oracle {
    tensors: Vec<Named>,
}

#[derive(serde::Deserialize)]
struct Named {
    name: String,
    #[serde(flatten)]
    known: Known,
}

#[test]
fn nothing_in_a_file_is_executed() {
    assert!(!Path::new(MARKER).exists(), "left from elsewhere");
    let mut said = String::new();
    for file in files() {
        let scratch = tempfile::tempdir().unwrap();
        let out = scratch.path().join("out");
        let (path, target) = (file.to_str().unwrap(), out.to_str().unwrap());
        let inspected = ucl(&["inspect", path]);
        assert!([0, 2].contains(&inspected.code), "{}", inspected.text());
        let verified = ucl(&["verify", path]);
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let ended = ucl(&["convert", path, target]);
        said += &format!(
            "=== {name}: inspect {}, verify {}, convert {}\n",
            inspected.code, verified.code, ended.code
        );
        if ended.code == 0 {
            said += &compared(&file, &out);
        } else {
            assert_eq!(ended.code, 2, "{}", ended.text());
            assert!(fs::read_dir(scratch.path()).unwrap().next().is_none(), "{}", ended.text());
            said += &ended.err.replace(ucl_tests::fixture("").to_str().unwrap(), "FIXTURES/");
        }
        assert!(!Path::new(MARKER).exists(), "{name} was executed");
    }
    insta::assert_snapshot!(said);
}

/// Every tensor that was written is the one beside the file; those that were not are named.
fn compared(file: &Path, out: &Path) -> String {
    let oracle = fs::read_to_string(file.with_extension("json")).unwrap();
    let oracle: Oracle = serde_json::from_str(&oracle).unwrap();
    let written = written::states(out);
    let mut found = written.values().flatten().collect::<std::collections::BTreeMap<_, _>>();
    let mut said = String::new();
    for Named { name, known } in &oracle.tensors {
        match found.remove(name) {
            Some(tensor) => assert_eq!(tensor, known, "{}: {name}", file.display()),
            None => said += &format!("not written: {name}\n"),
        }
    }
    assert!(found.is_empty(), "{}: {found:?}", file.display());
    said
}
