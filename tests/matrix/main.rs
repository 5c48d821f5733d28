//! The support matrix: every fixture with an oracle, all ways that it can go, and what README says of it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod check;
mod rows;
mod table;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use ucl_tests::fixture;

/// The lines of README between which the table stands.
const MARKS: [&str; 2] =
    ["<!-- the support matrix: made by the test of this name -->", "<!-- its end -->"];

#[test]
fn every_fixture_with_an_oracle_is_in_the_matrix() {
    let listed: BTreeSet<String> = rows::ROWS.iter().map(|row| row.fixture.to_owned()).collect();
    assert_eq!(listed.len(), rows::ROWS.len(), "a fixture is listed twice");
    let listed: BTreeSet<String> =
        listed.into_iter().chain(rows::READ_ALONE.iter().map(|name| (*name).to_owned())).collect();
    let entries = fs::read_dir(fixture("")).unwrap().map(|entry| entry.unwrap());
    let known = entries.filter(|entry| entry.path().join("oracle/oracle.json").is_file());
    let known: BTreeSet<String> =
        known.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    assert_eq!(listed, known);
}

/// Run it with `UPDATE_README=1` to write the table anew.
#[test]
fn the_support_matrix() {
    let halves = rows::ROWS.split_at(rows::ROWS.len() / 2);
    let see = |rows: &'static [rows::Row]| -> Vec<_> {
        rows.iter().map(|row| (row, check::see(row))).collect()
    };
    let seen = std::thread::scope(|scope| {
        let first = scope.spawn(|| see(halves.0));
        let second = see(halves.1);
        first.join().map(|first| [first, second].concat()).expect("no row failed")
    });
    let table = table::table(&seen);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = fs::read_to_string(&path).unwrap();
    let (before, rest) = readme.split_once(MARKS[0]).expect("where it begins");
    let (found, after) = rest.split_once(MARKS[1]).expect("where it ends");
    if found.trim() == table.trim() {
        return;
    }
    assert!(
        std::env::var_os("UPDATE_README").is_some(),
        "README says\n{found}\nbut it is\n{table}"
    );
    let [begin, end] = MARKS;
    fs::write(&path, format!("{before}{begin}\n{table}{end}{after}")).unwrap();
}
