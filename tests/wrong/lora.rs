//! Low-rank pairs that are none, do not fit, or are only a part of what was trained.

use crate::scene::{Scene, copy};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use ucl_tests::{fixture, written};

/// A model as `run` and its adapter as `adapter`.
fn scene() -> Scene {
    let scene = Scene::empty();
    let folder = fixture("lora-llama-fp32");
    copy(&folder.join("hf"), &scene.path("run"));
    copy(&folder.join("adapter"), &scene.path("adapter"));
    scene
}

/// Name, type, shape and bytes of a tensor.
type Tensor = (String, &'static str, Vec<u64>, Vec<u8>);

/// Changes the tensors of a folder's one file.
fn spoil(scene: &Scene, folder: &str, file: &str, edit: impl FnOnce(&mut Vec<Tensor>)) {
    let mut tensors: Vec<Tensor> = written::values(&scene.path(folder))
        .into_iter()
        .map(|(name, (known, bytes))| {
            let dtype = if known.dtype == "F32" { "F32" } else { "BF16" };
            (name, dtype, known.shape, bytes)
        })
        .collect();
    edit(&mut tensors);
    fs::remove_file(scene.path(&format!("{folder}/{file}"))).unwrap();
    written::save(&scene.path(&format!("{folder}/{file}")), &tensors);
}

fn refused(scene: &mut Scene, what: &str, more: &[&str]) {
    let flag = format!("--merge-lora={}", scene.typed("adapter"));
    scene.refused(what, &[&["--to", "hf", &flag], more].concat());
}

const FILE: &str = "adapter_model.safetensors";
const HALF: &str = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight";

#[test]
fn pairs_that_are_none_or_do_not_fit() {
    type Edit = fn(&mut Vec<Tensor>);
    fn half(tensors: &mut [Tensor]) -> &mut Tensor {
        tensors.iter_mut().find(|tensor| tensor.0 == HALF).unwrap()
    }
    let edits: [(&str, Edit); 9] = [
        ("a half is missing", |tensors| tensors.retain(|tensor| tensor.0 != HALF)),
        ("ranks differ", |tensors| {
            let half = half(tensors);
            (half.2, half.3) = (vec![16, 2], vec![0; 128]);
        }),
        ("it is of a wider model", |tensors| {
            let half = half(tensors);
            (half.2, half.3) = (vec![32, 3], vec![0; 384]);
        }),
        ("three dims", |tensors| half(tensors).2 = vec![16, 3, 1]),
        ("saved before it was gathered", |tensors| {
            let half = half(tensors);
            (half.2, half.3) = (vec![0], Vec::new());
        }),
        ("a module that the model lacks", |tensors| {
            for tensor in tensors.iter_mut() {
                tensor.0 =
                    tensor.0.replace("layers.1.self_attn.q_proj", "layers.1.self_attn.qkv_proj");
            }
        }),
        ("magnitudes beside a pair", |tensors| {
            let name = HALF.replace("lora_B.weight", "lora_magnitude_vector");
            tensors.push((name, "F32", vec![16], vec![0; 64]));
        }),
        ("a bias beside the pairs", |tensors| {
            let name =
                "base_model.model.model.layers.0.self_attn.q_proj.base_layer.bias".to_owned();
            tensors.push((name, "F32", vec![16], vec![0; 64]));
        }),
        ("two adapters", |tensors| {
            for name in ["lora_A", "lora_B"] {
                let name = HALF.replace("lora_B", &format!("{name}.other"));
                let size = if name.contains("lora_A") { [3, 16] } else { [16, 3] };
                tensors.push((name, "F32", size.to_vec(), vec![0; 192]));
            }
        }),
    ];
    let mut said = String::new();
    for (what, edit) in edits {
        let mut scene = scene();
        spoil(&scene, "adapter", FILE, edit);
        refused(&mut scene, what, &[]);
        said += &scene.said();
    }
    insta::assert_snapshot!(said);
}

#[test]
fn adapters_that_are_more_than_pairs() {
    let configs: [(&str, Value); 13] = [
        ("peft_type", json!("VERA")),
        ("use_dora", json!(true)),
        ("bias", json!("all")),
        ("lora_bias", json!(true)),
        ("modules_to_save", json!(["lm_head"])),
        ("init_lora_weights", json!("pissa_niter_4")),
        ("layer_replication", json!([[0, 1], [0, 2]])),
        ("a_new_way", json!({"of": "training"})),
        ("r", json!(4)),
        ("rank_pattern", json!({"layers\\.(0|1)": 3})),
        ("alpha_pattern", json!({"q_proj": "eight"})),
        ("lora_alpha", Value::Null),
        ("lora_alpha", json!(1e300)),
    ];
    let mut said = String::new();
    for (key, value) in configs {
        let mut scene = scene();
        let path = scene.path("adapter/adapter_config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        config[key] = value.clone();
        scene.write("adapter/adapter_config.json", config.to_string());
        refused(&mut scene, &format!("{key} is {value}"), &[]);
        said += &scene.said();
    }
    insta::assert_snapshot!(said);
}

#[test]
fn folders_that_are_no_adapters() {
    let mut scene = scene();
    refused(&mut scene, "another scale is typed", &["--lora-alpha", "3"]);
    refused(&mut scene, "no number is typed", &["--lora-alpha", "NaN"]);
    scene.refused("a scale of what is not merged", &["--to", "hf", "--lora-alpha", "3"]);
    scene.refused("a model without pairs", &["--to", "hf", "--merge-lora"]);
    let adapter = scene.typed("adapter");
    let out = scene.typed("out");
    scene.refused_as("an adapter alone", &["convert", &adapter, &out, "--to", "hf"]);
    scene.refused_as(
        "an adapter into itself",
        &["convert", &adapter, &out, "--to", "hf", "--merge-lora"],
    );
    let run = scene.typed("run");
    let flag = format!("--merge-lora={run}");
    scene.refused("a model is no adapter", &["--to", "hf", &flag]);
    let inside = scene.typed("adapter");
    let flag = format!("--merge-lora={adapter}");
    scene.refused_as(
        "the adapter would be replaced",
        &["convert", &run, &inside, "--to", "hf", &flag, "--overwrite"],
    );
    scene.write("adapter/adapter_config.json", "{\"r\": ");
    refused(&mut scene, "half a config", &[]);
    scene.write("adapter/adapter_config.json", "{}");
    fs::remove_file(scene.path("adapter/adapter_model.safetensors")).unwrap();
    refused(&mut scene, "no weights", &[]);
    scene.write("adapter/adapter_model.safetensors", "short");
    refused(&mut scene, "weights that are cut short", &[]);
    insta::assert_snapshot!(scene.said());
}

/// The pairs of a wrapped model, whose config is not always there.
#[test]
fn pairs_inside_of_a_checkpoint() {
    let mut scene = Scene::empty();
    copy(&fixture("lora-llama-fp32").join("wrapped"), &scene.path("run"));
    scene.refused("it is no model of transformers", &["--to", "hf"]);
    let adapter = fixture("lora-llama-fp32").join("adapter");
    let flag = format!("--merge-lora={}", adapter.display());
    scene.refused("two sets of pairs", &["--to", "hf", &flag]);
    fs::remove_file(scene.path("run/adapter_config.json")).unwrap();
    scene.refused("no scale is recorded", &["--to", "hf", "--merge-lora"]);
    insta::assert_snapshot!(scene.said());
}

/// What was trained, without the weights that it belongs to.
#[test]
fn pairs_without_a_model() {
    let mut scene = Scene::empty();
    let half = |layer: u64, side: &str, shape: [u64; 2]| {
        let name = format!("model.layers.{layer}.self_attn.q_proj.lora_{side}_weight");
        (name, "F32", shape.to_vec(), vec![0; 32])
    };
    let halves = (0..2).flat_map(|l| [half(l, "left", [2, 4]), half(l, "right", [4, 2])]);
    fs::create_dir(scene.path("run")).unwrap();
    fs::copy(fixture("hf-llama-fp32/hf/config.json"), scene.path("run/config.json")).unwrap();
    written::save(&scene.path("run/model.safetensors"), &halves.collect::<Vec<Tensor>>());
    scene.refused("as a model", &["--to", "hf"]);
    scene.refused("merged", &["--to", "hf", "--merge-lora"]);
    scene.refused("merged, in a universal folder", &["--merge-lora"]);
    insta::assert_snapshot!(scene.said());
}

/// Under ZeRO-3 a module holds weights of no elements until they are gathered.
#[test]
fn a_model_that_was_saved_before_it_was_gathered() {
    let mut scene = Scene::empty();
    copy(&fixture("lora-llama-fp32").join("hf"), &scene.path("run"));
    spoil(&scene, "run", "model.safetensors", |tensors| {
        for tensor in tensors.iter_mut().filter(|tensor| tensor.2.len() == 2) {
            (tensor.2, tensor.3) = (vec![0], Vec::new());
        }
    });
    scene.refused("an empty model", &["--to", "hf"]);
    insta::assert_snapshot!(scene.said());
}

/// A PPO run of DeepSpeed-Chat leaves three models.
#[test]
fn a_run_of_three_models() {
    let mut scene = Scene::empty();
    copy(&fixture("dschat-run"), &scene.path("run"));
    scene.refused("which of them?", &["--to", "hf"]);
    let config: BTreeMap<String, Value> =
        serde_json::from_slice(&fs::read(scene.path("run/critic/config.json")).unwrap()).unwrap();
    assert_eq!(config["vocab_size"], 24);
    // The config of the model that it began with: 21 words.
    let mut config: Value = json!(config);
    config["vocab_size"] = json!(21);
    scene.write("run/critic/config.json", config.to_string());
    let (critic, out) = (scene.typed("run/critic"), scene.typed("out"));
    scene.refused_as("the config of the model before", &["convert", &critic, &out]);
    insta::assert_snapshot!(scene.said());
}
