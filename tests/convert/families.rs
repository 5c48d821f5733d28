//! Families that no run here has: saved by transformers, or written by their layout.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use ucl_tests::made::run::{Piece, Run, Zero};
use ucl_tests::oracle::{Tensors, sets};
use ucl_tests::{command::convert, command::ucl, fixture, written};

const FIXTURES: [&str; 11] = [
    "hf-gptneox-fp32",
    "hf-phimoe-bf16",
    "hf-mistral-bf16",
    "hf-phi3small-indexed",
    "hf-opt-fp16",
    "hf-opt-projected-fp16",
    "hf-falcon-bf16",
    "hf-falcon-rw-bf16",
    "hf-falcon-groups-bf16",
    "hf-phi-bf16",
    "hf-qwen2moe-sparse-bf16",
];

/// The tensors of a Hugging Face file, read with the safetensors crate.
fn file(name: &str) -> Tensors {
    let copy = tempfile::tempdir().expect("a folder");
    // The reader goes by the names of universal folders.
    let target = copy.path().join("param-00001-of-00001.safetensors");
    fs::copy(fixture(name).join("hf/model.safetensors"), target).expect("a copy");
    written::states(copy.path()).remove("param").expect("tensors")
}

/// Converts a fixture to universal and on; gives both.
fn there_and_on(name: &str, flags: &[&str]) -> (Tensors, Tensors) {
    let folder = tempfile::tempdir().expect("a folder");
    let (universal, on) = (folder.path().join("universal"), folder.path().join("on"));
    convert(&fixture(name).join("hf"), &universal, &[]);
    convert(&universal, &on, flags);
    let param = |folder: &Path| written::states(folder).remove("param").expect("weights");
    (param(&universal), param(&on))
}

#[test]
fn hf_to_universal_and_back_is_bit_identical() {
    for name in FIXTURES {
        let (_, back) = there_and_on(name, &["--view", "hf"]);
        assert_eq!(back, file(name), "{name}");
    }
}

/// The file has 128 rows, as if it were padded, and its config says 128.
#[test]
fn the_vocabulary_of_gpt_neox_is_not_trimmed() {
    let (universal, _) = there_and_on("hf-gptneox-fp32", &["--view", "hf"]);
    assert_eq!(universal["embed"].shape, [128, 24]);
    assert_eq!(universal["head"].shape, [128, 24]);
}

/// Groups of rows, and rows of gate and up in turn, by a script that takes one row at a time.
#[test]
fn the_rows_of_phi3_small() {
    let name = "hf-phi3small-indexed";
    let (universal, _) = there_and_on(name, &["--view", "hf"]);
    assert_eq!(universal, sets(&fixture(name).join("oracle/oracle.json"))["universal"]);
}

/// What is in memory in transformers 5 is the view `hf5`.
#[test]
fn mixtures_as_transformers_5_has_them_in_memory() {
    for name in ["hf-phimoe-bf16", "hf-qwen2moe-sparse-bf16"] {
        let (_, memory) = there_and_on(name, &["--view", "hf5"]);
        assert_eq!(memory, sets(&fixture(name).join("oracle/oracle.json"))["live.model"], "{name}");
    }
}

/// Sizes that no shape of these files tells: heads that are wrong by a factor where all have a key of
/// their own, a width of layers that are not there.
const UNTOLD: [(&str, &str); 4] = [
    ("hf-opt-fp16", "num_attention_heads"),
    ("hf-opt-projected-fp16", "num_attention_heads"),
    ("hf-falcon-rw-bf16", "num_attention_heads"),
    ("hf-qwen2moe-sparse-bf16", "intermediate_size"),
];

/// Each size of the config is held against the file.
#[test]
fn the_config_of_another_model_is_refused() {
    for name in FIXTURES {
        let config = fs::read(fixture(name).join("hf/config.json")).expect("a config");
        let config: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(&config).expect("JSON");
        let sizes = ["hidden_size", "intermediate_size", "ff_intermediate_size", "vocab_size"];
        let more = [
            "num_hidden_layers",
            "head_dim",
            "num_local_experts",
            "num_attention_heads",
            "ffn_dim",
            "ffn_hidden_size",
            "word_embed_proj_dim",
            "moe_intermediate_size",
            "shared_expert_intermediate_size",
            "num_experts",
        ];
        let keys = sizes.iter().chain(&more).filter(|key| config.contains_key(**key));
        for key in keys.filter(|key| !UNTOLD.contains(&(name, **key))) {
            let folder = tempfile::tempdir().expect("a folder");
            let (source, out) = (folder.path().join("hf"), folder.path().join("out"));
            fs::create_dir(&source).expect("a folder");
            let weights = "model.safetensors";
            fs::copy(fixture(name).join("hf").join(weights), source.join(weights)).expect("a copy");
            let mut other = config.clone();
            other[*key] = (config[*key].as_u64().expect("a number") * 2).into();
            let text = serde_json::to_vec(&other).expect("JSON");
            fs::write(source.join("config.json"), text).expect("a file");
            let (source, target) = (source.to_string_lossy(), out.to_string_lossy());
            let ended = ucl(&["convert", &source, &target]);
            assert_eq!(ended.code, 2, "{name} with another {key}: {}", ended.text());
            assert!(!out.exists(), "{name} with another {key}");
        }
    }
}

/// One layer on two tensor ranks of GPT-NeoX's own trainer: norms that have drifted apart, biases in
/// two parts.
fn trained_apart() -> Run {
    let (h, d, f, v) = (3, 2, 4, 8);
    let ranks = (0..2_u8).map(|rank| {
        let mut number = 0.0;
        let mut group = Vec::new();
        let mut add = |name: &str, shape: &[u64], apart: bool| {
            let len = shape.iter().product::<u64>();
            number += 100.0;
            let start: f32 = number + if apart { f32::from(rank) * 1000.0 } else { 0.0 };
            let weight: Vec<f32> = (0..len).map(|at| start + at as f32).collect();
            let moments = [0.5, 0.25].map(|by| weight.iter().map(|value| value * by).collect());
            let [exp_avg, exp_avg_sq]: [Vec<f32>; 2] = moments;
            let states = [weight.clone(), exp_avg, exp_avg_sq];
            group.push(Piece { name: name.to_owned(), shape: shape.to_vec(), weight, states });
        };
        add("0.word_embeddings.weight", &[v / 2, h], true);
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            add(&format!("2.{norm}.weight"), &[h], true);
            add(&format!("2.{norm}.bias"), &[h], true);
        }
        add("2.attention.query_key_value.weight", &[3 * d, h], true);
        add("2.attention.query_key_value.bias", &[3 * d], true);
        add("2.attention.dense.weight", &[h, d], true);
        add("2.attention.dense.bias", &[h], true);
        add("2.mlp.linear1.weight", &[f / 2, h], true);
        add("2.mlp.linear1.bias", &[f / 2], true);
        add("2.mlp.linear2.weight", &[h, f / 2], true);
        add("2.mlp.linear2.bias", &[h], true);
        add("4.norm.weight", &[h], true);
        add("4.norm.bias", &[h], true);
        add("5.final_linear.weight", &[v / 2, h], true);
        // Every part of a bias sees the same gradient.
        for piece in group.iter_mut().filter(|piece| {
            piece.name.ends_with("dense.bias") || piece.name.ends_with("linear2.bias")
        }) {
            piece.states[1] = vec![0.5; 3];
            piece.states[2] = vec![0.25; 3];
        }
        vec![group]
    });
    let (args, info) = (serde_json::Value::Null, serde_json::Value::Null);
    Run { dp: 1, zero: Zero::Stage(1), step: 3, args, info, ranks: ranks.collect() }
}

/// The values of a universal folder's tensors, by state and name.
fn values(folder: &Path) -> BTreeMap<(String, String), Vec<f32>> {
    let mut out = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let Some((state, _)) = name.split_once("-00001-of-") else { continue };
        let bytes = fs::read(&path).expect("a file");
        let read = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
        for (tensor, view) in read.tensors() {
            let floats =
                view.data().as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four));
            out.insert((state.to_owned(), tensor), floats.collect());
        }
    }
    out
}

#[test]
fn norms_that_drifted_are_averaged_and_parts_of_biases_are_added() {
    let folder = tempfile::tempdir().expect("a folder");
    let (source, target) = (folder.path().join("run"), folder.path().join("universal"));
    let run = trained_apart();
    run.write(&source);
    convert(&source, &target, &["--from-view", "neox-lib", "--set", "n=2"]);
    let found = values(&target);
    let stored = |rank: usize, name: &str, state: usize| {
        let group = &run.ranks[rank][0];
        &group.iter().find(|piece| piece.name == name).expect("a piece").states[state]
    };
    let joined = |name: &str, state: usize, join: fn(f32, f32) -> f32| -> Vec<f32> {
        let (a, b) = (stored(0, name, state), stored(1, name, state));
        a.iter().zip(b).map(|(a, b)| join(*a, *b)).collect()
    };
    let of = |state: &str, name: &str| found[&(state.to_owned(), name.to_owned())].clone();
    let norms = [
        ("2.input_layernorm.weight", "l.0.attn.norm"),
        ("2.input_layernorm.bias", "l.0.attn.norm.bias"),
        ("2.post_attention_layernorm.weight", "l.0.mlp.norm"),
        ("4.norm.weight", "norm"),
        ("4.norm.bias", "norm.bias"),
    ];
    for (stored, param) in norms {
        for (state, name) in ["fp32", "exp_avg", "exp_avg_sq"].iter().enumerate() {
            let mean = joined(stored, state, f32::midpoint);
            assert_eq!(of(name, param), mean, "{param} ({name})");
        }
    }
    let biases = [
        ("2.attention.dense.bias", "l.0.attn.o.bias"),
        ("2.mlp.linear2.bias", "l.0.mlp.down.bias"),
    ];
    for (stored_name, param) in biases {
        assert_eq!(of("fp32", param), joined(stored_name, 0, |a, b| a + b), "{param}");
        assert_eq!(of("exp_avg", param), *stored(0, stored_name, 1), "{param}");
        assert_eq!(of("exp_avg_sq", param), *stored(0, stored_name, 2), "{param}");
    }
}
