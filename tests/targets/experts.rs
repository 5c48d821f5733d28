//! Mixtures of experts of DeepSpeed's own, shared out over other ranks.

use crate::{commutes, equal, files, same, sound, text};
use std::collections::BTreeSet;
use ucl_tests::command::{convert, ucl};
use ucl_tests::fixture;

const PIPELINE: &str = "moe-z1-pp2-ep2-dp2-fp32";

/// Runs, each with its own mesh and with others for it.
const RUNS: [(&str, &str, &[&str]); 7] = [
    ("dsmoe-ep2-z1-fp32", "dp=2,ep=2", &["dp=2", "dp=4,ep=4"]),
    ("moe-z1-ep2-dp4-fp32", "dp=4,ep=2", &["dp=1", "dp=6,ep=2", "dp=3"]),
    ("moe-z2-data-first-dp4-bf16", "dp=4,ep=2", &["dp=6,ep=2", "dp=8,ep=4"]),
    // One mixture is over one rank.
    ("moe-z1-residual-dp2-fp32", "dp=2,ep=2", &["dp=4,ep=2"]),
    ("moe-z1-legacy-dp4-indexed", "dp=4,ep=2", &["dp=3", "dp=2,ep=2"]),
    ("moe-z0-ep2-dp2-fp32", "dp=2,ep=2", &["dp=3"]),
    // Two stages of a pipeline, as one.
    (PIPELINE, "dp=2,ep=2", &["dp=4"]),
];

/// Stacks of AutoEP's, under stages that are all three.
const STACKS: [(&str, &str, &[&str]); 2] = [
    ("autoep-z1-ep2-dp4-indexed", "dp=4,ep=2", &["dp=1", "dp=6,ep=2", "dp=3"]),
    ("autoep-z3-ep2-dp4-fp32", "dp=4,ep=2", &["dp=4,ep=4", "dp=2", "dp=2,ep=2"]),
];

const STAGES: [&str; 3] = ["1", "2", "3"];

/// A mesh of a run, with each stage that it may be under in turn.
fn ways() -> impl Iterator<Item = (&'static str, &'static str, &'static str, &'static str)> {
    let all = RUNS.into_iter().map(|run| (run, 2)).chain(STACKS.map(|run| (run, 3)));
    all.flat_map(|((run, own, meshes), stages)| {
        let meshes = std::iter::once(own).chain(meshes.iter().copied()).enumerate();
        meshes.map(move |(number, mesh)| (run, own, mesh, STAGES[number % stages]))
    })
}

#[test]
fn every_mesh_directly_and_through_a_universal_folder() {
    for (run, _, mesh, stage) in ways() {
        commutes((run, &[]), &["--to", "deepspeed", "--zero", stage, "--mesh", mesh]);
    }
    for (run, ..) in RUNS.iter().chain(&STACKS) {
        // The source's own mesh is the one that is not said.
        commutes((run, &[]), &["--to", "deepspeed"]);
    }
    let to = ["--to", "deepspeed", "--zero", "bf16-optimizer", "--mesh", "dp=4,ep=4"];
    commutes(("moe-z2-data-first-dp4-bf16", &[]), &to);
}

#[test]
fn there_and_back_over_other_ranks() {
    for (run, own, mesh, stage) in ways() {
        let source = fixture(run);
        let folder = tempfile::tempdir().unwrap();
        let [there, back, once] = ["there", "back", "once"].map(|f| folder.path().join(f));
        let to = |mesh| ["--to", "deepspeed", "--zero", stage, "--mesh", mesh];
        convert(&source, &there, &to(mesh));
        equal(&source, &there, &[]);
        sound(&there);
        convert(&there, &back, &to(own));
        equal(&source, &back, &[]);
        sound(&back);
        // What the way over other ranks made is what is made without it.
        convert(&source, &once, &to(own));
        same(&once, &back, &format!("{run} over {mesh}"));
    }
}

/// DeepSpeed's own universal folders know AutoEP's stacks.
#[test]
fn stacks_go_through_universal_folders_of_deepspeeds_own() {
    for (run, own, meshes) in STACKS {
        for mesh in [own, meshes[0]] {
            let to = ["--to", "deepspeed-universal", "--mesh", mesh];
            commutes((run, &[]), &to);
            let folder = tempfile::tempdir().unwrap();
            let [theirs, back] = ["theirs", "back"].map(|f| folder.path().join(f));
            convert(&fixture(run), &theirs, &to);
            equal(&fixture(run), &theirs, &[]);
            sound(&theirs);
            convert(&theirs, &back, &["--to", "deepspeed", "--zero", "3", "--mesh", mesh]);
            equal(&fixture(run), &back, &[]);
        }
    }
}

/// The names of the files that DeepSpeed's load looks for, and no others.
#[test]
fn each_expert_is_in_a_file_and_each_rank_has_a_part() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    convert(&fixture("moe-z1-ep2-dp4-fp32"), &out, &["--to", "deepspeed", "--mesh", "dp=2,ep=1"]);
    let made: BTreeSet<String> = files(&out).into_keys().collect();
    let mut expected = BTreeSet::from(["latest".to_owned()]);
    let mut expect = |name: String| expected.insert(format!("global_step3/{name}"));
    for (layer, experts) in [(0, 4), (1, 2)] {
        for expert in 0..experts {
            expect(format!("layer_{layer}_expert_{expert}_mp_rank_00_model_states.pt"));
        }
    }
    expect("mp_rank_00_model_states.pt".to_owned());
    for rank in 0..2 {
        expect(format!("zero_pp_rank_{rank}_mp_rank_00_optim_states.pt"));
    }
    assert_eq!(made, expected);
}

/// Names alone make no experts: where the source has no modules of DeepSpeed's, all is as it was, and it is said.
#[test]
fn names_alone_make_no_experts() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let flags = ["--to", "deepspeed", "--view", "deepspeed", "--set", "k=2"];
    let ended = convert(&fixture("z1-mixtral-bf16-dp2"), &out, &flags);
    assert!(ended.out.contains("was no run of DeepSpeed's own mixtures"), "{}", ended.out);
    assert!(!files(&out).keys().any(|name| name.contains("_expert_")));
}

#[test]
fn the_same_bytes_for_any_jobs() {
    let folder = tempfile::tempdir().unwrap();
    let (one, eight) = (folder.path().join("one"), folder.path().join("eight"));
    let target = ["--to", "deepspeed", "--mesh", "dp=4,ep=4"];
    let run = fixture("dsmoe-ep2-z1-fp32");
    convert(&run, &one, &[&target[..], &["--jobs", "1", "--memory", "4MiB"]].concat());
    convert(&run, &eight, &[&target[..], &["--jobs", "8"]].concat());
    same(&one, &eight, "jobs");
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut said = String::new();
    let (run, dense) = ("moe-z1-ep2-dp4-fp32", "z1-llama-fp32-dp2");
    for (source, to, flags) in [
        (run, "deepspeed", &["--mesh", "dp=3,ep=2"][..]),
        (run, "deepspeed", &["--mesh", "dp=4,ep=4"]),
        (run, "deepspeed", &["--mesh", "dp=2,ep=2,tp=2"]),
        (run, "deepspeed", &["--zero", "3"]),
        (run, "deepspeed-universal", &[]),
        ("autoep-z3-ep2-dp4-fp32", "deepspeed", &["--mesh", "dp=6,ep=3"]),
        (dense, "deepspeed", &["--mesh", "dp=2,ep=2"]),
        (dense, "deepspeed-universal", &["--mesh", "dp=2,ep=2"]),
        ("moe-z1-residual-dp2-fp32", "deepspeed", &["--mesh", "dp=2"]),
        (PIPELINE, "deepspeed", &["--mesh", "pp=3,dp=2,ep=2"]),
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
