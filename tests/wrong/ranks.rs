//! Files of FSDP's ranks that do not belong together.

use crate::scene::{Scene, copy};
use std::fs;
use std::path::PathBuf;
use ucl_tests::fixture;

/// A copy of the files, as `run`.
fn scene(name: &str) -> Scene {
    let scene = Scene::empty();
    copy(&fixture(name).join("run"), &scene.path("run"));
    scene
}

const FLAGS: [&str; 2] = ["--view", "stored"];

fn verl(kind: &str, rank: u32) -> String {
    format!("run/{kind}_world_size_4_rank_{rank}.pt")
}

#[test]
fn ranks_that_are_no_whole_save() {
    let mut said = String::new();
    let mut scene_of = |name: &str, what: &str, spoil: &dyn Fn(&Scene)| {
        let mut scene = scene(name);
        spoil(&scene);
        scene.refused(what, &FLAGS);
        said += &scene.said();
    };
    let swap = |scene: &Scene, one: &str, other: &str| {
        let [one, other]: [PathBuf; 2] = [one, other].map(|name| scene.path(name));
        fs::rename(&one, scene.path("away")).unwrap();
        fs::rename(&other, &one).unwrap();
        fs::rename(scene.path("away"), &other).unwrap();
    };
    scene_of("rank-local-w2", "flat parameters", &|_| ());
    scene_of("rank-fsdp2-w4", "a rank between is missing", &|scene| {
        fs::remove_file(scene.path(&verl("model", 1))).unwrap();
    });
    scene_of("rank-fsdp2-w4", "the last rank is missing", &|scene| {
        fs::remove_file(scene.path(&verl("model", 3))).unwrap();
    });
    scene_of("rank-hsdp-w4", "the last rank is missing, and names do not say it", &|scene| {
        fs::remove_file(scene.path("run/rank_3.pt")).unwrap();
    });
    scene_of("rank-fsdp2-w4", "an optimizer's rank is missing", &|scene| {
        fs::remove_file(scene.path(&verl("optim", 2))).unwrap();
    });
    scene_of("rank-fsdp2-w4", "two ranks changed places", &|scene| {
        swap(scene, &verl("model", 1), &verl("model", 2));
    });
    scene_of("rank-fsdp1-w2", "two ranks of ShardedTensors changed places", &|scene| {
        let rank = |rank: u32| format!("run/model_world_size_2_rank_{rank}.pt");
        swap(scene, &rank(0), &rank(1));
    });
    scene_of("rank-fsdp2-w4", "a rank of another save", &|scene| {
        let other = fixture("rank-tp-w4/run/model_rank1.pt");
        fs::copy(other, scene.path(&verl("model", 1))).unwrap();
    });
    scene_of("rank-fsdp2-w4", "more ranks than the names say", &|scene| {
        fs::copy(scene.path(&verl("model", 3)), scene.path(&verl("model", 4))).unwrap();
    });
    scene_of("rank-hsdp-w4", "a number out of all reason", &|scene| {
        fs::rename(scene.path("run/rank_3.pt"), scene.path("run/rank_4000000000.pt")).unwrap();
    });
    insta::assert_snapshot!(said);
}

#[test]
fn files_that_were_cut_short() {
    let name = verl("model", 2);
    let whole = fs::read(scene("rank-fsdp2-w4").path(&name)).unwrap();
    for part in [20, whole.len() / 3, whole.len() / 2, whole.len() - 1] {
        let mut scene = scene("rank-fsdp2-w4");
        scene.write(&name, &whole[..part]);
        let ended = scene.refused(&format!("{part} bytes"), &FLAGS);
        assert!(ended.err.contains("model_world_size_4_rank_2.pt"), "{part}: {}", ended.text());
    }
}

/// A flipped byte in a pickle gives another value or an error, never a crash.
#[test]
fn pickles_with_a_flipped_byte() {
    let name = "run/rank_1.pt";
    let whole = fs::read(scene("rank-hsdp-w4").path(name)).unwrap();
    let start = whole.windows(8).position(|window| window == b"data.pkl").unwrap() + 8;
    let end =
        whole.windows(14).position(|window| window == b"format_version").unwrap_or(start + 20_000);
    let scene = scene("rank-hsdp-w4");
    for at in (start..end.min(whole.len())).step_by(331) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x21;
        scene.write(name, &bytes);
        let run = scene.typed("run");
        let ended = ucl_tests::command::ucl(&["inspect", &run]);
        assert!(!ended.text().contains("panicked"), "{at}: {}", ended.text());
    }
}
