//! Megatron-core's `torch_dist`, for a run with its distributed optimizer and for one without.

use crate::{Source, commutes, equal, files, same, sound, text};
use serde_json::Value;
use std::path::Path;
use ucl_tests::command::{convert, ucl};
use ucl_tests::fixture;

const DISTRIBUTED: &[&str] = &["--to", "torch-dist", "--optimizer", "distributed"];
const PLAIN: &[&str] = &["--to", "torch-dist", "--optimizer", "plain"];

/// Each with a mesh that is not its own.
const SOURCES: [(Source, &str); 5] = [
    (("mlm-llama-tp2-pp2-bf16-torchdist", &[]), "tp=1,dp=3"),
    (("mlm-llama-tp2-pp2-bf16-torch", &[]), "tp=4,pp=2"),
    (("mlm-gpt-tp1-pp2-bf16-torch-tied", &[]), "tp=2"),
    (("mlm-mixtral-tp1-pp1-ep2-bf16-torch", &[]), "tp=2,ep=4"),
    (("megds-llama-tp2-pp2-dp1-bf16", &["--from-view", "deepspeed-pipe"]), "tp=1,dp=2"),
];

/// The names of the entries in a step's `.metadata`, as far as these are looked for.
fn lists(folder: &Path, name: &str) -> bool {
    let files = files(folder);
    let (_, bytes) = files.iter().find(|(path, _)| path.ends_with("/.metadata")).expect("a list");
    bytes.windows(name.len()).any(|window| window == name.as_bytes())
}

const MASTERS: [&str; 2] = ["optimizer.state.param.", "optimizer.state.fp32_param."];

#[test]
fn a_source_directly_and_through_a_universal_folder() {
    for (source, mesh) in SOURCES {
        for optimizer in [DISTRIBUTED, PLAIN] {
            commutes(source, &[optimizer, &["--mesh", mesh]].concat());
        }
    }
}

#[test]
fn both_forms_hold_what_was_there() {
    for ((name, flags), mesh) in SOURCES {
        let folder = tempfile::tempdir().unwrap();
        let [distributed, plain, back] =
            ["distributed", "plain", "back"].map(|f| folder.path().join(f));
        convert(&fixture(name), &distributed, &[DISTRIBUTED, &["--mesh", mesh], flags].concat());
        assert_eq!(MASTERS.map(|key| lists(&distributed, key)), [true, false], "{name}");
        sound(&distributed);
        equal(&fixture(name), &distributed, flags);
        convert(&distributed, &plain, &[PLAIN, &["--mesh", "tp=1"]].concat());
        assert_eq!(MASTERS.map(|key| lists(&plain, key)), [false, true], "{name}");
        equal(&fixture(name), &plain, flags);
        convert(&plain, &back, &[DISTRIBUTED, &["--mesh", mesh]].concat());
        equal(&distributed, &back, &[]);
    }
}

/// The distributed optimizer has masters of these too, the other has none.
#[test]
fn weights_of_32_bits() {
    for name in ["fsdp2-llama-fp32-w2", "autotp-llama-tp2-dp2-z1-fp32"] {
        let folder = tempfile::tempdir().unwrap();
        let [distributed, plain, back] =
            ["distributed", "plain", "back"].map(|f| folder.path().join(f));
        let flags: &[&str] = &["--mesh", "tp=1", "--set", "k=2"];
        convert(&fixture(name), &distributed, &[DISTRIBUTED, flags].concat());
        assert_eq!(MASTERS.map(|key| lists(&distributed, key)), [true, false], "{name}");
        equal(&fixture(name), &distributed, &["--set", "k=2"]);
        convert(&distributed, &plain, PLAIN);
        assert_eq!(MASTERS.map(|key| lists(&plain, key)), [false, false], "{name}");
        equal(&fixture(name), &plain, &["--set", "k=2"]);
        convert(&plain, &back, DISTRIBUTED);
        equal(&distributed, &back, &[]);
    }
}

/// Without a flag: as the run was, which a universal folder remembers; ZeRO shares the optimizer out.
#[test]
fn the_optimizer_is_the_sources() {
    let to: &[&str] = &["--to", "torch-dist", "--mesh", "tp=1"];
    for ((name, flags), _) in SOURCES {
        let folder = tempfile::tempdir().unwrap();
        let [universal, out, again] = ["u", "out", "again"].map(|f| folder.path().join(f));
        convert(&fixture(name), &universal, flags);
        convert(&universal, &out, to);
        let zero = name.starts_with("megds");
        assert_eq!(MASTERS.map(|key| lists(&out, key)), [zero, !zero], "{name}");
        // What was written says it too.
        for (optimizer, form) in [(DISTRIBUTED, [true, false]), (PLAIN, [false, true])] {
            let (one, two) = (again.with_extension("one"), again.with_extension("two"));
            convert(&universal, &one, &[optimizer, &["--mesh", "tp=1"]].concat());
            convert(&one, &two, to);
            // Arguments that a source had none of are not made up where their names are not Megatron's.
            if !zero {
                assert_eq!(MASTERS.map(|key| lists(&two, key)), form, "{name}");
            }
            std::fs::remove_dir_all(one).unwrap();
            std::fs::remove_dir_all(two).unwrap();
        }
    }
}

/// The optimizer's groups of a universal folder: hyper-parameters, step, and whose they are.
fn groups(folder: &Path) -> Vec<(Value, f64, Vec<String>)> {
    let text = std::fs::read_to_string(folder.join("ucl.json")).unwrap();
    let manifest: Value = serde_json::from_str(&text).unwrap();
    let groups = manifest["optimizer"]["groups"].as_array().unwrap();
    let mut groups: Vec<(Value, f64, Vec<String>)> = groups
        .iter()
        .map(|group| {
            let names: Vec<String> = serde_json::from_value(group["params"].clone()).unwrap();
            let mut names: Vec<String> = names.into_iter().collect();
            names.sort();
            (group["hyper"].clone(), group["step"].as_f64().unwrap(), names)
        })
        .collect();
    groups.sort_by(|a, b| a.2.cmp(&b.2));
    groups
}

#[test]
fn groups_come_through() {
    for ((name, flags), mesh) in
        SOURCES.into_iter().filter(|((name, _), _)| name.starts_with("mlm"))
    {
        let folder = tempfile::tempdir().unwrap();
        let [universal, sharded, again, back, last] =
            ["universal", "sharded", "again", "back", "last"].map(|f| folder.path().join(f));
        convert(&fixture(name), &universal, flags);
        let known = groups(&universal);
        assert!(known.len() > 1, "{name}");
        let all: usize = known.iter().map(|(.., names)| names.len()).sum();
        assert!(known.iter().all(|(.., names)| !names.is_empty()) && all > 10, "{name}");
        convert(&fixture(name), &sharded, &[DISTRIBUTED, &["--mesh", mesh]].concat());
        convert(&sharded, &again, &[]);
        assert_eq!(groups(&again), known, "{name}");
        // Files of ranks have the groups by number, and tell the members by shapes.
        convert(&sharded, &back, &["--to", "megatron", "--mesh", mesh, "--view", "mcore-local"]);
        convert(&back, &last, &[]);
        assert_eq!(groups(&last), known, "{name}");
    }
}

#[test]
fn the_same_bytes_for_any_jobs() {
    let folder = tempfile::tempdir().unwrap();
    let (one, eight) = (folder.path().join("one"), folder.path().join("eight"));
    let run = fixture("mlm-mixtral-tp1-pp1-ep2-bf16-torch");
    convert(&run, &one, &[DISTRIBUTED, &["--jobs", "1", "--memory", "4MiB"]].concat());
    convert(&run, &eight, &[DISTRIBUTED, &["--jobs", "8"]].concat());
    same(&one, &eight, "jobs");
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let llama = "mlm-llama-tp2-pp2-bf16-torchdist";
    let mut said = String::new();
    for (name, flags) in [
        // Any mesh loads whole tensors, which then only says how many files there are.
        (llama, &["--mesh", "dp=100000"][..]),
        (llama, &["--mesh", "tp=0"]),
        ("ds-z1-sgd-dp2-fp32", &["--view", "stored"]),
    ] {
        let source = fixture(name);
        let ended = ucl(&[&["convert", text(&source), text(&out)], DISTRIBUTED, flags].concat());
        assert_ne!(ended.code, 0, "{name} {flags:?}");
        assert!(!out.exists(), "{name} {flags:?}");
        said += &format!("{name} {}\n{}\n", flags.join(" "), ended.err);
    }
    insta::assert_snapshot!(said);
}
