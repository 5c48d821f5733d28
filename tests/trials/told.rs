//! What it prints.

use std::fs;
use tempfile::TempDir;
use ucl_tests::command::ucl;

/// A fused line with its halves exchanged in the `expect`, one that nothing pins, a mesh without an axis,
/// a cut that does not divide, and a shape that is another.
const SPEC: &str = "\
ucl 1

model small {
  dims l, f, h
  each l {
    gate : f h
    up   : f h
    down : h f
  }
}

view one {
  \"{l}.fc1\" : (f|f) h = gate | up
  \"{l}.fc2\" : h f     = down
}

view two {
  \"{l}.gate\" : f h = gate
  \"{l}.up\"   : f h = up
  \"{l}.down\" : f h = down
}

layout one for one {
  mesh tp
  shard f over tp
}

test {
  l = 2, f = 6, h = 4
  on tp=1, tp=2, tp=4
  expect one on tp=2 at tp=1 \"1.fc1\" [3, 1] = gate [l=1 f=3 h=1]
  expect one on tp=2 at tp=1 \"1.fc1\" : 6 4
  expect one on tp=2 at tp=1 \"1.fc1\" : 12 4
}
";

#[test]
fn what_fails_and_what_nothing_pins() {
    let scratch = TempDir::new().unwrap();
    let file = scratch.path().join("small.ucl");
    fs::write(&file, SPEC).unwrap();
    let ended = ucl(&["test", file.to_str().unwrap()]);
    let text = ended.text().replace(scratch.path().to_str().unwrap(), "SCRATCH");
    insta::assert_snapshot!(text);
}

#[test]
fn a_spec_with_mistakes_is_not_tried() {
    let scratch = TempDir::new().unwrap();
    let file = scratch.path().join("small.ucl");
    fs::write(&file, SPEC.replace("\"{l}.up\"   : f h = up", "\"{l}.up\" : f f = up")).unwrap();
    let ended = ucl(&["test", file.to_str().unwrap()]);
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("ucl::balance"), "{}", ended.text());
    assert!(!ended.out.contains("passed"), "{}", ended.text());
}
