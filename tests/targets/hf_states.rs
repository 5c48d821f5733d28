//! A Hugging Face folder with the optimizer's states beside the model.

use crate::{commutes, equal, files, same, sound, text};
use std::path::{Path, PathBuf};
use ucl_tests::command::{convert, ucl};
use ucl_tests::oracle::{Tensors, sets};
use ucl_tests::{fixture, written};

const STATES: &[&str] = &["--to", "hf", "--states", "all"];

fn config(name: &str) -> PathBuf {
    fixture("configs").join(name)
}

/// Runs, and the folder of a config for their model.
const RUNS: [(&str, &str); 4] = [
    ("z1-llama-fp32-dp2", "hf-llama-fp32"),
    ("z1-llama-bf16opt-dp2-groups2", "hf-llama-fp32"),
    ("z2-llama-bf16-dp2-frozen", "hf-llama-fp32"),
    ("fsdp2-llama-fp32-w2", "hf-llama-fp32"),
];

fn written(name: &str, to: &Path, flags: &[&str]) {
    let known = RUNS.iter().find(|(run, _)| *run == name).unwrap().1;
    let config = config(known);
    convert(&fixture(name), to, &[STATES, &["--config", text(&config)], flags].concat());
}

/// The tensors of a state: of one file, or of a series.
fn state(folder: &Path, state: &str) -> Tensors {
    let mut found = Tensors::new();
    let scratch = tempfile::tempdir().unwrap();
    let of_state = |name: &String| {
        let rest = name.strip_prefix(&format!("optimizer/{state}"));
        rest.is_some_and(|rest| rest.starts_with(['.', '-']) && rest.ends_with(".safetensors"))
    };
    for (number, (_, bytes)) in files(folder).iter().filter(|(name, _)| of_state(name)).enumerate()
    {
        let file = scratch.path().join(format!("{number}.safetensors"));
        std::fs::write(file, bytes).unwrap();
    }
    found.extend(written::model(scratch.path()));
    found
}

#[test]
fn states_have_the_names_of_the_weights() {
    for (name, _) in RUNS {
        for flags in [&[][..], &["--max-file-size", "20KB"]] {
            let folder = tempfile::tempdir().unwrap();
            let (all, alone) = (folder.path().join("all"), folder.path().join("alone"));
            written(name, &all, flags);
            let live = sets(&fixture(name).join("oracle/oracle.json"));
            for (set, tensors) in live {
                let Some(of) = set.strip_prefix("live.") else { continue };
                let found = state(&all, of);
                // Masters of the weights' own type are the weights.
                if of == "model" || of == "fp32" && found.is_empty() {
                    continue;
                }
                assert_eq!(found, tensors, "{name}: {of}");
            }
            // The model is the one that is written without them.
            let config = config(RUNS.iter().find(|(run, _)| *run == name).unwrap().1);
            let flags = [&["--to", "hf", "--config", text(&config)], flags].concat();
            convert(&fixture(name), &alone, &flags);
            let mut all = files(&all);
            all.retain(|name, _| !name.starts_with("optimizer/"));
            assert!(all == files(&alone), "{name}");
        }
    }
}

#[test]
fn they_are_read_back() {
    for (name, _) in RUNS {
        let folder = tempfile::tempdir().unwrap();
        let [hf, universal, again, direct] =
            ["hf", "universal", "again", "direct"].map(|f| folder.path().join(f));
        written(name, &hf, &["--max-file-size", "50KB"]);
        equal(&fixture(name), &hf, &[]);
        sound(&hf);
        convert(&hf, &universal, &[]);
        convert(&universal, &again, &[STATES, &["--max-file-size", "50KB"]].concat());
        same(&hf, &again, name);
        // Nothing of the run was lost on the way.
        convert(&fixture(name), &direct, &["--config", text(&config("hf-llama-fp32"))]);
        assert_eq!(written::states(&universal), written::states(&direct), "{name}");
    }
}

#[test]
fn they_are_the_same_through_a_universal_folder() {
    let config = config("hf-llama-fp32");
    let config: &'static str = Box::leak(text(&config).to_owned().into_boxed_str());
    let flags: &'static [&'static str] = Box::leak(Box::new(["--config", config]));
    for (name, _) in RUNS {
        commutes((name, flags), STATES);
    }
}

#[test]
fn a_model_without_an_optimizer_has_none() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    convert(&fixture("hf-llama-fp32").join("hf"), &out, STATES);
    assert!(files(&out).keys().all(|name| !name.starts_with("optimizer/")));
}

#[test]
fn the_same_bytes_for_any_jobs() {
    let folder = tempfile::tempdir().unwrap();
    let (one, eight) = (folder.path().join("one"), folder.path().join("eight"));
    written("z1-llama-bf16opt-dp2-groups2", &one, &["--jobs", "1", "--memory", "4MiB"]);
    written("z1-llama-bf16opt-dp2-groups2", &eight, &["--jobs", "8"]);
    same(&one, &eight, "jobs");
}

/// Where states are damaged, the weights still are what they are, and nothing is made of the states.
#[test]
fn damaged_states_are_told_and_the_weights_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let hf = folder.path().join("hf");
    written("z1-llama-bf16opt-dp2-groups2", &hf, &[]);
    let manifest = hf.join("optimizer/optimizer.json");
    let moments = hf.join("optimizer/exp_avg.safetensors");
    let (told, held) =
        (std::fs::read_to_string(&manifest).unwrap(), std::fs::read(&moments).unwrap());
    let broken: [(&str, &dyn Fn()); 7] = [
        ("no JSON", &|| std::fs::write(&manifest, "{").unwrap()),
        ("version", &|| {
            std::fs::write(&manifest, told.replacen("\"version\": 1", "\"version\": 2", 1))
                .unwrap();
        }),
        ("outside", &|| {
            std::fs::write(
                &manifest,
                told.replace("optimizer/exp_avg.s", "optimizer/../../exp_avg.s"),
            )
            .unwrap();
        }),
        ("of another model", &|| {
            std::fs::write(&manifest, told.replace("model.norm.weight", "model.norm.other"))
                .unwrap();
        }),
        ("cut short", &|| std::fs::write(&moments, &held[..held.len() - 4]).unwrap()),
        ("missing", &|| std::fs::remove_file(&moments).unwrap()),
        ("another shape", &|| {
            std::fs::write(&manifest, told.replacen("32\n", "31\n", 1)).unwrap();
        }),
    ];
    let mut said = String::new();
    for (number, (what, break_it)) in broken.iter().enumerate() {
        break_it();
        let out = folder.path().join(format!("universal-{number}"));
        let ended = ucl(&["convert", text(&hf), text(&out)]);
        assert_ne!(ended.code, 0, "{what}: {}", ended.text());
        assert!(!out.exists(), "{what}");
        said += &format!("=== {what}\n{}\n", ended.err);
        let weights = folder.path().join(format!("hf-{number}"));
        convert(&hf, &weights, &["--to", "hf"]);
        assert!(files(&weights)["model.safetensors"] == files(&hf)["model.safetensors"], "{what}");
        std::fs::write(&manifest, &told).unwrap();
        std::fs::write(&moments, &held).unwrap();
    }
    insta::assert_snapshot!(said.replace(text(folder.path()), "FOLDER"));
    // A bit of the data: the digests tell.
    let mut flipped = held;
    *flipped.last_mut().unwrap() ^= 1;
    std::fs::write(&moments, &flipped).unwrap();
    let ended = ucl(&["verify", text(&hf)]);
    assert_eq!(ended.code, 1, "{}", ended.text());
    assert!(ended.out.contains("has the digest"), "{}", ended.text());
}
