//! `--view stored`: every tensor of the live training, and nothing else.

use std::collections::BTreeSet;
use ucl_tests::oracle::{Tensors, sets};
use ucl_tests::{command::convert, fixture, written};

/// Converts a fixture and compares all states with the live ones; `own` are the names that only the
/// model's own state has.
pub(crate) fn check(name: &str, own: &[&str]) {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    convert(&fixture(name), &out, &["--view", "stored"]);
    let mut written = written::states(&out);
    let oracle = sets(&fixture(name).join("oracle/oracle.json"));
    let param: Tensors = written.remove("param").unwrap_or_default();
    let names: BTreeSet<&str> = param.keys().map(String::as_str).collect();
    assert_eq!(names, own.iter().copied().collect(), "{name}: weights without a master");
    for (tensor, known) in &param {
        if let Some(live) = oracle.get("live.model").and_then(|model| model.get(tensor)) {
            assert_eq!(known, live, "{name}: {tensor}");
        }
    }
    let states: BTreeSet<String> = oracle
        .keys()
        .filter(|set| *set != "live.model")
        .map(|set| set.replace("live.", ""))
        .collect();
    assert_eq!(written.keys().cloned().collect::<BTreeSet<_>>(), states, "{name}: states");
    for (state, tensors) in &written {
        let live = &oracle[&format!("live.{state}")];
        assert_eq!(
            tensors.keys().collect::<Vec<_>>(),
            live.keys().collect::<Vec<_>>(),
            "{name}: names of {state}"
        );
        for (tensor, known) in tensors {
            assert_eq!(known, &live[tensor], "{name}: {tensor} ({state})");
        }
    }
}

#[test]
fn zero_1() {
    check("z1-llama-fp32-dp2", &[]);
    check("z1-llama-fp16-dp2", &[]);
    check("z1-mixtral-bf16-dp2", &[]);
    check("z1-gpt2-fp32-dp4-groups3", &[]);
    // A pipeline of DeepSpeed's own: two modules, each of which a layer of each stage shares.
    check("ds-pipe-pp2-dp1-fp32", &["2.fixed.weight", "2.seen"]);
}

#[test]
fn bf16_optimizer() {
    check("z1-llama-bf16opt-dp2-groups2", &[]);
    check("ds-z1-buffer-tied-dp2-bf16", &["fixed.weight", "mean", "seen"]);
}

#[test]
fn zero_2_with_frozen_parameters() {
    let frozen = [
        "model.embed_tokens.weight",
        "model.layers.0.input_layernorm.weight",
        "model.layers.0.mlp.down_proj.weight",
        "model.layers.0.mlp.gate_proj.weight",
        "model.layers.0.mlp.up_proj.weight",
        "model.layers.0.post_attention_layernorm.weight",
        "model.layers.0.self_attn.k_proj.weight",
        "model.layers.0.self_attn.o_proj.weight",
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.0.self_attn.v_proj.weight",
    ];
    check("z2-llama-bf16-dp2-frozen", &frozen);
    // The embedding was left out when this was saved; the head, tied to it, was not.
    check("z2-qwen2-fp32-dp2-frozen-excl", &["lm_head.weight"]);
}

#[test]
fn zero_3() {
    check("z3-llama-bf16-dp4-groups2", &[]);
    check("ds-z3-adagrad-dp2-fp32", &[]);
    check("ds-z3-gathered-dp2-bf16", &[]);
    check("ds-z3-lion-dp2-fp32", &[]);
    check("ds-z3-sgd-dp2-fp32", &[]);
    check("ds-z3-subgroups-dp3-bf16", &["fixed.weight", "mean", "seen"]);
    let frozen = [
        "model.embed_tokens.weight",
        "model.layers.0.input_layernorm.weight",
        "model.layers.0.mlp.down_proj.weight",
        "model.layers.0.mlp.gate_up_proj.weight",
        "model.layers.0.post_attention_layernorm.weight",
        "model.layers.0.self_attn.o_proj.weight",
        "model.layers.0.self_attn.qkv_proj.weight",
    ];
    check("z3-phi3-fp32-dp2-frozen", &frozen);
}

#[test]
fn megatron_deepspeed() {
    check("megds-llama-tp2-pp2-dp1-bf16", &[]);
    check("megds-llama-tp2-pp1-dp1-z1-nopipe-fp32", &[]);
    check("megds-gpt-tp2-pp2-dp1-bf16", &[]);
    check("ds-z1-tp2-dp2-bf16", &[]);
}

#[test]
fn megatron_lm() {
    check("mlm-gpt-tp1-pp2-bf16-torch-tied", &[]);
    check("mlm-llama-tp2-pp2-bf16-torch", &[]);
    check("mlm-mixtral-tp1-pp1-ep2-bf16-torch", &[]);
}

#[test]
fn round_robin_order_and_alignment_gaps() {
    check("ds-z1-roundrobin-dp2-fp32", &[]);
    check("ds-z2-roundrobin-dp3-bf16", &[]);
    check("ds-z1-align-dp2-bf16", &[]);
}

#[test]
fn optimizers_other_than_adam() {
    check("ds-z1-sgd-dp2-fp32", &[]);
    check("ds-z1-lion-dp2-fp32", &[]);
    check("ds-z2-adagrad-dp2-fp32", &[]);
}

/// Experts are numbered over all ranks, and their masters and moments belong to the same numbers.
#[test]
fn mixtures_of_experts() {
    check("dsmoe-ep2-z1-fp32", &[]);
    check("moe-z1-ep2-dp4-fp32", &[]);
    check("moe-z1-residual-dp2-fp32", &[]);
    check("moe-z1-pp2-ep2-dp2-fp32", &[]);
    check("moe-z2-data-first-dp4-bf16", &[]);
    check("moe-z1-legacy-dp4-indexed", &[]);
    check("autoep-z1-ep2-dp4-indexed", &[]);
    check("autoep-z3-ep2-dp4-fp32", &[]);
}

#[test]
fn elastic_states() {
    check("ds-z1-elastic-dp2-fp32", &[]);
    check("ds-z2-elastic-dp3-bf16", &[]);
}

/// Without ZeRO, in fp32, the weights are the masters.
#[test]
fn without_zero() {
    check("ds-z0-dp2-bf16", &["fixed.weight", "mean", "seen"]);
    for name in ["ds-z0-dp2-fp32", "moe-z0-ep2-dp2-fp32"] {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("out");
        convert(&fixture(name), &out, &["--view", "stored"]);
        let written = written::states(&out);
        let oracle = sets(&fixture(name).join("oracle/oracle.json"));
        for (state, tensors) in &written {
            let set = if state == "param" { "model" } else { state.as_str() };
            let mut live = oracle[&format!("live.{set}")].clone();
            if name.starts_with("ds-") {
                live.remove("out.weight"); // tied to `emb.weight`
            }
            assert_eq!(tensors, &live, "{name}: {state}");
        }
        assert_eq!(written.len(), 3, "{name}");
    }
}
