//! Checkpoints made from addresses: read back, they are what they were made of, on any mesh.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod plans;

use safetensors::SafeTensors;
use std::fs;
use std::path::Path;
use tempfile::TempDir;
use ucl_tensor::{synth_f32, synth_seed};
use ucl_tests::command::{Ended, convert, ucl};

const SIZES: [&str; 8] = ["l=4", "k=2", "q=2", "i=4", "h=32", "f=48", "v=100", "m=16"];

fn synth(target: &Path, model: &str, view: &str, mesh: &str, more: &[&str]) -> Ended {
    let target = target.to_str().unwrap();
    let mut arguments =
        vec!["synth", model, target, "--to", "deepspeed", "--view", view, "--mesh", mesh];
    arguments.extend(SIZES.iter().flat_map(|size| ["--set", size]));
    arguments.extend(more);
    ucl(&arguments)
}

fn made(target: &Path, model: &str, view: &str, mesh: &str, more: &[&str]) {
    let ended = synth(target, model, view, mesh, more);
    assert_eq!(ended.code, 0, "{}", ended.text());
}

/// Every element of a universal folder is the value of its address; gives how many there are.
fn assert_addresses(folder: &Path) -> u64 {
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let Some((state, _)) = name.split_once("-00001-of-") else { continue };
        let bytes = fs::read(&path).unwrap();
        for (name, tensor) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
            let layer = name.strip_prefix("l.").and_then(|rest| rest.split_once('.'));
            let (layer, param) = layer.map_or((0, name.as_str()), |(l, p)| (l.parse().unwrap(), p));
            let seed = synth_seed(param, state);
            let len = tensor.data().len() as u64 / 4;
            for (at, value) in tensor.data().as_chunks::<4>().0.iter().enumerate() {
                let expected = synth_f32(seed, layer * len + at as u64);
                assert_eq!(f32::from_le_bytes(*value).to_bits(), expected.to_bits(), "{name} {at}");
            }
            count += len;
        }
    }
    count
}

#[test]
fn what_was_made_comes_back() {
    let scratch = TempDir::new().unwrap();
    let cases: [(&str, &str, &str, &[&str]); 7] = [
        ("llama", "deepspeed-pipe", "tp=2,pp=2,dp=3", &[]),
        ("llama", "deepspeed-pipe", "dp=1", &["--dtype", "fp32"]),
        ("llama", "deepspeed", "tp=2,dp=2", &["--tied"]),
        ("llama", "deepspeed", "tp=2,pp=2", &["--tied", "--dtype", "fp16"]),
        ("llama", "hf", "dp=2", &["--with", "attn.q.bias"]),
        ("gpt2", "deepspeed-pipe", "tp=2,dp=2", &["--set", "c=24"]),
        ("bloom", "deepspeed-pipe-2022", "tp=2,pp=2,dp=3", &[]),
    ];
    for (number, (model, view, mesh, more)) in cases.into_iter().enumerate() {
        let (source, target) =
            (scratch.path().join(number.to_string()), scratch.path().join(format!("{number}.u")));
        made(&source, model, view, mesh, more);
        let more: &[&str] = if model == "gpt2" { &["--from-view", view] } else { &[] };
        convert(&source, &target, more);
        assert!(assert_addresses(&target) > 3 * 30_000, "{view} {mesh}");
    }
}

#[test]
fn a_model_is_the_same_on_every_mesh() {
    let scratch = TempDir::new().unwrap();
    let (one, many) = (scratch.path().join("one"), scratch.path().join("many"));
    made(&one, "llama", "deepspeed-pipe", "dp=1,tp=1,pp=1", &[]);
    made(&many, "llama", "deepspeed-pipe", "dp=3,tp=2,pp=2", &[]);
    let ended = ucl(&["diff", one.to_str().unwrap(), many.to_str().unwrap()]);
    assert_eq!(ended.code, 0, "{}", ended.text());
}

/// With three digits, names are in another order as text than as numbers.
#[test]
fn ranks_and_layers_beyond_99() {
    let scratch = TempDir::new().unwrap();
    let wide =
        ["--set", "l=1", "--set", "k=104", "--set", "q=2", "--set", "f=104", "--set", "v=104"];
    let cases: [(&str, &str, &[&str]); 3] = [
        ("deepspeed", "dp=103", &["--set", "l=1"]),
        ("deepspeed", "tp=104", &wide),
        ("deepspeed-pipe", "pp=101", &["--set", "l=101", "--set", "h=8", "--set", "f=8"]),
    ];
    for (number, (view, mesh, more)) in cases.into_iter().enumerate() {
        let (source, target) =
            (scratch.path().join(number.to_string()), scratch.path().join(format!("{number}.u")));
        made(&source, "llama", view, mesh, more);
        convert(&source, &target, &[]);
        assert!(assert_addresses(&target) > 3 * 10_000, "{view} {mesh}");
    }
}

#[test]
fn hollow_runs_have_headers_alone() {
    use std::os::unix::fs::MetadataExt;
    let scratch = TempDir::new().unwrap();
    let source = scratch.path().join("run");
    let large = ["--set", "h=4096", "--set", "f=8192", "--sparse"];
    made(&source, "llama", "deepspeed-pipe", "tp=2,pp=2,dp=2", &large);
    let (mut bytes, mut blocks) = (0, 0);
    for entry in fs::read_dir(source.join("global_step1")).unwrap() {
        let metadata = entry.unwrap().metadata().unwrap();
        bytes += metadata.len();
        blocks += metadata.blocks() * 512;
    }
    assert!(bytes > 2 << 30 && blocks < 2 << 20, "{blocks} of {bytes} bytes");
    let ended = ucl(&["plan", source.to_str().unwrap()]);
    assert_eq!(ended.code, 0, "{}", ended.text());
}

#[test]
fn what_cannot_be_made_is_refused() {
    let scratch = TempDir::new().unwrap();
    let target = scratch.path().join("run");
    let cases: [(&str, &str, &[&str]); 5] = [
        ("deepspeed-pipe", "vpp=2", &[]),
        ("deepspeed-pipe", "pp=3", &[]),
        ("hf", "dp=1", &["--set", "z=3"]),
        ("hf", "dp=1", &["--with", "nothing"]),
        ("hf", "dp=1", &["--dtype", "f64"]),
    ];
    let mut text = String::new();
    for (view, mesh, more) in cases {
        let ended = synth(&target, "llama", view, mesh, more);
        assert_eq!((ended.code, ended.out.as_str()), (2, ""), "{view} {mesh} {more:?}");
        text.push_str(&format!(
            "$ --view {view} --mesh {mesh} {}\n{}\n",
            more.join(" "),
            ended.err
        ));
    }
    assert!(!target.exists());
    insta::assert_snapshot!(text);
}
