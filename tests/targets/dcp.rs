//! PyTorch's distributed checkpoint, as a run of FSDP saves it.

use crate::{Source, commutes, equal, files, same, sound, text};
use ucl_tests::command::{convert, ucl};
use ucl_tests::fixture;

const DCP: &[&str] = &["--to", "dcp", "--mesh", "dp=3"];

/// Sources of every kind whose names are those of modules, or that a view can spell so.
const SOURCES: [Source; 8] = [
    ("fsdp2-llama-fp32-w2", &[]),
    ("z1-llama-fp32-dp2", &[]),
    ("z1-llama-bf16opt-dp2-groups2", &[]),
    ("z1-gpt2-fp32-dp4-groups3", &[]),
    ("z2-llama-bf16-dp2-frozen", &[]),
    ("z3-llama-bf16-dp4-groups2", &[]),
    ("megds-llama-tp2-pp2-dp1-bf16", &["--view", "hf"]),
    ("ds-z1-sgd-dp2-fp32", &[]),
];

#[test]
fn a_source_directly_and_through_a_universal_folder() {
    for source in SOURCES {
        commutes(source, DCP);
    }
}

#[test]
fn what_is_written_is_what_was_there() {
    for (name, flags) in SOURCES {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        convert(&fixture(name), &out, &[DCP, flags].concat());
        if name.contains("gpt2") {
            // FSDP saves a tied head under its own name too.
            let ended = ucl(&["diff", text(&fixture(name)), text(&out)]);
            assert!(ended.out.contains("only in b  1 tensor: head (param)\n"), "{}", ended.text());
        } else {
            equal(&fixture(name), &out, &[]);
        }
        sound(&out);
        // Any other number of ranks has the same in it.
        let (one, again) = (folder.path().join("one"), folder.path().join("again"));
        convert(&out, &one, &["--to", "dcp", "--mesh", "dp=1"]);
        assert_eq!(files(&one).len(), 2, "{name}");
        convert(&one, &again, DCP);
        if name.contains("gpt2") {
            // What is saved twice is no longer told to be tied, and comes in the model's order.
            equal(&out, &again, &[]);
        } else {
            same(&out, &again, name);
        }
    }
}

#[test]
fn there_and_back_through_deepspeed() {
    let name = "fsdp2-llama-fp32-w2";
    let folder = tempfile::tempdir().unwrap();
    let [zero, back, direct] = ["zero", "back", "direct"].map(|f| folder.path().join(f));
    convert(&fixture(name), &zero, &["--to", "deepspeed", "--zero", "3", "--mesh", "dp=2"]);
    equal(&fixture(name), &zero, &[]);
    convert(&zero, &back, DCP);
    equal(&fixture(name), &back, &[]);
    convert(&fixture(name), &direct, DCP);
    equal(&direct, &back, &[]);
}

#[test]
fn the_same_bytes_for_any_jobs() {
    let folder = tempfile::tempdir().unwrap();
    let (one, eight) = (folder.path().join("one"), folder.path().join("eight"));
    let run = fixture("z1-llama-bf16opt-dp2-groups2");
    convert(&run, &one, &[DCP, &["--jobs", "1", "--memory", "4MiB"]].concat());
    convert(&run, &eight, &[DCP, &["--jobs", "8"]].concat());
    same(&one, &eight, "jobs");
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut said = String::new();
    for flags in [
        &["--mesh", "tp=2"][..],
        &["--mesh", "dp=2,pp=2"],
        &["--mesh", "dp=20000"],
        &["--mesh", "dp=0"],
        &["--view", "megatorn"],
    ] {
        let out = folder.path().join("out");
        let run = fixture("z1-llama-fp32-dp2");
        let arguments = ["convert", text(&run), text(&out), "--to", "dcp"];
        let ended = ucl(&[&arguments, flags].concat());
        assert_ne!(ended.code, 0, "{flags:?}");
        assert!(!out.exists(), "{flags:?}");
        said += &format!("=== {}\n{}\n", flags.join(" "), ended.err);
    }
    insta::assert_snapshot!(said);
}

#[test]
fn the_plan_says_what_the_weights_become() {
    let run = fixture("z1-llama-bf16opt-dp2-groups2");
    let ended = ucl(&["plan", text(&run), "--to", "dcp", "--mesh", "dp=3"]);
    assert_eq!(ended.code, 0, "{}", ended.text());
    insta::assert_snapshot!(ended.out.replace(text(run.parent().unwrap()), "FIXTURES"));
}
