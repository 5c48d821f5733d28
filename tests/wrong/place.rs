//! Paths that lead to no checkpoint.

use crate::scene::Scene;
use std::fs;
use ucl_tests::made::llama::SMALL;
use ucl_tests::made::run::Zero;

#[test]
fn latest() {
    let mut scene = Scene::of(&SMALL.run(1, 1, Zero::Bf16));
    let outside = SMALL.run(1, 1, Zero::Bf16);
    outside.write(&scene.path("elsewhere"));
    let absolute = scene.typed("elsewhere/global_step7");
    for (what, content) in [
        ("a step that is not here", "global_step8"),
        ("a folder outside", "../elsewhere/global_step7"),
        ("itself", "."),
        ("an absolute path", absolute.as_str()),
        ("nothing", ""),
        ("a line break", "\n"),
        ("a file", "latest"),
        ("a zero byte", "global\0step7"),
    ] {
        scene.write("run/latest", content);
        scene.refused(&format!("`latest` names {what}"), &[]);
    }
    scene.write("run/latest", b"global_step\xff");
    scene.refused("`latest` is not UTF-8", &[]);
    scene.write("run/latest", "x".repeat(5000));
    scene.refused("`latest` is a novel", &[]);
    insta::assert_snapshot!(scene.said());
}

#[test]
fn latest_with_a_line_break_after_it_is_fine() {
    let scene = Scene::of(&SMALL.run(1, 1, Zero::Bf16));
    scene.write("run/latest", "global_step7\n");
    ucl_tests::command::convert(&scene.path("run"), &scene.path("out"), &[]);
}

#[test]
fn nothing_to_read() {
    let mut scene = Scene::empty();
    scene.refused("no folder", &[]);
    fs::create_dir(scene.path("run")).unwrap();
    scene.refused("an empty folder", &[]);
    scene.write("run/readme.txt", "hello");
    scene.write("run/src/main.py", "print()");
    scene.refused("a folder of something else", &[]);
    let file = scene.typed("run/readme.txt");
    let out = scene.typed("out");
    scene.refused_as("a file of something else", &["convert", &file, &out]);
    let none = scene.typed("none");
    scene.refused_as("nothing to verify", &["verify", &none]);
    scene.refused_as("something else to verify", &["verify", &file]);
    scene.write("run/pytorch_model.bin", "hello");
    scene.refused("something else under the name of weights", &[]);
    insta::assert_snapshot!(scene.said());
}

#[test]
fn what_points_at_a_step() {
    let mut scene = Scene::of(&SMALL.run(1, 1, Zero::Bf16));
    scene.write("run/latest_universal", "global_step7_universal");
    scene.write("run/latest_checkpointed_iteration.txt", "7\n");
    for name in ["latest", "latest_universal", "latest_checkpointed_iteration.txt"] {
        let (file, out) = (scene.typed(&format!("run/{name}")), scene.typed("out"));
        scene.refused_as(name, &["convert", &file, &out]);
    }
    insta::assert_snapshot!(scene.said());
}

#[test]
fn one_file_of_many() {
    let mut scene = Scene::of(&SMALL.run(1, 2, Zero::Bf16));
    let file = scene.typed("run/global_step7/mp_rank_00_model_states.pt");
    let out = scene.typed("out");
    scene.refused_as("one rank's file", &["convert", &file, &out]);
    fs::remove_file(scene.path("run/latest")).unwrap();
    let mut later = SMALL.run(1, 2, Zero::Bf16);
    later.step = 12;
    later.write(&scene.path("run"));
    fs::remove_file(scene.path("run/latest")).unwrap();
    scene.refused("two steps and no `latest`", &[]);
    insta::assert_snapshot!(scene.said());
}
