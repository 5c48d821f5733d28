//! Rows of a vocabulary that only fill it up: a run need not say how many there are, a config does.

use serde_json::json;
use std::fs;
use ucl_tests::made::llama::SMALL;
use ucl_tests::made::run::Zero;
use ucl_tests::{command::convert, written};

#[test]
fn the_config_of_the_model_says_what_a_run_does_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let mut run = SMALL.run(2, 2, Zero::Bf16);
    run.info.as_object_mut().expect("an object").remove("original_vocab_size");
    run.write(&at("run"));
    let config = json!({
        "model_type": "llama", "hidden_size": SMALL.hidden, "intermediate_size": SMALL.ffn,
        "num_hidden_layers": SMALL.layers, "num_attention_heads": SMALL.heads,
        "num_key_value_heads": SMALL.kv, "head_dim": SMALL.head, "vocab_size": SMALL.vocab,
        "tie_word_embeddings": false,
    });
    fs::create_dir(at("config")).expect("a folder");
    fs::write(at("config/config.json"), config.to_string()).expect("a file");
    let said = convert(&at("run"), &at("kept"), &[]);
    let padded = SMALL.padded(2) as u64;
    assert_ne!(padded, SMALL.vocab as u64);
    let kept = written::states(&at("kept"));
    assert_eq!(kept["fp32"]["embed"].shape, [padded, SMALL.hidden as u64], "{}", said.text());
    assert!(said.text().contains("padding"), "{}", said.text());
    let config = at("config");
    convert(&at("run"), &at("cut"), &["--config", &config.to_string_lossy()]);
    assert_eq!(written::states(&at("cut")), SMALL.universal());
}
