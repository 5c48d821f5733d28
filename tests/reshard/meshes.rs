//! Any mesh: the same tensors.

use crate::{check, text};
use tempfile::tempdir;
use ucl_tests::command::ucl;
use ucl_tests::made::llama::SMALL;
use ucl_tests::made::run::Zero;

const MESHES: [(usize, usize); 9] =
    [(1, 1), (1, 2), (1, 4), (3, 1), (3, 2), (3, 4), (4, 1), (4, 2), (4, 4)];

/// Every mesh against the whole tensors, and every mesh against the first.
fn all(zero: Zero) {
    let folder = tempdir().unwrap();
    let expected = SMALL.universal();
    for (dp, tp) in MESHES {
        let name = format!("dp{dp}-tp{tp}");
        check(folder.path(), &name, &SMALL.run(dp, tp, zero), &[], &expected);
        let [first, this] = ["dp1-tp1", &name].map(|name| folder.path().join(name));
        let same = ucl(&["diff", text(&first), text(&this)]);
        assert_eq!(same.code, 0, "{name}\n{}", same.text());
    }
    let outs = MESHES.map(|(dp, tp)| folder.path().join(format!("dp{dp}-tp{tp}-out")));
    let from_files = ucl(&["diff", text(&outs[8]), text(&folder.path().join("dp3-tp2"))]);
    assert_eq!(from_files.code, 0, "{}", from_files.text());
}

#[test]
fn bf16_optimizer_keeps_its_padding() {
    all(Zero::Bf16);
}

#[test]
fn zero_1_strips_it_from_the_masters() {
    all(Zero::Stage(1));
}

#[test]
fn stored_names_too() {
    // Without a spec: the source's own account of itself must suffice.
    let folder = tempdir().unwrap();
    let expected = SMALL.stored();
    for (dp, tp) in [(3, 2), (4, 4)] {
        let run = SMALL.run(dp, tp, Zero::Bf16);
        check(folder.path(), &format!("dp{dp}-tp{tp}"), &run, &["--view", "stored"], &expected);
    }
}
