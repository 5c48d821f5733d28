//! Hugging Face folders that are not as they say, and models that cannot become one.

use crate::scene::{Scene, copy};
use serde_json::{Value, json};
use std::fs;
use ucl_tests::command::ucl;
use ucl_tests::made::llama::SMALL;
use ucl_tests::made::run::Zero;
use ucl_tests::{fixture, written};

const INDEX: &str = "run/model.safetensors.index.json";
const CONFIG: &str = "run/config.json";

/// A copy of a folder that transformers wrote, as `run`.
fn folder(name: &str) -> Scene {
    let scene = Scene::empty();
    copy(&fixture(name).join("hf"), &scene.path("run"));
    scene
}

/// A change of a JSON file.
type Edit = fn(&mut Value);

/// Changes a JSON file.
fn change(scene: &Scene, name: &str, edit: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&fs::read(scene.path(name)).unwrap()).unwrap();
    edit(&mut value);
    scene.write(name, value.to_string());
}

#[test]
fn an_index_that_does_not_tell_the_truth() {
    let mut said = String::new();
    let edits: [(&str, Edit); 4] = [
        ("a tensor in the other file", |index| {
            let second = "model-00002-of-00002.safetensors";
            index["weight_map"]["model.embed_tokens.weight"] = json!(second);
        }),
        ("a tensor that is nowhere", |index| {
            let first = "model-00001-of-00002.safetensors";
            index["weight_map"]["model.layers.3.input_layernorm.weight"] = json!(first);
        }),
        ("a file that is not there", |index| {
            index["weight_map"]["model.norm.weight"] = json!("model-00003-of-00003.safetensors");
        }),
        ("no map", |index| {
            index.as_object_mut().unwrap().remove("weight_map");
        }),
    ];
    for (what, edit) in edits {
        let mut scene = folder("hf-llama-bf16-sharded");
        change(&scene, INDEX, edit);
        scene.refused(what, &["--to", "hf"]);
        said += &scene.said();
    }
    let mut scene = folder("hf-llama-bf16-sharded");
    let [first, second] =
        [1, 2].map(|n| scene.path(&format!("run/model-0000{n}-of-00002.safetensors")));
    fs::copy(&second, &first).unwrap();
    scene.refused("a file in the place of another", &["--to", "hf"]);
    fs::remove_file(&first).unwrap();
    scene.refused("a file is missing", &["--to", "hf"]);
    insta::assert_snapshot!(said + &scene.said());
}

/// Of many shards that are missing a few are named; a licence is no shard by its name.
#[test]
fn many_shards_are_missing() {
    let mut scene = folder("hf-llama-fp32");
    let shard = |number| format!("run/model-{number:05}-of-00020.safetensors");
    fs::rename(scene.path("run/model.safetensors"), scene.path(&shard(1))).unwrap();
    scene.refused("no index", &["--to", "hf"]);
    let files = (1..=20).map(|number| (format!("t{number}"), json!(shard(number)[4..])));
    let map: serde_json::Map<String, Value> = files.collect();
    scene.write(INDEX, json!({ "weight_map": map }).to_string());
    scene.refused("an index", &["--to", "hf"]);
    let licensed = folder("hf-llama-fp32");
    let whole = fs::read(licensed.path("run/model.safetensors")).unwrap();
    licensed.write("run/LICENSE.safetensors", &whole);
    let (run, out) = (licensed.typed("run"), licensed.typed("out"));
    let ended = ucl(&["convert", &run, &out, "--to", "hf"]);
    assert_eq!(ended.code, 0, "{}", ended.text());
    assert!(!licensed.path("out/LICENSE.safetensors").exists());
    assert!(ended.out.contains("other files: LICENSE.safetensors"), "{}", ended.text());
    insta::assert_snapshot!(scene.said());
}

/// Safetensors count; that the others are there is told.
#[test]
fn both_formats_in_one_folder() {
    let scene = folder("hf-llama-fp32");
    let torch = fixture("hf-llama-fp16-bin/hf/pytorch_model.bin");
    fs::copy(torch, scene.path("run/pytorch_model.bin")).unwrap();
    let ended = ucl(&["convert", &scene.typed("run"), &scene.typed("out"), "--to", "hf"]);
    assert_eq!(ended.code, 0, "{}", ended.text());
    assert!(ended.out.contains("other files: pytorch_model.bin"), "{}", ended.text());
    let weights = |name: &str| fs::read(scene.path(name).join("model.safetensors")).unwrap();
    assert!(weights("out") == weights("run"));
}

#[test]
fn a_model_that_cannot_be_written() {
    let mut scene = folder("hf-llama-fp32");
    // The heads are as many as the config says, and the rows do not fall into them.
    change(&scene, CONFIG, |config| config["num_attention_heads"] = json!(5));
    scene.refused("a config of another model", &["--to", "hf"]);
    let mut said = scene.said();
    let mut scene = Scene::fixture("z2-qwen2-fp32-dp2-frozen-excl");
    scene.refused("parameters that are in no file", &["--to", "hf"]);
    // What it says to do instead.
    let (run, out) = (scene.typed("run"), scene.typed("out"));
    let ended = ucl(&["convert", &run, &out, "--to", "universal", "--view", "stored"]);
    assert_eq!(ended.code, 0, "{}", ended.text());
    said += &scene.said();
    let mut scene = Scene::fixture("megds-gpt-tp2-pp2-dp1-bf16");
    scene.refused("an order that no file records", &["--to", "hf"]);
    insta::assert_snapshot!(said + &scene.said());
}

/// Values of one byte have scales beside them, which a cast would forget.
#[test]
fn weights_of_one_byte_are_not_cast() {
    let mut scene = Scene::empty();
    let tensor =
        |name: &str, dtype, shape: &[u64], bytes| (name.to_owned(), dtype, shape.to_vec(), bytes);
    let name = "layers.0.up.weight";
    let tensors = [
        tensor(name, "F8_E4M3", &[2, 2], vec![0; 4]),
        tensor(&format!("{name}_scale"), "F32", &[1], vec![0; 4]),
        tensor("layers.1.up.weight", "F8_E5M2", &[2, 2], vec![0; 4]),
    ];
    fs::create_dir(scene.path("run")).unwrap();
    written::save(&scene.path("run/model.safetensors"), &tensors);
    scene.refused("to a model", &["--to", "hf", "--dtype", "bf16"]);
    scene.refused("to a universal folder", &["--dtype", "bf16"]);
    let ended = ucl(&["convert", &scene.typed("run"), &scene.typed("out"), "--to", "hf"]);
    assert_eq!(ended.code, 0, "{}", ended.text());
    insta::assert_snapshot!(scene.said());
}

#[test]
fn an_adapter_is_no_model() {
    let mut scene = Scene::empty();
    scene.write("run/adapter_config.json", "{}");
    let name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
    let tensors = [(name.to_owned(), "F32", vec![2, 2], vec![0; 16])];
    written::save(&scene.path("run/adapter_model.safetensors"), &tensors);
    scene.refused("as it is", &["--to", "hf"]);
    let (run, universal, out) = (scene.typed("run"), scene.typed("universal"), scene.typed("out"));
    let ended = ucl(&["convert", &run, &universal]);
    assert_eq!(ended.code, 0, "{}", ended.text());
    scene.refused_as("by way of a universal folder", &["convert", &universal, &out, "--to", "hf"]);
    insta::assert_snapshot!(scene.said());
}

/// A view that was typed counts, also where no spec knows the source.
#[test]
fn views_of_what_no_spec_knows() {
    let mut scene = Scene::fixture("ds-z1-buffer-tied-dp2-bf16");
    for view in ["hf5", "hff", "megatron"] {
        scene.refused(view, &["--to", "hf", "--view", view]);
    }
    let mut universal = folder("hf-llama-fp32");
    let (run, stored) = (universal.typed("run"), universal.typed("stored"));
    let ended = ucl(&["convert", &run, &stored]);
    assert_eq!(ended.code, 0, "{}", ended.text());
    let out = universal.typed("out");
    let typed = ["convert", &stored, &out, "--to", "hf", "--view", "stored"];
    universal.refused_as("names of a universal folder", &typed);
    insta::assert_snapshot!(scene.said() + &universal.said());
}

/// Copies that differ stop the run, and nothing is left.
#[test]
fn copies_that_differ() {
    let mut spoilt = SMALL.run(1, 2, Zero::Bf16);
    spoilt.ranks[1][1][0].states[0][0] += 1.0;
    let mut scene = Scene::of(&spoilt);
    scene.refused("one file", &["--to", "hf"]);
    scene.refused("shards", &["--to", "hf", "--max-file-size", "1KB"]);
    insta::assert_snapshot!(scene.said());
}

#[test]
fn a_config_that_cannot_be_read() {
    let mut scene = folder("hf-llama-fp32");
    for text in ["", "[1]", "{\"dtype\": \"float32\""] {
        scene.write(CONFIG, text);
        scene.refused(&format!("{text:?}"), &["--to", "hf"]);
    }
    scene.write("other/README.md", "no config");
    let other = scene.typed("other");
    fs::remove_file(scene.path(CONFIG)).unwrap();
    scene.refused("--config without one", &["--to", "hf", "--config", &other]);
    fs::copy(fixture("hf-llama-fp32/hf/config.json"), scene.path("other/config.json")).unwrap();
    let run = scene.typed("run");
    let given = ["convert", &run, &other, "--to", "hf", "--overwrite", "--config", &other];
    scene.refused_as("--config is replaced", &given);
    fs::create_dir_all(scene.path("other/model")).unwrap();
    fs::rename(scene.path("other/config.json"), scene.path("other/model/config.json")).unwrap();
    let model = scene.typed("other/model");
    let given = ["convert", &run, &other, "--to", "hf", "--overwrite", "--config", &model];
    scene.refused_as("--config is inside of what is replaced", &given);
    insta::assert_snapshot!(scene.said());
}

/// The config of one family beside the tensors of another; a head of another kind is no other model.
#[test]
fn a_config_of_another_family() {
    let mut scene = Scene::fixture("z1-llama-fp32-dp2");
    let config = |name: &str| fixture(name).join("hf").to_str().unwrap().to_owned();
    for other in ["hf-mixtral-fp32", "hf-gpt2-fp32"] {
        scene.refused(other, &["--to", "hf", "--config", &config(other)]);
    }
    let mut said = scene.said();
    let mut scene = folder("hf-llama-fp32");
    let llama = fs::read(scene.path(CONFIG)).unwrap();
    fs::copy(fixture("hf-mixtral-fp32/hf/config.json"), scene.path(CONFIG)).unwrap();
    scene.refused("the folder's own", &["--to", "hf"]);
    let typed = [scene.typed("run"), scene.typed("out")];
    let [run, out] = typed.each_ref().map(String::as_str);
    let ended = ucl(&["convert", run, out, "--to", "hf", "--view", "stored"]);
    assert_eq!(ended.code, 0, "{}", ended.text());
    said += &scene.said();
    let scene = Scene::empty();
    let mut tensors: Vec<_> = written::values(&fixture("hf-llama-fp32/hf"))
        .into_iter()
        .filter(|(name, _)| name != "lm_head.weight")
        .map(|(name, (known, bytes))| (name, "F32", known.shape, bytes))
        .collect();
    tensors.push(("score.weight".to_owned(), "F32", vec![1, 16], vec![0; 64]));
    scene.write("run/config.json", llama);
    written::save(&scene.path("run/model.safetensors"), &tensors);
    let typed = [scene.typed("run"), scene.typed("out")];
    let [run, out] = typed.each_ref().map(String::as_str);
    let ended = ucl(&["convert", run, out, "--to", "hf"]);
    assert_eq!(ended.code, 0, "{}", ended.text());
    insta::assert_snapshot!(said);
}

#[test]
fn a_config_that_says_tied() {
    let mut scene = Scene::fixture("z1-llama-fp32-dp2");
    fs::create_dir(scene.path("other")).unwrap();
    fs::copy(fixture("hf-llama-fp32/hf/config.json"), scene.path("other/config.json")).unwrap();
    change(&scene, "other/config.json", |config| config["tie_word_embeddings"] = json!(true));
    let other = scene.typed("other");
    scene.refused("its head is its own", &["--to", "hf", "--config", &other]);
    insta::assert_snapshot!(scene.said());
}
