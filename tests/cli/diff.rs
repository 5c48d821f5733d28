//! `ucl diff` of sides that know different things of one model.

use crate::redact::redacted;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use ucl_tests::command::{Ended, ucl};
use ucl_tests::fixture;

const RUN: &str = "z1-llama-fp32-dp2";
const TIED: &str = "mlm-gpt-tp1-pp2-bf16-torch-tied";

/// What a run becomes for Hugging Face.
fn converted(name: &str, scratch: &TempDir, more: &[&str]) -> PathBuf {
    let (run, out) = (fixture(name), scratch.path().join("out"));
    let mut line = vec!["convert", run.to_str().unwrap(), out.to_str().unwrap(), "--to", "hf"];
    line.extend(more);
    let ended = ucl(&line);
    assert_eq!(ended.code, 0, "{}", ended.text());
    out
}

fn weights(a: &Path, b: &Path, more: &[&str]) -> Ended {
    let mut line = vec!["diff", a.to_str().unwrap(), b.to_str().unwrap(), "--states", "weights"];
    line.extend(more);
    ucl(&line)
}

/// Flips the last bit of a tensor of a safetensors file.
fn damage(file: &Path, tensor: &str) {
    let mut bytes = std::fs::read(file).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let names: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let end = names[tensor]["data_offsets"][1].as_u64().unwrap() as usize;
    bytes[8 + header + end - 4] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

/// Without its config a run does not say how many heads there are.
#[test]
fn a_dim_that_one_side_splits_is_no_difference() {
    let scratch = TempDir::new().unwrap();
    let config = fixture("hf-llama-fp32/hf");
    let out = converted(RUN, &scratch, &["--config", config.to_str().unwrap()]);
    let ended = weights(&fixture(RUN), &out, &[]);
    assert_eq!(ended.code, 0, "{}", ended.text());
    insta::assert_snapshot!("split_dims", redacted(&ended, scratch.path()));

    damage(&out.join("model.safetensors"), "model.layers.1.self_attn.q_proj.weight");
    let ended = weights(&fixture(RUN), &out, &[]);
    assert_eq!(ended.code, 1, "{}", ended.text());
    assert!(ended.out.contains("l.1.attn.q"), "{}", ended.out);
    assert!(ended.out.contains("1 of 1,024"), "{}", ended.out);
}

fn config_of_tied(scratch: &TempDir) -> String {
    let config = r#"{"model_type": "gpt2", "n_layer": 4, "n_embd": 32, "n_inner": 68, "n_head": 4,
        "n_positions": 16, "vocab_size": 101}"#;
    let folder = scratch.path().join("config");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("config.json"), config).unwrap();
    folder.to_str().unwrap().to_owned()
}

/// A Megatron-LM run is a decoder until something says that it is a GPT-2.
#[test]
fn a_decoder_is_compared_as_the_family_of_the_other_side() {
    let scratch = TempDir::new().unwrap();
    let config = config_of_tied(&scratch);
    let out = converted(TIED, &scratch, &["--config", &config]);
    let ended = weights(&fixture(TIED), &out, &[]);
    assert_eq!(ended.code, 0, "{}", ended.text());
    insta::assert_snapshot!("families", redacted(&ended, scratch.path()));
    let swapped = weights(&out, &fixture(TIED), &[]);
    assert_eq!(swapped.code, 0, "{}", swapped.text());
}

/// Without a config the folder does not say how many heads there are, and the run does.
#[test]
fn nor_does_that_take_a_config() {
    let scratch = TempDir::new().unwrap();
    let out = converted(TIED, &scratch, &[]);
    let ended = weights(&fixture(TIED), &out, &[]);
    assert_eq!(ended.code, 0, "{}", ended.text());
}

#[test]
fn nothing_in_common_is_no_answer() {
    let ended = weights(&fixture("hf-llama-fp32/hf"), &fixture("hf-gpt2-fp32/hf"), &[]);
    assert_eq!(ended.code, 2, "{}", ended.text());
    insta::assert_snapshot!("two_models", redacted(&ended, Path::new("/no scratch")));
}
