//! Specs, configs and sizes that do not fit the files.

use crate::scene::Scene;
use serde_json::json;
use ucl_tests::made::llama::{Llama, SMALL};
use ucl_tests::made::run::{Run, Zero};

fn run() -> Run {
    SMALL.run(1, 2, Zero::Bf16)
}

#[test]
fn a_dim_that_disagrees() {
    let mut scene = Scene::of(&run());
    scene.refused("--set k=3", &["--set", "k=3"]);
    scene.refused("--set h=7", &["--set", "h=7"]);
    scene.refused("--set v=900", &["--set", "v=900"]);
    let folder = scene.typed("config");
    scene.refused("--config of no folder", &["--config", &folder]);
    scene.write("config/config.json", "{");
    scene.refused("--config of no JSON", &["--config", &folder]);
    scene.write("config/config.json", "[]");
    scene.refused("--config of other JSON", &["--config", &folder]);
    insta::assert_snapshot!(scene.said());
}

#[test]
fn a_config_that_disagrees_with_weights_of_hugging_face() {
    let mut scene = Scene::of(&SMALL.hf_run(2, Zero::Bf16));
    let folder = scene.typed("config");
    for (what, heads, kv) in [("heads", 5, 5), ("kv", 8, 3)] {
        let config = json!({"model_type": "llama", "hidden_size": 6, "head_dim": 2,
            "num_attention_heads": heads, "num_key_value_heads": kv, "num_hidden_layers": 2});
        scene.write("config/config.json", config.to_string());
        scene.refused(&format!("another {what}"), &["--config", &folder]);
    }
    insta::assert_snapshot!(scene.said());
}

const PART: &str = r#"ucl 1

model part {
  dims l, h, f, v
  embed : v h
  each l { mlp.down : h f }
  norm  : h
}

view mine {
  "language_model.embedding.word_embeddings.weight" : v h = embed
  "language_model.encoder.layers.{l}.mlp.dense_4h_to_h.weight" : h f = mlp.down
  "language_model.encoder.final_layernorm.weight" : h = norm
}

layout mine for mine {
  mesh tp
  shard f, v over tp
}
"#;

#[test]
fn a_spec_that_does_not_fit() {
    let mut scene = Scene::of(&run());
    scene.write("part.ucl", PART);
    let part = scene.typed("part.ucl");
    scene.refused("--spec that misses tensors", &["--spec", &part]);
    scene.refused("--spec and its view", &["--spec", &part, "--from-view", "mine"]);
    scene.write("part.ucl", PART.replace("norm  : h\n", "norm : h\n  more : h h\n"));
    scene.refused("--spec whose view misses a parameter", &["--spec", &part]);
    scene.write("part.ucl", PART.replace(": h f = mlp.down", ": f = mlp.down"));
    scene.refused("--spec that does not balance", &["--spec", &part]);
    scene.write("part.ucl", "hello");
    scene.refused("--spec of something else", &["--spec", &part]);
    let nowhere = scene.typed("nowhere.ucl");
    scene.refused("--spec that is not there", &["--spec", &nowhere]);
    insta::assert_snapshot!(scene.said());
}

/// A model that lacks a tensor which its view has, and one with a tensor more.
#[test]
fn a_tensor_less_or_more() {
    let mut scene = Scene::empty();
    let mut less = run();
    for groups in &mut less.ranks {
        groups[0].retain(|piece| !piece.name.ends_with("1.self_attention.dense.weight"));
    }
    less.write(&scene.path("run"));
    scene.refused("a tensor less", &[]);
    let mut scene_more = Scene::empty();
    let mut more = run();
    for groups in &mut more.ranks {
        let mut extra = groups[1][0].clone();
        extra.name = "language_model.encoder.layers.0.extra_norm.weight".to_owned();
        groups[1].push(extra);
    }
    more.write(&scene_more.path("run"));
    // Unasked, it would be taken as its `universal_checkpoint_info` says.
    scene_more.refused("a tensor more", &["--from-view", "deepspeed"]);
    insta::assert_snapshot!(scene.said() + &scene_more.said());
}

/// Three kv heads over two tensor ranks: each rank's rows are one and a half groups.
#[test]
fn a_mesh_that_does_not_divide() {
    let odd = Llama { kv: 3, heads: 6, head: 4, ..SMALL };
    let mut scene = Scene::of(&odd.run(1, 2, Zero::Bf16));
    scene.refused("three kv heads on two ranks", &["--from-view", "deepspeed"]);
    insta::assert_snapshot!(scene.said());
}

/// Every head must have pairs of rotary frequencies.
#[test]
fn a_head_of_one_row() {
    let odd = Llama { head: 1, ..SMALL };
    let mut scene = Scene::of(&odd.run(1, 1, Zero::Bf16));
    scene.refused("heads of one row", &[]);
    insta::assert_snapshot!(scene.said());
}
