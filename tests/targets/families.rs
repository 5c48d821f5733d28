//! Every family, from Megatron-DeepSpeed's ranks to every target that has a view of it: straight the same as
//! through a universal folder, byte for byte, and back again the same values. Each value is its own address.

use crate::{equal, same, text};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use ucl_tests::command::{convert, ucl};

/// A model, and the sizes that its config.json says.
struct Family {
    model: &'static str,
    config: Value,
}

fn family(model: &'static str, kind: &str, own: &Value) -> Family {
    let mut config = json!({
        "model_type": kind, "hidden_size": 32, "num_attention_heads": 8, "num_hidden_layers": 4,
        "vocab_size": 100, "intermediate_size": 64, "tie_word_embeddings": false,
        "max_position_embeddings": 64,
    });
    let own = own.as_object().unwrap().clone();
    config.as_object_mut().unwrap().extend(own);
    Family { model, config }
}

/// Targets: format, view, mesh, more flags.
type Target = (&'static str, &'static str, &'static str, &'static [&'static str]);

/// Those of every family that Megatron-DeepSpeed has.
const COMMON: [Target; 6] = [
    ("deepspeed", "deepspeed-pipe", "tp=4,pp=2,dp=2", &["--zero", "1"]),
    ("deepspeed", "deepspeed", "tp=2,dp=3", &["--zero", "3"]),
    ("deepspeed", "hf", "dp=3", &["--zero", "2"]),
    ("deepspeed-universal", "deepspeed", "tp=4", &[]),
    ("dcp", "hf", "dp=3", &[]),
    ("hf", "hf", "", &["--states", "all"]),
];

const MEGATRON: [Target; 3] = [
    ("megatron", "megatron", "tp=2,pp=2", &[]),
    ("megatron", "mcore", "tp=4,pp=2,vpp=2", &[]),
    ("torch-dist", "torch-dist", "tp=2,pp=2", &["--optimizer", "plain"]),
];

const EXPERTS: [Target; 6] = [
    ("deepspeed", "deepspeed", "tp=2,dp=3", &["--zero", "1"]),
    ("deepspeed", "hf", "dp=3", &["--zero", "3"]),
    ("megatron", "mcore", "tp=2,pp=2,ep=2", &[]),
    ("megatron", "mcore-grouped", "tp=4,pp=2,vpp=2", &[]),
    ("torch-dist", "torch-dist", "dp=2", &["--optimizer", "distributed"]),
    ("dcp", "hf", "dp=3", &[]),
];

const SERVED: Target = ("fastgen", "", "tp=2", &[]);

impl Family {
    /// A run of Megatron-DeepSpeed, or of a view whose tensors are whole.
    fn made(&self, folder: &TempDir, view: &str, mesh: &str) -> (PathBuf, [String; 2]) {
        let [run, config] = ["run", "config"].map(|name| folder.path().join(name));
        std::fs::create_dir_all(&config).unwrap();
        std::fs::write(config.join("config.json"), self.config.to_string()).unwrap();
        let config = ["--config".to_owned(), text(&config).to_owned()];
        let made = ["synth", self.model, text(&run), "--to", "deepspeed", "--view", view, "--mesh"];
        let sizes = [mesh, "--set", "m=16", &config[0], &config[1], "--overwrite"];
        let ended = ucl(&[&made[..], &sizes].concat());
        assert_eq!(ended.code, 0, "{}", ended.text());
        (run, config)
    }

    fn goes_through(&self, view: &str, mesh: &str, targets: &[Target]) {
        let folder = tempfile::tempdir().unwrap();
        let (run, config) = self.made(&folder, view, mesh);
        let config = [&*config[0], &*config[1]];
        let of_run = [&["--spec", self.model, "--from-view", view][..], &config].concat();
        let universal = folder.path().join("universal");
        convert(&run, &universal, &of_run);
        for (number, target) in targets.iter().enumerate() {
            let (to, named, over, more) = *target;
            let mut flags = [&["--to", to][..], more].concat();
            flags.extend(
                [["--view", named], ["--mesh", over]].iter().filter(|f| !f[1].is_empty()).flatten(),
            );
            let what = format!("{} {view} {}", self.model, flags.join(" "));
            let at = |name: &str| folder.path().join(format!("{name}{number}"));
            let (direct, through) = (at("direct"), at("through"));
            convert(&run, &direct, &[&flags[..], &of_run].concat());
            convert(&universal, &through, &[&flags[..], &config].concat());
            same(&direct, &through, &what);
            if !["fastgen", "deepspeed-chat", "hf"].contains(&to) {
                let of_target =
                    [&["--spec", self.model, "--from-view", named][..], &config].concat();
                let back = self.back(&direct, &at("back"), (view, mesh), &of_target);
                equal(&run, &back, &of_run);
            }
            std::fs::remove_dir_all(direct).unwrap();
        }
    }

    /// The run that it was, made of a target.
    fn back(
        &self,
        target: &Path,
        out: &Path,
        (view, mesh): (&str, &str),
        read: &[&str],
    ) -> PathBuf {
        let own = ["--to", "deepspeed", "--view", view, "--mesh", mesh];
        // FSDP keeps masters alone.
        let types = ["--zero", "bf16-optimizer", "--dtype", "bf16"];
        convert(target, out, &[&own[..], &types, read].concat());
        out.to_owned()
    }

    /// From the names that are no pipeline's, and from a pipeline's to every second target.
    fn goes_everywhere(&self, targets: &[&[Target]]) {
        let targets = targets.concat();
        self.goes_through("deepspeed", "tp=2,dp=2", &targets);
        let second: Vec<Target> = targets.into_iter().step_by(2).collect();
        self.goes_through("deepspeed-pipe", "tp=2,pp=2", &second);
    }
}

fn grouped() -> Value {
    json!({"num_key_value_heads": 4})
}

#[test]
fn gpt2() {
    let own = json!({"n_embd": 32, "n_head": 8, "n_layer": 4, "n_positions": 64, "n_inner": null});
    family("gpt2", "gpt2", &own).goes_everywhere(&[&COMMON, &MEGATRON]);
}

#[test]
fn bloom() {
    // Megatron-core has no norm behind the embedding.
    let own = json!({"n_head": 8, "n_layer": 4});
    family("bloom", "bloom", &own).goes_everywhere(&[&COMMON, &MEGATRON[..1]]);
}

#[test]
fn gpt_neox() {
    let own = json!({"rotary_pct": 0.5});
    let family = family("gpt-neox", "gpt_neox", &own);
    family.goes_everywhere(&[&COMMON, &MEGATRON]);
    family.goes_through("neox-lib", "tp=2,pp=2", &[COMMON[0], COMMON[2], MEGATRON[1]]);
}

#[test]
fn llama() {
    family("llama", "llama", &grouped()).goes_everywhere(&[&COMMON, &MEGATRON, &[SERVED]]);
}

#[test]
fn phi3() {
    family("phi3", "phi3", &grouped()).goes_everywhere(&[&COMMON, &MEGATRON, &[SERVED]]);
}

#[test]
fn phi3_small() {
    let own =
        json!({"num_key_value_heads": 4, "ff_intermediate_size": 64, "tie_word_embeddings": true});
    family("phi3-small", "phi3small", &own).goes_everywhere(&[&COMMON, &MEGATRON]);
}

#[test]
fn mixtral() {
    let own = json!({"num_key_value_heads": 4, "num_local_experts": 4});
    family("mixtral", "mixtral", &own).goes_everywhere(&[&EXPERTS, &[SERVED], &COMMON[5..]]);
}

#[test]
fn phi3_moe() {
    let own = json!({"num_key_value_heads": 4, "num_local_experts": 4});
    family("phi3-moe", "phimoe", &own).goes_everywhere(&[&EXPERTS, &COMMON[5..]]);
}

#[test]
fn a_value_head_on_any_of_them() {
    const CRITIC: &str = "deepspeed-chat";
    let experts = json!({"num_key_value_heads": 4, "num_local_experts": 4});
    for (model, kind, own) in [
        (
            "reward-gpt2",
            "gpt2",
            json!({"n_embd": 32, "n_head": 8, "n_layer": 4, "n_positions": 64, "n_inner": null}),
        ),
        ("reward-bloom", "bloom", json!({"n_head": 8, "n_layer": 4})),
        ("reward-gpt-neox", "gpt_neox", json!({"rotary_pct": 0.5})),
        ("reward-llama", "llama", grouped()),
        ("reward-mixtral", "mixtral", experts),
    ] {
        let targets: [Target; 4] = [
            ("deepspeed", CRITIC, "dp=3", &["--zero", "3"]),
            ("deepspeed-universal", CRITIC, "", &[]),
            ("dcp", CRITIC, "dp=2", &[]),
            ("deepspeed-chat", CRITIC, "", &[]),
        ];
        family(model, kind, &own).goes_through(CRITIC, "dp=2", &targets);
    }
}
