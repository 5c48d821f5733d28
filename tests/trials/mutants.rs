//! One wrong line at a time, in the shipped specs. Each passes every proof and every round trip; an
//! `expect` tells.

use crate::shipped::specs;
use std::fs;
use tempfile::TempDir;
use ucl_plan::{Trial, Verdict, trials};
use ucl_tests::command::ucl;

/// Spec, a text that stands in it once, and the wrong one.
const MUTANTS: &[(&str, &str, &str)] = &[
    // The order of rows in a fused qkv.
    (
        "decoder",
        "view megatron when checkpoint_version ?? 2 > 1 and rotary_interleaved = 0 {  # megatron/legacy; nested dicts are joined with dots\n  dims qkv = k (q|1|1) d",
        "view megatron when checkpoint_version ?? 2 > 1 and rotary_interleaved = 0 {\n  dims qkv = n d | k d | k d",
    ),
    (
        "decoder",
        "when checkpoint_version < 1 and rotary_interleaved = 0 { dims qkv = n d | k d | k d }",
        "when checkpoint_version < 1 and rotary_interleaved = 0 { dims qkv = k (q|1|1) d }",
    ),
    (
        "decoder",
        "when checkpoint_version = 1 and rotary_interleaved = 0 { dims qkv = k d (q|1|1) }",
        "when checkpoint_version = 1 and rotary_interleaved = 0 { dims qkv = k (q|1|1) d }",
    ),
    (
        "decoder",
        "view mcore when rotary_interleaved = 0 {  # Transformer Engine names\n  dims qkv = k (q|1|1) d",
        "view mcore when rotary_interleaved = 0 {\n  dims qkv = n d | k d | k d",
    ),
    (
        "decoder",
        "\"self_attention.linear_qkv.{weight,bias}\"            : qkv h   = attn.q | attn.k | attn.v",
        "\"self_attention.linear_qkv.{weight,bias}\"            : qkv h   = attn.q | attn.v | attn.k",
    ),
    (
        "bloom",
        ": (k (q|1|1) d) h = attn.q | attn.k | attn.v",
        ": (n d | k d | k d) h = attn.q | attn.k | attn.v",
    ),
    (
        "gpt-neox",
        ": (k (q|1|1) d) h = attn.q | attn.k | attn.v",
        ": (n d | k d | k d) h = attn.q | attn.k | attn.v",
    ),
    (
        "gpt2",
        ": h (n d | k d | k d) = attn.q | attn.k | attn.v",
        ": h (k (q|1|1) d) = attn.q | attn.k | attn.v",
    ),
    (
        "gpt2",
        ": h (n d | k d | k d) = attn.q | attn.k | attn.v",
        ": h (n d | k d | k d) = attn.q | attn.v | attn.k",
    ),
    (
        "phi3",
        ": (n d | k d | k d) h = attn.q | attn.k | attn.v",
        ": (k (q|1|1) d) h = attn.q | attn.k | attn.v",
    ),
    (
        "phi3-small",
        ": (k (q|1|1) d) h = attn.q | attn.k | attn.v",
        ": (n d | k d | k d) h = attn.q | attn.k | attn.v",
    ),
    // RoPE pairs.
    (
        "llama",
        "\"attention.wq.weight\"    : (n i r) h = attn.q",
        "\"attention.wq.weight\"    : (n d) h = attn.q",
    ),
    (
        "llama",
        "\"attention.wk.weight\"    : (k i r) h = attn.k",
        "\"attention.wk.weight\"    : (k d) h = attn.k",
    ),
    (
        "llama",
        "\"self_attn.q_proj.{weight,bias}\"  : (n d) h = attn.q",
        "\"self_attn.q_proj.{weight,bias}\"  : (n i r) h = attn.q",
    ),
    (
        "llama",
        "\"self_attn.k_proj.{weight,bias}\"  : (k d) h = attn.k",
        "\"self_attn.k_proj.{weight,bias}\"  : (k i r) h = attn.k",
    ),
    // Gate and up.
    (
        "llama",
        "\"mlp.dense_h_to_4h.{weight,bias}\" : (f|f) h = mlp.gate | mlp.up",
        "\"mlp.dense_h_to_4h.{weight,bias}\" : (f|f) h = mlp.up | mlp.gate",
    ),
    (
        "llama",
        "\"mlp.linear_fc1.{weight,bias}\" : (f|f) h = mlp.gate | mlp.up",
        "\"mlp.linear_fc1.{weight,bias}\" : (f (1|1)) h = mlp.gate | mlp.up",
    ),
    (
        "mixtral",
        "\"mlp.experts.gate_up_proj\"        : e (f|f) h = expert.gate | expert.up",
        "\"mlp.experts.gate_up_proj\"        : e (f|f) h = expert.up | expert.gate",
    ),
    (
        "mixtral",
        "\"linear_fc1.weight{e}\" : (f|f) h = expert.gate | expert.up",
        "\"linear_fc1.weight{e}\" : (f|f) h = expert.up | expert.gate",
    ),
    ("phi3", "(f|f) h             = mlp.gate | mlp.up", "(f|f) h             = mlp.up | mlp.gate"),
    (
        "phi3",
        "(f|f) h             = mlp.gate | mlp.up",
        "(f (1|1)) h             = mlp.gate | mlp.up",
    ),
    ("phi3-small", "(f (1|1)) h     = mlp.gate | mlp.up", "(f|f) h     = mlp.gate | mlp.up"),
    ("phi3-small", "(f (1|1)) h     = mlp.gate | mlp.up", "(f (1|1)) h     = mlp.up | mlp.gate"),
    // Transposed weights.
    ("gpt2", "\"attn.c_proj.{weight,bias}\" : (n d) h", "\"attn.c_proj.{weight,bias}\" : h (n d)"),
    ("gpt2", "\"mlp.c_fc.{weight,bias}\"    : h f", "\"mlp.c_fc.{weight,bias}\"    : f h"),
    (
        "gpt-neox",
        "\"attention.dense.{weight,bias}\"           : h (n d)",
        "\"attention.dense.{weight,bias}\"           : (n d) h",
    ),
    (
        "llama",
        "\"self_attn.o_proj.{weight,bias}\"  : h (n d) = attn.o",
        "\"self_attn.o_proj.{weight,bias}\"  : (n d) h = attn.o",
    ),
    (
        "mixtral",
        "\"w2\"          : (e f) h = expert.down",
        "\"w2\"          : (e h) f = expert.down",
    ),
    (
        "mixtral",
        "\"weight1\" : e h (f|f) declared h (e (f|f))",
        "\"weight1\" : e (f|f) h declared h (e (f|f))",
    ),
    (
        "phi3-moe",
        "\"model.layers.{l}.mlp.router.weight\" : e h = router",
        "\"model.layers.{l}.mlp.router.weight\" : h e = router",
    ),
    // Cuts.
    ("decoder", "  shard qkv over tp", "  #"),
    ("llama", "  shard k over tp repeat", "  shard k over tp uneven"),
    ("llama", "  shard h of embed over tp", "  #"),
    ("mixtral", "  shard e of expert over ep  # not of the router", "  shard e over ep"),
];

#[test]
fn a_wrong_line_fails() {
    for (spec, right, wrong) in MUTANTS {
        let path = specs().into_iter().find(|path| path.file_stem().unwrap() == *spec).unwrap();
        let text = fs::read_to_string(path).unwrap();
        assert_eq!(text.matches(right).count(), 1, "{spec}: {right}");
        let mut library = ucl_specs::library();
        library.add("mutated.ucl", &text.replace(right, wrong));
        let program = match library.compile(spec) {
            Ok(program) => program,
            Err(mistakes) => panic!("{spec}: {wrong}: it passes every proof\n{mistakes:#?}"),
        };
        let trials = trials(&program);
        let fails = |trial: &&Trial<'_>| matches!(trial.run(), Verdict::Failed(_));
        let told = trials.iter().filter(|trial| trial.is_expect()).find(fails);
        assert!(told.is_some(), "{spec}: every expect holds with {wrong}");
    }
}

#[test]
fn the_command_says_so() {
    let scratch = TempDir::new().unwrap();
    let mutated = scratch.path().join("small.ucl");
    let path = specs().into_iter().find(|path| path.ends_with("phi3-small.ucl")).unwrap();
    let text = fs::read_to_string(path).unwrap();
    fs::write(&mutated, text.replace("(f (1|1)) h", "(f|f) h")).unwrap();
    let mutated = mutated.to_str().unwrap();
    assert_eq!(ucl(&["check", mutated]).code, 0);
    let ended = ucl(&["test", mutated]);
    assert_eq!(ended.code, 1, "{}", ended.text());
    assert!(ended.err.contains("mlp.up_proj.weight"), "{}", ended.text());
    assert!(ended.out.contains("FAILED"), "{}", ended.text());
}
