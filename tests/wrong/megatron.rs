//! Folders of Megatron-LM with something wrong in them.

use crate::scene::Scene;
use std::fs;
use ucl_tests::made::megatron::Mlm;

const FILE: &str = "model_optim_rng.pt";

/// A made run of two stages and two tensor ranks, as `run`.
fn scene(run: &Mlm) -> Scene {
    let scene = Scene::empty();
    run.write(&scene.path("run"));
    scene
}

fn square() -> Mlm {
    Mlm { layers: vec![vec![1, 1]], tp: 2, etp: 2, ..Mlm::default() }
}

#[test]
fn ranks_that_are_missing_or_too_many() {
    let mut scene = scene(&square());
    let at = |name: &str| format!("run/{name}/{FILE}");
    fs::rename(scene.path("run/mp_rank_01_000"), scene.path("kept")).unwrap();
    scene.refused("a rank is missing", &[]);
    fs::rename(scene.path("kept"), scene.path("run/mp_rank_01_000")).unwrap();

    let bytes = fs::read(scene.path(&at("mp_rank_01_001"))).unwrap();
    scene.write(&at("mp_rank_02_001"), &bytes);
    scene.refused("a rank too many", &[]);
    fs::remove_dir_all(scene.path("run/mp_rank_02_001")).unwrap();

    scene.write(&at("mp_rank_01_001_001"), &bytes);
    scene.refused("a number too many", &[]);
    fs::remove_dir_all(scene.path("run/mp_rank_01_001_001")).unwrap();

    scene.write(&at("mp_rank_1_1"), &bytes);
    scene.refused("a rank twice", &[]);
    fs::remove_dir_all(scene.path("run/mp_rank_1_1")).unwrap();

    fs::remove_file(scene.path(&at("mp_rank_00_001"))).unwrap();
    scene.refused("an empty folder", &[]);
    insta::assert_snapshot!("megatron-ranks", scene.said());
}

#[test]
fn ranks_of_different_runs() {
    let mut scene = scene(&square());
    let path = scene.path("run/other");
    let other = |run: &Mlm| run.write(&path);
    other(&Mlm { args: serde_json::json!({"num_layers": 4}), ..square() });
    fs::remove_dir_all(scene.path("run/mp_rank_01_001")).unwrap();
    fs::rename(scene.path("run/other/mp_rank_01_001"), scene.path("run/mp_rank_01_001")).unwrap();
    scene.refused("other arguments", &[]);
    other(&Mlm { version: Some(2.0), layers: vec![vec![2, 1]], ..square() });
    fs::remove_dir_all(scene.path("run/mp_rank_01_001")).unwrap();
    fs::rename(scene.path("run/other/mp_rank_01_000"), scene.path("run/mp_rank_01_001")).unwrap();
    fs::remove_dir_all(scene.path("run/other")).unwrap();
    scene.refused("another version, and a layer too many", &[]);
    insta::assert_snapshot!("megatron-runs", scene.said());
}

#[test]
fn degrees_that_are_none() {
    let mut scene = Scene::empty();
    let degrees = [
        ("no tensor rank", serde_json::json!({"tensor_model_parallel_size": 0})),
        ("too many", serde_json::json!({"pipeline_model_parallel_size": 1_u64 << 40})),
        ("experts cut over more", serde_json::json!({"expert_tensor_parallel_size": 3})),
        (
            "experts cut over both",
            serde_json::json!({"moe_extended_tp": true, "expert_model_parallel_size": 2}),
        ),
    ];
    for (what, args) in degrees {
        Mlm { args, ..Mlm::default() }.write(&scene.path("run"));
        scene.refused(what, &[]);
    }
    insta::assert_snapshot!("megatron-degrees", scene.said());
}

/// Every file records who wrote it.
#[test]
fn files_in_the_folders_of_others() {
    let mut scene = scene(&square());
    let at = |name: &str| scene.path(&format!("run/{name}/{FILE}"));
    let [first, beside, below] = ["mp_rank_00_000", "mp_rank_01_000", "mp_rank_00_001"].map(at);
    let kept = fs::read(&beside).unwrap();
    fs::copy(&first, &beside).unwrap();
    scene.refused("another tensor rank's", &[]);
    fs::write(&beside, kept).unwrap();
    fs::copy(&below, &first).unwrap();
    scene.refused("another stage's", &[]);
    insta::assert_snapshot!("megatron-whose", scene.said());
}

/// A file that ends anywhere is refused; nothing is read beyond it.
#[test]
fn a_file_that_ends_early() {
    let mut scene = scene(&Mlm { layers: vec![vec![1]], ..Mlm::default() });
    let at = format!("run/mp_rank_00/{FILE}");
    let whole = fs::read(scene.path(&at)).unwrap();
    for tenth in 0..10 {
        scene.write(&at, &whole[..whole.len() * tenth / 10]);
        scene.refused("cut", &[]);
    }
}

/// Whatever byte of the pickle is another, there is an error or the same result, and no panic.
#[test]
fn a_byte_that_is_another() {
    let mut scene = scene(&Mlm { layers: vec![vec![1]], ..Mlm::default() });
    let at = format!("run/mp_rank_00/{FILE}");
    let whole = fs::read(scene.path(&at)).unwrap();
    for index in (0..whole.len().min(6000)).step_by(37) {
        let mut bytes = whole.clone();
        bytes[index] ^= 0x15;
        scene.write(&at, &bytes);
        let run = scene.typed("run");
        let ended = ucl_tests::command::ucl(&["plan", &run]);
        assert!(matches!(ended.code, 0 | 2), "{index}: {}", ended.text());
        assert!(!ended.err.contains("panicked"), "{index}: {}", ended.text());
    }
    scene.write(&at, &whole[..10]);
    scene.refused("the start alone", &[]);
}
