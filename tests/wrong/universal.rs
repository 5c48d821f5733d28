//! Universal folders of DeepSpeed's that are not whole.

use crate::scene::Scene;
use std::fs;

const FOLDER: &str = "run/global_step3_universal";

/// The folder of ZeRO-3's universal form, spoiled.
fn refused(what: &str, spoil: impl Fn(&Scene)) -> String {
    let mut scene = Scene::fixture("ds-z3-universal-fp32");
    spoil(&scene);
    let folder = scene.typed(FOLDER);
    let out = scene.typed("out");
    scene.refused_as(what, &["convert", &folder, &out]).err
}

#[test]
fn what_is_missing_is_named() {
    let parameter = format!("{FOLDER}/zero/l1.bias");
    let gone = |name: &'static str| {
        let path = format!("{parameter}/{name}");
        refused(name, move |scene| fs::remove_file(scene.path(&path)).unwrap())
    };
    assert!(gone("exp_avg.pt").contains("no exp_avg.pt, which other parameters have"));
    assert!(gone("fp32.pt").contains("no fp32.pt, its master weights"));
    let err = refused("a parameter", |scene| fs::remove_dir_all(scene.path(&parameter)).unwrap());
    assert!(err.contains("l1.bias"), "{err}");
    let err = refused("groups", |scene| {
        fs::remove_file(scene.path(&format!("{FOLDER}/zero/optimizer_state.pt"))).unwrap();
    });
    assert!(err.contains("optimizer_state.pt"), "{err}");
}

#[test]
fn flat_tensors_without_shapes() {
    let err = refused("shapes", |scene| {
        for entry in fs::read_dir(scene.path(FOLDER)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                fs::remove_file(path).unwrap();
            }
        }
    });
    assert!(err.contains("no model file says which shape it has"), "{err}");
    assert!(err.contains("zero_pp_rank_"), "{err}");
}

#[test]
fn files_that_are_others() {
    let zero = format!("{FOLDER}/zero");
    let err = refused("another parameter's", |scene| {
        let from = scene.path(&format!("{zero}/l1.weight/fp32.pt"));
        fs::copy(from, scene.path(&format!("{zero}/emb.weight/fp32.pt"))).unwrap();
    });
    assert!(err.contains("`emb.weight` has the shape [35]"), "{err}");
    let err = refused("no torch file", |scene| {
        scene.write(&format!("{zero}/emb.weight/fp32.pt"), "text");
    });
    assert!(err.contains("fp32.pt"), "{err}");
    let err = refused("cut short", |scene| {
        let path = scene.path(&format!("{zero}/emb.weight/exp_avg.pt"));
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    });
    assert!(err.contains("exp_avg.pt"), "{err}");
}

#[test]
fn a_link_out_of_the_folder() {
    let err = refused("a link", |scene| {
        let link = scene.path(&format!("{FOLDER}/zero/emb.weight/momentum.pt"));
        std::os::unix::fs::symlink("/etc/hostname", link).unwrap();
    });
    assert!(err.contains("it is a link"), "{err}");
}
