//! The plan of one run of every family, as a reader sees it.

use std::fmt::Write;
use tempfile::TempDir;
use ucl_tests::command::ucl;

/// Model, view, mesh, sizes beside the usual ones, and parameters that are optional.
type Run =
    (&'static str, &'static str, &'static str, &'static [&'static str], &'static [&'static str]);

const RUNS: [Run; 9] = [
    ("llama", "deepspeed-pipe", "tp=2,pp=2,dp=2", &["q=2"], &[]),
    ("llama", "deepspeed-thirds", "tp=2,dp=1", &["q=2"], &[]),
    ("gpt2", "hf", "dp=2", &["q=1", "c=24"], &[]),
    ("gpt-neox", "hf", "dp=2", &["q=1"], &[]),
    ("mixtral", "hf", "dp=2", &["q=2", "e=4"], &[]),
    ("phi3", "hf", "dp=2", &["q=2"], &[]),
    ("phi3-small", "hf", "dp=2", &["q=2"], &[]),
    ("phi3-moe", "hf", "dp=2", &["q=2", "e=4"], &["attn.q.bias", "head.bias"]),
    ("reward-llama", "deepspeed-chat", "dp=2", &["q=2"], &[]),
];

#[test]
fn of_every_family() {
    let scratch = TempDir::new().unwrap();
    let mut text = String::new();
    for (number, (model, view, mesh, sizes, with)) in RUNS.into_iter().enumerate() {
        let run = scratch.path().join(number.to_string());
        let run = run.to_str().unwrap();
        let usual = ["l=2", "k=2", "i=4", "h=32", "f=48", "v=100", "m=16"];
        let sizes = usual.iter().chain(sizes).flat_map(|size| ["--set", size]);
        let with = with.iter().flat_map(|path| ["--with", path]);
        let made = ["synth", model, run, "--to", "deepspeed", "--view", view, "--mesh", mesh];
        let made: Vec<&str> = made.into_iter().chain(sizes).chain(with).collect();
        let ended = ucl(&made);
        assert_eq!(ended.code, 0, "{made:?}\n{}", ended.text());
        // How rows fall into heads is in no shape.
        let planned = ["plan", run, "--from-view", view, "--set", "k=2", "--set", "d=8"];
        let ended = ucl(&planned);
        assert_eq!(ended.code, 0, "{model}: {}", ended.text());
        writeln!(text, "{model} · {view} · {mesh}\n{}", ended.out).unwrap();
    }
    insta::assert_snapshot!(text);
}
