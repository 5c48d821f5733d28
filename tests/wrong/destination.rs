//! Where the result should go.

use crate::scene::{Scene, tree};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use ucl_tests::command::ucl;
use ucl_tests::made::llama::SMALL;
use ucl_tests::made::run::{Run, Zero};

fn run() -> Run {
    SMALL.run(1, 2, Zero::Bf16)
}

#[test]
fn that_exists() {
    let mut scene = Scene::of(&run());
    scene.write("out/mine", "keep");
    scene.refused("a folder exists", &[]);
    scene.write("file", "keep");
    let (source, file) = (scene.typed("run"), scene.typed("file"));
    scene.refused_as("a file exists", &["convert", &source, &file]);
    fs::create_dir(scene.path("empty")).unwrap();
    let empty = scene.typed("empty");
    scene.refused_as("an empty folder exists", &["convert", &source, &empty]);
    std::os::unix::fs::symlink(scene.path("nowhere"), scene.path("link")).unwrap();
    let link = scene.typed("link");
    let ended = ucl(&["convert", &source, &link]);
    assert_eq!(ended.code, 2, "{}", ended.text());
    assert!(!scene.path("nowhere").exists());
    insta::assert_snapshot!(scene.said());
}

#[test]
fn overwritten_only_by_what_is_complete() {
    let mut scene = Scene::of(&run());
    scene.write("out/mine", "keep");
    let mut spoilt = run();
    spoilt.ranks[1][1][0].states[0][0] += 1.0;
    spoilt.write(&scene.path("spoilt"));
    let (source, out, bad) = (scene.typed("run"), scene.typed("out"), scene.typed("spoilt"));
    scene.refused_as("the new one fails", &["convert", &bad, &out, "--overwrite"]);
    assert_eq!(fs::read(scene.path("out/mine")).unwrap(), b"keep");
    let ended = ucl(&["convert", &source, &out, "--overwrite"]);
    assert_eq!(ended.code, 0, "{}", ended.text());
    assert!(scene.path("out/ucl.json").exists() && !scene.path("out/mine").exists());
    let mut left: Vec<_> =
        fs::read_dir(scene.path("")).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["out", "run", "spoilt"]);
    insta::assert_snapshot!(scene.said());
}

#[test]
fn that_cannot_be() {
    let mut scene = Scene::of(&run());
    let source = scene.typed("run");
    scene.write("file", "keep");
    for (what, target) in [
        ("the source itself", "run"),
        ("inside of the source", "run/out"),
        ("inside of the step", "run/global_step7/out"),
        ("no parent", "nowhere/out"),
        ("inside of a file", "file/out"),
    ] {
        let target = scene.typed(target);
        scene.refused_as(what, &["convert", &source, &target]);
        scene.refused_as(
            &format!("{what}, --overwrite"),
            &["convert", &source, &target, "--overwrite"],
        );
    }
    std::os::unix::fs::symlink(scene.path("run"), scene.path("link")).unwrap();
    let link = scene.typed("link");
    scene.refused_as(
        "a link to the source, --overwrite",
        &["convert", &source, &link, "--overwrite"],
    );
    let linked = scene.typed("link/out");
    scene.refused_as("in the source by a link", &["convert", &source, &linked]);
    let step = scene.typed("run/global_step7");
    scene.refused_as("the run of a step, --overwrite", &["convert", &step, &source, "--overwrite"]);
    let scratch = scene.typed("");
    scene.refused_as(
        "what the source is in, --overwrite",
        &["convert", &source, &scratch, "--overwrite"],
    );
    scene.refused_as("the root", &["convert", &source, "/", "--overwrite"]);
    insta::assert_snapshot!(scene.said());
}

/// Not as root, who may write anywhere.
#[test]
fn that_is_not_ours() {
    let mut scene = Scene::of(&run());
    fs::create_dir(scene.path("locked")).unwrap();
    let locked = |mode| {
        fs::set_permissions(scene.path("locked"), fs::Permissions::from_mode(mode)).unwrap();
    };
    locked(0o555);
    if fs::write(scene.path("locked/probe"), "").is_ok() {
        // Root may: then it must simply work.
        fs::remove_file(scene.path("locked/probe")).unwrap();
        ucl_tests::command::convert(&scene.path("run"), &scene.path("locked/out"), &[]);
        assert!(tree(&scene.path("locked")).len() > 2);
        return;
    }
    let (source, target) = (scene.typed("run"), scene.typed("locked/out"));
    let ended = scene.refused_as("a folder of someone else", &["convert", &source, &target]);
    fs::set_permissions(scene.path("locked"), fs::Permissions::from_mode(0o755)).unwrap();
    assert!(ended.err.contains("check who owns it"), "{}", ended.text());
}
