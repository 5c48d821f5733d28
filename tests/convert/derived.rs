//! Checkpoints that describe themselves, and what DeepSpeed's own converter made of runs.

use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use ucl_tests::command::{convert, ucl};
use ucl_tests::oracle::{Tensors, sets};
use ucl_tests::{fixture, written};

/// All states, under the source's own names, are the live ones.
fn is_live(out: &Path, name: &str) {
    let mut states = written::states(out);
    states.remove("param");
    assert!(states.len() >= 3, "{name}");
    let oracle = sets(&fixture(name).join("oracle/oracle.json"));
    for (state, tensors) in &states {
        let live: &Tensors = &oracle[&format!("live.{state}")];
        assert_eq!(tensors, live, "{name}: {state}");
    }
}

/// Affine maps and categories; no config says which model it is, so no family's sizes follow.
#[test]
fn without_a_spec() {
    let scratch = TempDir::new().unwrap();
    for name in ["autotp-llama-tp2-dp2-z1-fp32", "ds-z3-autotp-tp2-dp2-bf16"] {
        let out = scratch.path().join(name);
        let ended = convert(&fixture(name), &out, &[]);
        assert!(ended.out.contains("model derived · view deepspeed"), "{}", ended.text());
        assert!(ended.out.contains("universal_checkpoint_info"), "{}", ended.text());
        is_live(&out, name);
        let hf = scratch.path().join(format!("{name}-hf"));
        convert(&fixture(name), &hf, &["--to", "hf"]);
        assert!(written::model(&hf).len() > 20, "{name}");
    }
}

/// What is derived is a spec like any other, and says the same as what is not written out.
#[test]
fn as_a_spec() {
    let scratch = TempDir::new().unwrap();
    let runs = [
        ("autotp-llama-tp2-dp2-z1-fp32", true),
        ("ds-z3-autotp-tp2-dp2-bf16", true),
        ("megds-llama-tp2-pp1-dp1-z1-nopipe-fp32", false),
        ("megds-llama-tp2-pp2-dp1-bf16", false),
        ("megds-gpt-tp2-pp2-dp1-bf16", false),
    ];
    for (name, alone) in runs {
        let spec = scratch.path().join(format!("{name}.ucl"));
        let derived = ucl(&["derive", fixture(name).to_str().unwrap()]);
        assert_eq!(derived.code, 0, "{}", derived.text());
        fs::write(&spec, &derived.out).unwrap();
        for command in [&["check"][..], &["fmt", "--check"], &["test"]] {
            let ended = ucl(&[command, &[spec.to_str().unwrap()]].concat());
            assert_eq!(ended.code, 0, "{command:?} {name}\n{}", ended.text());
        }
        let by_spec = scratch.path().join(format!("{name}-by-spec"));
        let flags = ["--spec", spec.to_str().unwrap(), "--view", "stored"];
        convert(&fixture(name), &by_spec, &flags);
        is_live(&by_spec, name);
        if alone {
            let by_itself = scratch.path().join(format!("{name}-by-itself"));
            convert(&fixture(name), &by_itself, &["--view", "stored"]);
            assert_eq!(written::digests(&by_itself), written::digests(&by_spec), "{name}");
        }
    }
}

const UNIVERSAL: &str = "global_step3_universal";

/// A universal folder as the converter left it: it copies the step's model file, which is kept once.
fn with_model_file(scratch: &Path, run: &Path) -> PathBuf {
    let folder = scratch.join(UNIVERSAL);
    let model = "mp_rank_00_model_states.pt";
    copy_all(&run.join(UNIVERSAL), &folder);
    fs::copy(run.join("global_step3").join(model), folder.join(model)).unwrap();
    folder
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_all(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// DeepSpeed's universal folders: of ZeRO-2, with what was frozen in its own type, and of ZeRO-3,
/// whose tensors are flat.
#[test]
fn universal_folders_of_deepspeed() {
    let scratch = TempDir::new().unwrap();
    let of_stage_2 = with_model_file(scratch.path(), &fixture("z2-llama-bf16-dp2-frozen"));
    let of_stage_3 = fixture("ds-z3-universal-fp32").join(UNIVERSAL);
    let folders =
        [("z2-llama-bf16-dp2-frozen", &of_stage_2, 10), ("ds-z3-universal-fp32", &of_stage_3, 0)];
    for (name, folder, frozen) in folders {
        let out = scratch.path().join(name);
        convert(folder, &out, &["--view", "stored"]);
        is_live(&out, name);
        let param = written::states(&out).remove("param").unwrap_or_default();
        assert_eq!(param.len(), frozen, "{name}");
    }
    // With no step beside it, `latest_universal` points at the folder.
    let out = scratch.path().join("by-pointer");
    convert(&fixture("ds-z3-universal-fp32"), &out, &["--view", "stored"]);
    is_live(&out, "ds-z3-universal-fp32");
    let run = fixture("z2-llama-bf16-dp2-frozen");
    let ended = ucl(&["diff", run.to_str().unwrap(), of_stage_2.to_str().unwrap()]);
    assert_eq!(ended.code, 0, "{}", ended.text());
}
