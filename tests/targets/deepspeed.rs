//! Steps of DeepSpeed's engine, and its universal folders, for other ranks and stages.

use crate::{Source, commutes, equal, files, same, sound, text};
use ucl_tests::command::{convert, ucl};
use ucl_tests::fixture;

const PIPE: &[&str] = &["--from-view", "deepspeed-pipe"];

/// Runs whose weights are whole on every rank: any stage takes them.
const WHOLE: [Source; 13] = [
    ("z1-llama-fp32-dp2", &[]),
    ("z1-llama-fp16-dp2", &[]),
    ("z1-gpt2-fp32-dp4-groups3", &[]),
    ("z2-llama-bf16-dp2-frozen", &[]),
    ("z3-llama-bf16-dp4-groups2", &[]),
    ("z3-phi3-fp32-dp2-frozen", &[]),
    ("fsdp2-llama-fp32-w2", &[]),
    ("ds-z1-sgd-dp2-fp32", &[]),
    ("ds-z1-lion-dp2-fp32", &[]),
    ("ds-z2-adagrad-dp2-fp32", &[]),
    ("ds-z1-roundrobin-dp2-fp32", &[]),
    ("ds-z1-align-dp2-bf16", &[]),
    ("ds-z1-buffer-tied-dp2-bf16", &[]),
];

/// Runs with tensor and pipeline ranks, and meshes for them.
const CUT: [(Source, &[&str]); 3] = [
    (("megds-llama-tp2-pp2-dp1-bf16", &[]), &["tp=1", "tp=4,pp=2", "tp=2,pp=4,dp=3"]),
    (("megds-gpt-tp2-pp2-dp1-bf16", PIPE), &["tp=1", "tp=4,dp=2", "tp=2,pp=4"]),
    (("megds-llama-tp2-pp1-dp1-z1-nopipe-fp32", &[]), &["tp=1", "tp=4,dp=2"]),
];

/// What a run is written as.
const STAGES: [&[&str]; 4] = [
    &["--to", "deepspeed", "--zero", "1", "--mesh", "dp=3"],
    &["--to", "deepspeed", "--zero", "2", "--mesh", "dp=1"],
    &["--to", "deepspeed", "--zero", "3", "--mesh", "dp=3"],
    &["--to", "deepspeed-universal", "--mesh", "dp=2"],
];

#[test]
fn every_stage_directly_and_through_a_universal_folder() {
    for source in WHOLE {
        for to in STAGES {
            commutes(source, to);
        }
    }
    for source in ["z1-llama-bf16opt-dp2-groups2", "z3-llama-bf16-dp4-groups2"] {
        commutes(
            (source, &[]),
            &["--to", "deepspeed", "--zero", "bf16-optimizer", "--mesh", "dp=3"],
        );
    }
}

#[test]
fn every_mesh_directly_and_through_a_universal_folder() {
    for (source, meshes) in CUT {
        for mesh in meshes {
            for to in ["deepspeed", "deepspeed-universal"] {
                commutes(source, &["--to", to, "--mesh", mesh]);
            }
        }
    }
}

#[test]
fn there_and_back_through_every_stage() {
    for (name, flags) in WHOLE {
        let source = fixture(name);
        let folder = tempfile::tempdir().unwrap();
        let first = folder.path().join("first");
        convert(&source, &first, &[STAGES[0], flags].concat());
        equal(&source, &first, flags);
        let mut last = first.clone();
        for (number, to) in STAGES.iter().enumerate().skip(1) {
            let next = folder.path().join(number.to_string());
            convert(&last, &next, to);
            equal(&source, &next, flags);
            sound(&next);
            last = next;
        }
        // Stages 1 and 2 keep the same, ZeRO-3 has no place for `clip_grad`.
        let again = folder.path().join("again");
        convert(&folder.path().join("1"), &again, STAGES[0]);
        same(&first, &again, name);
    }
}

#[test]
fn there_and_back_over_other_meshes() {
    for ((name, flags), meshes) in CUT {
        let source = fixture(name);
        for mesh in meshes {
            let folder = tempfile::tempdir().unwrap();
            let [there, back, own] = ["there", "back", "own"].map(|f| folder.path().join(f));
            convert(&source, &there, &[&["--to", "deepspeed", "--mesh", *mesh], flags].concat());
            equal(&source, &there, flags);
            sound(&there);
            let to_own = ["--to", "deepspeed", "--mesh", own_mesh(name)];
            convert(&there, &back, &[&to_own, flags].concat());
            equal(&source, &back, flags);
            convert(&source, &own, &[&to_own, flags].concat());
            assert_eq!(
                files(&own).keys().collect::<Vec<_>>(),
                files(&back).keys().collect::<Vec<_>>()
            );
        }
    }
}

fn own_mesh(name: &str) -> &'static str {
    if name.contains("pp2") { "tp=2,pp=2" } else { "tp=2" }
}

#[test]
fn the_same_bytes_for_any_jobs() {
    for (name, flags, mesh) in [
        ("z1-llama-bf16opt-dp2-groups2", &[][..], "dp=3"),
        ("megds-gpt-tp2-pp2-dp1-bf16", PIPE, "tp=4,dp=2"),
    ] {
        for to in ["deepspeed", "deepspeed-universal"] {
            let folder = tempfile::tempdir().unwrap();
            let (one, eight) = (folder.path().join("one"), folder.path().join("eight"));
            let target = ["--to", to, "--mesh", mesh];
            let few = ["--jobs", "1", "--memory", "4MiB"];
            convert(&fixture(name), &one, &[&target[..], &few, flags].concat());
            convert(&fixture(name), &eight, &[&target[..], &["--jobs", "8"], flags].concat());
            same(&one, &eight, to);
        }
    }
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut said = String::new();
    let (pipe, flat) = ("megds-llama-tp2-pp2-dp1-bf16", "z1-llama-bf16opt-dp2-groups2");
    for (source, to, flags) in [
        (pipe, "deepspeed", &["--mesh", "tp=3"][..]),
        (pipe, "deepspeed", &["--mesh", "pp=3"]),
        (pipe, "deepspeed", &["--mesh", "ep=2"]),
        (pipe, "deepspeed", &["--zero", "3"]),
        (pipe, "deepspeed-universal", &["--mesh", "tp=3"]),
        (flat, "deepspeed", &["--mesh", "dp=0"]),
        (flat, "deepspeed", &["--mesh", "pp=2"]),
        (flat, "deepspeed", &["--zero", "3", "--states", "weights"]),
        (flat, "deepspeed-universal", &["--states", "weights"]),
        ("z1-llama-fp32-dp2", "deepspeed", &["--zero", "bf16-optimizer"]),
        ("z2-qwen2-fp32-dp2-frozen-excl", "deepspeed", &["--mesh", "dp=1"]),
        ("hf-llama-fp32/hf", "deepspeed-universal", &[]),
    ] {
        let (source, out) = (fixture(source), folder.path().join("out"));
        let arguments = ["convert", text(&source), text(&out), "--to", to];
        let ended = ucl(&[&arguments, flags].concat());
        assert_ne!(ended.code, 0, "{to} {flags:?}: {}", ended.text());
        assert!(!out.exists(), "{flags:?}");
        let shown = ended.err.replace(text(&fixture("")), "FIXTURES/");
        said += &format!("=== {to} {}\n{shown}\n", flags.join(" "));
    }
    insta::assert_snapshot!(said);
}

/// A cut that nothing in the checkpoint vouches for is told.
#[test]
fn a_cut_beyond_what_the_checkpoint_describes_is_told() {
    let run = fixture("autotp-llama-tp2-dp2-z1-fp32");
    let told = |mesh: &str| {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let ended = convert(&run, &out, &["--to", "deepspeed", "--mesh", mesh]);
        ended.out.contains("not where a head ends")
    };
    assert!(told("tp=4"));
    assert!(!told("tp=2,dp=4"));
    assert!(!told("tp=1"));
}

/// What an optimizer keeps beside the states of parameters goes through DeepSpeed's universal folder too.
#[test]
fn a_loss_scaler_goes_along() {
    let folder = tempfile::tempdir().unwrap();
    let [theirs, ours, again] = ["theirs", "ours", "again"].map(|f| folder.path().join(f));
    convert(&fixture("z1-llama-fp16-dp2"), &theirs, &["--to", "deepspeed-universal"]);
    convert(&theirs, &ours, &[]);
    for source in [&theirs, &ours] {
        convert(source, &again, &["--to", "deepspeed", "--mesh", "dp=2", "--overwrite"]);
        let made = files(&again);
        let holds =
            |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|w| w == text.as_bytes());
        let shards = made.iter().filter(|(name, _)| name.ends_with("optim_states.pt"));
        let scaled: Vec<bool> = shards.map(|(_, b)| holds(b, "DynamicLossScaler")).collect();
        assert_eq!(scaled, [true, true]);
    }
}
