//! What a run of DeepSpeed-Chat leaves: an actor, its average, a critic with a value head.

use serde_json::Value;
use std::fs;
use std::path::Path;
use tempfile::TempDir;
use ucl_tests::command::{convert, ucl};
use ucl_tests::{fixture, written};

#[test]
fn an_actor_is_a_causal_model() {
    let scratch = TempDir::new().unwrap();
    for part in ["actor", "actor_ema"] {
        let out = scratch.path().join(part);
        convert(&fixture("dschat-run").join(part), &out, &["--to", "hf"]);
        let model = written::model(&out);
        assert_eq!(model.len(), 21);
        assert!(model.values().all(|known| known.dtype == "F16"));
    }
    assert_ne!(
        written::model(&scratch.path().join("actor")),
        written::model(&scratch.path().join("actor_ema"))
    );
}

#[test]
fn a_critic_is_a_model_with_a_value_head() {
    let critic = fixture("dschat-run").join("critic");
    let scratch = TempDir::new().unwrap();
    let [universal, model] = ["universal", "model"].map(|out| scratch.path().join(out));
    let told = convert(&critic, &universal, &[]);
    assert!(told.out.contains("model reward-gpt2 · view deepspeed-chat"), "{}", told.out);
    let states = written::states(&universal);
    let value = &states["param"]["value"];
    assert_eq!(value.shape, [16]);
    // 21 words, made a multiple of 8.
    assert_eq!(states["param"]["embed"].shape, [24, 16]);
    let view = ["--to", "hf", "--view", "deepspeed-chat"];
    convert(&critic, &model, &view);
    let names = written::model(&model);
    assert_eq!(names["v_head.weight"].shape, [1, 16]);
    assert_eq!(names["v_head.weight"].sha256, value.sha256);
    assert!(names.contains_key("rwtransformer.h.1.attn.c_attn.weight"));
    let config: Value =
        serde_json::from_slice(&fs::read(model.join("config.json")).unwrap()).unwrap();
    assert_eq!(config["vocab_size"], 24);
    // The universal folder carries its spec, and that its view is one of transformers.
    let again = scratch.path().join("again");
    convert(&universal, &again, &view);
    assert_eq!(written::model(&again), names);
    let config = |folder: &Path| fs::read(folder.join("config.json")).unwrap();
    assert_eq!(config(&again), config(&model));
}

#[test]
fn a_critic_has_no_language_model_head() {
    let critic = fixture("dschat-run").join("critic");
    let scratch = TempDir::new().unwrap();
    let (critic, out) = (critic.to_string_lossy(), scratch.path().join("out"));
    let refused = ucl(&["convert", &critic, &out.to_string_lossy(), "--to", "hf"]);
    assert_eq!(refused.code, 2, "{}", refused.text());
    insta::assert_snapshot!(refused.err);
}
