//! What FastGen adds once lies on the first rank alone, and what it cannot load is refused.

use crate::fastgen::{TO, bytes};
use crate::text;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tempfile::tempdir;
use ucl_tests::command::{convert, ucl};
use ucl_tests::written::{save, values};

const H: u64 = 12;
const F: u64 = 96;

/// An OPT of two layers and three heads of 4 rows, each number of its tensors another one.
fn opt(folder: &Path, leave_out: &str) -> PathBuf {
    let mut list: Vec<(String, Vec<u64>)> = vec![
        ("decoder.embed_tokens.weight".to_owned(), vec![11, H]),
        ("decoder.embed_positions.weight".to_owned(), vec![10, H]),
    ];
    let mut add = |name: &str, shape: &[u64]| {
        list.push((format!("decoder.{name}.weight"), shape.to_vec()));
        list.push((format!("decoder.{name}.bias"), shape[..1].to_vec()));
    };
    for l in 0..2 {
        for part in ["q_proj", "k_proj", "v_proj", "out_proj"] {
            add(&format!("layers.{l}.self_attn.{part}"), &[H, H]);
        }
        add(&format!("layers.{l}.self_attn_layer_norm"), &[H]);
        add(&format!("layers.{l}.fc1"), &[F, H]);
        add(&format!("layers.{l}.fc2"), &[H, F]);
        add(&format!("layers.{l}.final_layer_norm"), &[H]);
    }
    add("final_layer_norm", &[H]);
    let mut next = 0_u32;
    let tensors = list.into_iter().filter(|(name, _)| !name.contains(leave_out));
    let tensors = tensors.map(|(name, shape)| {
        let numbers = (0..shape.iter().product::<u64>()).flat_map(|_| {
            next = (next + 1) % 30_011;
            u16::try_from(next).unwrap().to_le_bytes()
        });
        let bytes = numbers.collect();
        // Older files leave the first part of the names out.
        (name, "F16", shape, bytes)
    });
    let tensors: Vec<_> = tensors.collect();
    std::fs::create_dir_all(folder).unwrap();
    save(&folder.join("model.safetensors"), &tensors);
    let config = json!({
        "model_type": "opt", "hidden_size": H, "ffn_dim": F, "num_attention_heads": 3,
        "num_hidden_layers": 2, "vocab_size": 11, "max_position_embeddings": 8,
        "torch_dtype": "float16",
    });
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    folder.to_owned()
}

/// The parameters of a rank's layer, as its metadata has them.
fn layer(folder: &Path, rank: usize, name: &str) -> Value {
    let path = folder.join(format!("metadata_rank_{rank}_of_2.json"));
    let outer: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let inner: Value = serde_json::from_str(outer.as_str().unwrap()).unwrap();
    inner["layers"][name]["params"].clone()
}

#[test]
fn biases_behind_a_sum_lie_on_the_first_rank() {
    let folder = tempdir().unwrap();
    let source = opt(&folder.path().join("hf"), "nothing");
    let out = folder.path().join("out");
    convert(&source, &out, &[&TO[..], &["--mesh", "tp=2"]].concat());
    let own = values(&source);
    let order = [
        "qkv_w",
        "qkv_b",
        "attn_out_w",
        "attn_out_b",
        "mlp_1_w",
        "mlp_1_b",
        "mlp_2_w",
        "mlp_2_b",
        "attn_norm_beta",
        "attn_norm_gamma",
        "mlp_norm_beta",
        "mlp_norm_gamma",
    ];
    let absent = json!({"dtype": "None", "shape": null, "strides": null, "offset": -1});
    for rank in 0..2 {
        let held = bytes(&out.join(format!("params_rank_{rank}_of_2.pt")), rank);
        let of = layer(&out, rank, "transformer_layer_1");
        assert_eq!(of.as_object().unwrap().keys().collect::<Vec<_>>(), order);
        let vector = |name: &str| {
            let core = &of[name]["core_param"];
            let start = core["offset"].as_u64().unwrap() as usize;
            held[start..start + 2 * core["shape"][0].as_u64().unwrap() as usize].to_vec()
        };
        let stored = |name: &str, from: usize, to: usize| {
            let (_, bytes) = &own[&format!("decoder.layers.1.{name}.bias")];
            bytes[2 * from..2 * to].to_vec()
        };
        // Three heads are two and one, three runs of 32 are two and one.
        let (heads, runs) = [((0, 8), (0, 64)), ((8, 12), (64, 96))][rank];
        let qkv = ["q_proj", "k_proj", "v_proj"]
            .map(|part| stored(&format!("self_attn.{part}"), heads.0, heads.1));
        assert_eq!(vector("qkv_b"), qkv.concat(), "rank {rank}");
        assert_eq!(vector("mlp_1_b"), stored("fc1", runs.0, runs.1), "rank {rank}");
        if rank == 0 {
            assert_eq!(vector("attn_out_b"), stored("self_attn.out_proj", 0, 12));
            assert_eq!(vector("mlp_2_b"), stored("fc2", 0, 12));
        } else {
            assert_eq!(of["attn_out_b"]["core_param"], absent);
            assert_eq!(of["mlp_2_b"]["core_param"], absent);
        }
    }
}

/// A class loads all of its model: one without a norm at its end, or without biases, is none of it.
#[test]
fn a_model_of_which_a_part_is_missing_is_refused() {
    let folder = tempdir().unwrap();
    let mut told = String::new();
    for what in ["decoder.final_layer_norm", "bias"] {
        let source = opt(&folder.path().join(what), what);
        let out = folder.path().join("out");
        let ended = ucl(&[&["convert", text(&source), text(&out)], &TO[..]].concat());
        assert_eq!(ended.code, 2, "{what}\n{}", ended.text());
        assert!(!out.exists(), "{what}");
        told += &format!("## {what}\n{}\n", ended.err);
    }
    insta::assert_snapshot!(told);
}
