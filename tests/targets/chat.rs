//! What the steps of DeepSpeed-Chat load: an actor, a critic, a reward model.

use crate::{commutes, equal, files, same, sound, text};
use std::path::Path;
use ucl_tests::command::{convert, ucl};
use ucl_tests::oracle::sets;
use ucl_tests::{fixture, written};

const CHAT: &[&str] = &["--to", "deepspeed-chat"];

/// The tensors of a folder, read by way of safetensors.
fn model(folder: &Path, view: &str) -> ucl_tests::oracle::Tensors {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("hf");
    convert(folder, &out, &["--to", "hf", "--view", view]);
    written::model(&out)
}

#[test]
fn what_its_own_steps_saved_comes_back() {
    for (part, view) in [("actor", "hf"), ("actor_ema", "hf"), ("critic", "deepspeed-chat")] {
        let source = fixture("dschat-run").join(part);
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join(part);
        convert(&source, &out, CHAT);
        let made = files(&out);
        assert_eq!(made.keys().collect::<Vec<_>>(), ["config.json", "pytorch_model.bin"]);
        // A critic has no head, whose tie its config could say wrongly.
        assert_eq!(made["config.json"], std::fs::read(source.join("config.json")).unwrap());
        assert_eq!(model(&out, view), model(&source, view), "{part}");
        equal(&source, &out, &[]);
        sound(&out);
    }
}

#[test]
fn a_run_of_zero_3_becomes_one_whole_file() {
    let name = "z3-llama-bf16-dp4-groups2";
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("actor");
    let config = fixture("configs").join("hf-llama-fp32");
    convert(&fixture(name), &out, &[CHAT, &["--config", text(&config)]].concat());
    let live = sets(&fixture(name).join("oracle/oracle.json"));
    assert_eq!(model(&out, "hf"), live["live.model"]);
    assert_eq!(files(&out).len(), 2);
    commutes((name, &[]), CHAT);
}

/// No real run of a critic with its optimizer is at hand: every value is its own address.
#[test]
fn a_critic_of_any_stage_becomes_one_whole_file() {
    let folder = tempfile::tempdir().unwrap();
    let [run, three, universal, direct, of_three, through] =
        ["run", "three", "universal", "direct", "of_three", "through"]
            .map(|f| folder.path().join(f));
    let sizes = ["l=2", "k=2", "q=2", "i=2", "h=16", "f=24", "v=24"];
    let arguments = ["synth", "reward-llama", text(&run), "--to", "deepspeed"];
    let view = ["--view", "deepspeed-chat"];
    let sizes = sizes.map(|size| ["--set", size]).concat();
    let ended = ucl(&[&arguments[..], &view, &sizes].concat());
    assert_eq!(ended.code, 0, "{}", ended.text());
    convert(&run, &three, &["--to", "deepspeed", "--zero", "3", "--mesh", "dp=3"]);
    convert(&three, &universal, &[]);
    convert(&run, &direct, CHAT);
    convert(&three, &of_three, CHAT);
    convert(&universal, &through, CHAT);
    same(&direct, &of_three, "ZeRO-3");
    same(&direct, &through, "universal");
    let names = model(&direct, "deepspeed-chat");
    assert_eq!(names["v_head.weight"].shape, [1, 16]);
    assert!(names.contains_key("rwtransformer.layers.1.mlp.gate_proj.weight"));
    let weights = ["--states", "weights"];
    equal(&run, &direct, &weights);
}

#[test]
fn low_rank_pairs_are_folded_as_its_steps_fold_them() {
    let actor = fixture("lora-dschat-llama-bf16/actor");
    let folder = tempfile::tempdir().unwrap();
    let (chat, hf) = (folder.path().join("chat"), folder.path().join("hf"));
    convert(&actor, &chat, &[CHAT, &["--merge-lora"]].concat());
    convert(&actor, &hf, &["--to", "hf", "--merge-lora"]);
    assert_eq!(model(&chat, "hf"), written::model(&hf));
}

#[test]
fn what_its_steps_cannot_load_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut said = String::new();
    for (source, flags) in [
        ("z3-llama-bf16-dp4-groups2", &["--mesh", "tp=2"][..]),
        ("z3-llama-bf16-dp4-groups2", &["--states", "all"]),
        ("z3-llama-bf16-dp4-groups2", &["--view", "mcore"]),
        ("lora-dschat-llama-bf16/actor", &[]),
        ("dschat-run", &[]),
    ] {
        let (source, out) = (fixture(source), folder.path().join("out"));
        let arguments = ["convert", text(&source), text(&out), "--to", "deepspeed-chat"];
        let ended = ucl(&[&arguments, flags].concat());
        assert_ne!(ended.code, 0, "{flags:?}: {}", ended.text());
        assert!(!out.exists(), "{flags:?}");
        said += &format!("=== {}\n{}\n", flags.join(" "), ended.err);
    }
    insta::assert_snapshot!(said.replace(text(&fixture("")), "FIXTURES/"));
}

#[test]
fn the_same_bytes_for_any_jobs() {
    let folder = tempfile::tempdir().unwrap();
    let (one, eight) = (folder.path().join("one"), folder.path().join("eight"));
    let run = fixture("z3-llama-bf16-dp4-groups2");
    convert(&run, &one, &[CHAT, &["--jobs", "1", "--memory", "4MiB"]].concat());
    convert(&run, &eight, &[CHAT, &["--jobs", "8"]].concat());
    same(&one, &eight, "jobs");
}

/// What its examples train: an actor of OPT goes as it is.
#[test]
fn an_actor_of_opt() {
    for name in ["hf-opt-fp16", "hf-opt-projected-fp16"] {
        let source = fixture(name).join("hf");
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("actor");
        convert(&source, &out, CHAT);
        assert_eq!(model(&out, "hf"), model(&source, "hf"), "{name}");
        let names = model(&out, "hf");
        assert!(names.contains_key("model.decoder.layers.1.fc1.bias"), "{name}");
        equal(&source, &out, &[]);
        sound(&out);
    }
}

/// The base model under `rwtransformer.`, and a value of the width of the embedding, which 350M has
/// narrower than its layers.
#[test]
fn critics_of_its_families() {
    let cases = [
        ("opt", &["d=4", "w=16", "c=9"][..], "rwtransformer.decoder.layers.1.fc1.weight"),
        ("bloom", &["i=2"], "rwtransformer.h.1.mlp.dense_h_to_4h.weight"),
        ("gpt2", &["i=2", "c=9"], "rwtransformer.h.1.mlp.c_fc.weight"),
        ("gpt-neox", &["i=2"], "rwtransformer.layers.1.mlp.dense_h_to_4h.weight"),
    ];
    for (family, sizes, name) in cases {
        let folder = tempfile::tempdir().unwrap();
        let (run, out) = (folder.path().join("run"), folder.path().join("critic"));
        let reward = format!("reward-{family}");
        let mut arguments = vec!["synth", &reward, text(&run), "--to", "deepspeed"];
        arguments.extend(["--view", "deepspeed-chat", "--mesh", "dp=2"]);
        if family == "opt" {
            arguments.extend(["--with", "project", "--with", "bias", "--with", "attn.norm"]);
            arguments.extend(["--with", "mlp.norm"]);
        }
        let usual = ["l=2", "k=4", "q=1", "h=10", "f=24", "v=24"];
        arguments.extend(usual.iter().chain(sizes).flat_map(|size| ["--set", size]));
        let ended = ucl(&arguments);
        assert_eq!(ended.code, 0, "{}", ended.text());
        // How rows fall into heads is in no shape.
        let heads = ["--set", "k=4", "--set", "d=4"];
        convert(&run, &out, &[CHAT, &heads].concat());
        let hf = folder.path().join("hf");
        convert(&out, &hf, &[&["--to", "hf", "--view", "deepspeed-chat"][..], &heads].concat());
        let tensors = written::model(&hf);
        assert_eq!(tensors["v_head.weight"].shape, [1, 10], "{family}");
        assert!(tensors.contains_key(name), "{family}: {:?}", tensors.keys());
        equal(&run, &out, &[&["--states", "weights"], &heads[..]].concat());
    }
}
