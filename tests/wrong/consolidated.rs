//! Meta's and Mistral's files that do not belong together.

use crate::scene::{Scene, copy};
use std::fs;
use ucl_tests::fixture;

/// A copy of the files, as `run`.
fn scene(name: &str) -> Scene {
    let scene = Scene::empty();
    copy(&fixture(name).join("weights"), &scene.path("run"));
    scene
}

const LLAMA: &str = "meta-llama3-mp4";

#[test]
fn files_that_are_no_whole_model() {
    let mut said = String::new();
    let mut scene_of = |name: &str, what: &str, spoil: &dyn Fn(&Scene)| {
        let mut scene = scene(name);
        spoil(&scene);
        scene.refused(what, &["--to", "hf"]);
        said += &scene.said();
    };
    let file = |number: u32| format!("run/consolidated.{number:02}.pth");
    scene_of(LLAMA, "a gap", &|scene| fs::remove_file(scene.path(&file(1))).unwrap());
    scene_of(LLAMA, "the last is missing", &|scene| fs::remove_file(scene.path(&file(3))).unwrap());
    scene_of(LLAMA, "one too many", &|scene| {
        fs::copy(scene.path(&file(3)), scene.path(&file(4))).unwrap();
    });
    scene_of(LLAMA, "two of one number", &|scene| {
        fs::copy(scene.path(&file(3)), scene.path("run/consolidated.03.pt")).unwrap();
    });
    scene_of(LLAMA, "a number out of all reason", &|scene| {
        let far = scene.path("run/consolidated.123456789.pth");
        fs::rename(scene.path(&file(3)), far).unwrap();
    });
    scene_of(LLAMA, "a file of another model", &|scene| {
        let other = fixture("meta-mixtral-files3/weights/consolidated.01.pt");
        fs::copy(other, scene.path(&file(1))).unwrap();
    });
    scene_of(LLAMA, "a file of other sizes", &|scene| {
        let other = fixture("meta-llama3-mp2/weights/consolidated.01.pth");
        fs::copy(other, scene.path(&file(1))).unwrap();
    });
    scene_of(LLAMA, "the files changed places", &|scene| {
        fs::rename(scene.path(&file(1)), scene.path("run/away")).unwrap();
        fs::rename(scene.path(&file(2)), scene.path(&file(1))).unwrap();
        fs::rename(scene.path("run/away"), scene.path(&file(2))).unwrap();
    });
    scene_of(LLAMA, "sizes of another model", &|scene| {
        let other = fixture("meta-llama2-mp2/weights/params.json");
        fs::copy(other, scene.path("run/params.json")).unwrap();
    });
    scene_of(LLAMA, "sizes that are no JSON", &|scene| {
        scene.write("run/params.json", "{\"dim\": ");
    });
    scene_of("meta-mixtral-files3", "a file of tensors of their own is missing", &|scene| {
        fs::remove_file(scene.path("run/consolidated.02.pt")).unwrap();
    });
    insta::assert_snapshot!(said);
}

/// Cut off anywhere, a file is refused and named, in both forms that torch has written.
#[test]
fn files_that_were_cut_short() {
    for name in ["meta-llama2-mp2", "meta-llama3-mp2"] {
        let whole = fs::read(fixture(name).join("weights/consolidated.01.pth")).unwrap();
        for part in [0, 1, 20, whole.len() / 3, whole.len() / 2, whole.len() - 1] {
            let mut scene = scene(name);
            scene.write("run/consolidated.01.pth", &whole[..part]);
            let ended = scene.refused(&format!("{name}, {part} bytes"), &["--to", "hf"]);
            assert!(ended.err.contains("consolidated.01.pth"), "{part}: {}", ended.text());
        }
    }
}

/// Norms are the same in all files, or they are not files of one model.
#[test]
fn norms_that_differ() {
    let mut scene = scene("meta-llama2-mp2");
    let path = scene.path("run/consolidated.01.pth");
    let mut bytes = fs::read(&path).unwrap();
    // A legacy file ends with its storages; the last tensor there is `rope.freqs`, before it the head's
    // half, before it the last norm of 24.
    let (freqs, head, norm) = (3 * 2, 51 * 24 * 2, 24 * 2);
    let at = bytes.len() - freqs - head - norm;
    bytes[at] ^= 0x10;
    fs::write(&path, bytes).unwrap();
    let ended = scene.refused("a norm differs", &["--to", "hf"]);
    assert!(ended.err.contains("norm.weight"), "{}", ended.text());
}
