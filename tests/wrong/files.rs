//! Files that are missing, too many, cut short, damaged, or of another run.

use crate::scene::Scene;
use std::fs;
use ucl_tests::made::llama::{Llama, SMALL};
use ucl_tests::made::run::{Run, Zero};

const MODEL: &str = "run/global_step7/mp_rank_01_model_states.pt";
const SHARD: &str = "run/global_step7/bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt";

fn run() -> Run {
    SMALL.run(2, 2, Zero::Bf16)
}

/// A sound run, and `other` beside it.
fn with_other(other: &Run) -> Scene {
    let scene = Scene::of(&run());
    other.write(&scene.path("other"));
    scene
}

#[test]
fn missing() {
    let mut said = String::new();
    for file in [MODEL, SHARD] {
        let mut scene = Scene::of(&run());
        fs::remove_file(scene.path(file)).unwrap();
        scene.refused(&format!("no {file}"), &[]);
        said += &scene.said();
    }
    for file in [
        "run/global_step4/layer_03-model_01-model_states.pt",
        "run/global_step4/mp_rank_03_model_states.pt",
    ] {
        let mut scene = Scene::fixture("megds-llama-tp2-pp2-dp1-bf16");
        fs::remove_file(scene.path(file)).unwrap();
        scene.refused(&format!("no {file}"), &[]);
        said += &scene.said();
    }
    let mut scene = Scene::of(&run());
    for dp in 0..2 {
        for tp in 0..2 {
            let name = format!("bf16_zero_pp_rank_{dp}_mp_rank_{tp:02}_optim_states.pt");
            fs::remove_file(scene.path("run/global_step7").join(name)).unwrap();
        }
    }
    scene.refused("no shard at all", &[]);
    insta::assert_snapshot!(said + &scene.said());
}

#[test]
fn too_many() {
    let mut said = String::new();
    for (from, to) in [
        (SHARD, "run/global_step7/bf16_zero_pp_rank_2_mp_rank_00_optim_states.pt"),
        (SHARD, "run/global_step7/bf16_zero_pp_rank_0_mp_rank_02_optim_states.pt"),
        (SHARD, "run/global_step7/zero_pp_rank_1_mp_rank_00_optim_states.pt"),
        (MODEL, "run/global_step7/mp_rank_02_model_states.pt"),
    ] {
        let mut scene = Scene::of(&run());
        fs::copy(scene.path(from), scene.path(to)).unwrap();
        scene.refused(&format!("{to} besides"), &[]);
        said += &scene.said();
    }
    insta::assert_snapshot!(said);
}

#[test]
fn cut_short() {
    let mut scene = Scene::of(&run());
    for file in [MODEL, SHARD] {
        let whole = fs::read(scene.path(file)).unwrap();
        let places = [0, 1, 40, 100, whole.len() / 2, whole.len() - 60, whole.len() - 1];
        for place in places {
            fs::write(scene.path(file), &whole[..place]).unwrap();
            let ended = scene.refused(&format!("{file}, its first {place} bytes"), &[]);
            assert!(ended.err.contains(file.rsplit('/').next().unwrap()), "{}", ended.text());
        }
        fs::write(scene.path(file), whole).unwrap();
    }
    insta::assert_snapshot!(scene.said());
}

#[test]
fn damaged() {
    let mut scene = Scene::of(&run());
    for file in [MODEL, SHARD] {
        let whole = fs::read(scene.path(file)).unwrap();
        let name = b"param_shapes".as_slice();
        let name = if file == MODEL { name } else { b"group_paddings" };
        let at = whole.windows(name.len()).position(|bytes| bytes == name).unwrap();
        let mut spoilt = whole.clone();
        spoilt[at + 3] ^= 0x20;
        fs::write(scene.path(file), spoilt).unwrap();
        let ended = scene.refused(&format!("{file}, a bit of the pickle"), &[]);
        assert!(ended.err.contains(file.rsplit('/').next().unwrap()), "{}", ended.text());
        fs::write(scene.path(file), &whole).unwrap();
    }
    scene.write(SHARD, vec![b'x'; 5000]);
    scene.refused("no torch file under a shard's name", &[]);
    insta::assert_snapshot!(scene.said());
}

#[test]
fn of_another_step_or_run() {
    let name = MODEL.trim_start_matches("run/global_step7/");
    let shard = SHARD.trim_start_matches("run/global_step7/");
    let mut said = String::new();
    let wider = Llama { ffn: 16, ..SMALL };
    // A model file with other shapes is blamed by the shards, and named by them.
    let others = [
        ("a later step", Run { step: 8, ..run() }),
        ("three data ranks", SMALL.run(3, 2, Zero::Bf16)),
        ("four tensor ranks", SMALL.run(2, 4, Zero::Bf16)),
        ("a wider model", wider.run(2, 2, Zero::Bf16)),
    ];
    for (what, other) in others {
        for (file, name) in [(MODEL, name), (SHARD, shard)] {
            let mut scene = with_other(&other);
            let from = format!("other/global_step{}/{name}", other.step);
            fs::copy(scene.path(&from), scene.path(file)).unwrap();
            let ended = scene.refused(&format!("{name} of {what}"), &[]);
            assert!(ended.err.contains(name), "{}", ended.text());
            said += &scene.said();
        }
    }
    insta::assert_snapshot!(said);
}

#[test]
fn two_steps_in_one_folder() {
    let mut scene = Scene::of(&SMALL.run(2, 1, Zero::Bf16));
    SMALL.run(2, 1, Zero::Stage(1)).write(&scene.path("other"));
    for entry in fs::read_dir(scene.path("other/global_step7")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, scene.path("run/global_step7").join(path.file_name().unwrap())).unwrap();
    }
    scene.refused("shards of BF16_Optimizer and of ZeRO-1", &[]);
    insta::assert_snapshot!(scene.said());
}

#[test]
fn zero_3() {
    let mut scene = Scene::empty();
    scene.write("run/latest", "global_step9");
    for rank in 0..2 {
        scene.write(
            &format!("run/global_step9/zero_pp_rank_{rank}_mp_rank_00_model_states.pt"),
            "x",
        );
        scene.write(
            &format!("run/global_step9/zero_pp_rank_{rank}_mp_rank_00_optim_states.pt"),
            "x",
        );
    }
    scene.refused("ZeRO-3", &[]);
    let mut experts = Scene::of(&run());
    experts.write("run/global_step7/layer_0_expert_1_mp_rank_00_model_states.pt", "x");
    experts.refused("experts in files of their own", &[]);
    insta::assert_snapshot!(scene.said() + &experts.said());
}

/// A moment has no second copy to be compared with: only the checksums of the files tell.
#[test]
fn a_flipped_bit_of_data() {
    let scene = Scene::of(&run());
    let whole = fs::read(scene.path(SHARD)).unwrap();
    let moments = run().ranks[0][0].iter().flat_map(|piece| piece.states[1].clone()).nth(450);
    let bytes = moments.unwrap().to_le_bytes();
    let at = whole.windows(4).position(|four| four == bytes).unwrap();
    let mut spoilt = whole;
    spoilt[at + 1] ^= 1;
    fs::write(scene.path(SHARD), spoilt).unwrap();
    let ended = ucl_tests::command::ucl(&["verify", &scene.typed("run")]);
    assert_eq!(ended.code, 1, "{}", ended.text());
    assert!(ended.text().contains(SHARD.rsplit('/').next().unwrap()), "{}", ended.text());
}
