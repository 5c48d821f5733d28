//! Sharded saves of PyTorch and of Megatron-core.

use std::collections::BTreeMap;
use ucl_tests::oracle::{Tensors, sets};
use ucl_tests::{command::convert, fixture, written};

/// The live sets of an oracle by state; the module's own tensors are `param`.
fn live(name: &str) -> BTreeMap<String, Tensors> {
    let state = |set: &str| match set {
        "live.model" => Some("param".to_owned()),
        other => other.strip_prefix("live.").map(str::to_owned),
    };
    sets(&fixture(name).join("oracle/oracle.json"))
        .into_iter()
        .filter_map(|(set, tensors)| Some((state(&set)?, tensors)))
        .collect()
}

/// Converts and compares all states, names included.
fn check(name: &str, flags: &[&str], expected: &BTreeMap<String, Tensors>) {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    convert(&fixture(name), &out, flags);
    let found = written::states(&out);
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>(),
        "{name} {flags:?}: states"
    );
    for (state, tensors) in expected {
        assert_eq!(
            found[state].keys().collect::<Vec<_>>(),
            tensors.keys().collect::<Vec<_>>(),
            "{name} {flags:?}: names of {state}"
        );
        for (tensor, known) in tensors {
            assert_eq!(&found[state][tensor], known, "{name} {flags:?}: {tensor} ({state})");
        }
    }
}

/// The tensors of a Hugging Face folder's one file.
fn hugging_face(name: &str, flags: &[&str]) -> Tensors {
    let folder = tempfile::tempdir().expect("a folder");
    let (out, copy) = (folder.path().join("out"), folder.path().join("copy"));
    let flags: Vec<&str> = ["--to", "hf"].iter().chain(flags).copied().collect();
    convert(&fixture(name), &out, &flags);
    std::fs::create_dir(&copy).expect("a folder");
    // The reader goes by the names of universal folders.
    let target = copy.join("param-00001-of-00001.safetensors");
    std::fs::copy(out.join("model.safetensors"), target).expect("a copy");
    written::states(&copy).remove("param").expect("weights")
}

const LLAMA: [&str; 4] = ["--set", "n=4", "--set", "k=2"];
const GPT2: [&str; 2] = ["--set", "n=4"];

#[test]
fn fsdp2_as_it_is_stored() {
    for name in ["fsdp2-llama-fp32-w2", "fsdp2-gpt2-bf16-w3"] {
        check(name, &["--view", "stored"], &live(name));
    }
}

#[test]
fn fsdp2_under_the_names_of_hugging_face() {
    let llama = [&["--view", "hf"], &LLAMA[..]].concat();
    check("fsdp2-llama-fp32-w2", &llama, &live("fsdp2-llama-fp32-w2"));
    assert_eq!(
        hugging_face("fsdp2-llama-fp32-w2", &LLAMA),
        live("fsdp2-llama-fp32-w2")["param"]
    );
    let mut gpt2 = live("fsdp2-gpt2-bf16-w3");
    // The head is tied to the embedding: a copy that is not repeated.
    gpt2.get_mut("param").expect("weights").remove("lm_head.weight");
    check("fsdp2-gpt2-bf16-w3", &[&["--view", "hf"], &GPT2[..]].concat(), &gpt2);
    assert_eq!(hugging_face("fsdp2-gpt2-bf16-w3", &GPT2), gpt2["param"]);
}

const TORCHDIST: &str = "mlm-llama-tp2-pp2-bf16-torchdist";

/// Names and shapes as they are saved: layers are an axis, the vocabulary is padded.
#[test]
fn torch_dist_as_it_is_stored() {
    let dcp = &sets(&fixture(TORCHDIST).join("oracle/oracle.json"))["dcp"];
    let mut expected: BTreeMap<String, Tensors> = BTreeMap::new();
    for (name, known) in dcp {
        let state = name.strip_prefix("optimizer.state.").and_then(|rest| rest.split_once('.'));
        let (state, name) = match state {
            Some(("fp32_param", name)) => ("fp32", name),
            Some((state, name)) => (state, name),
            None => continue,
        };
        expected.entry(state.to_owned()).or_default().insert(name.to_owned(), known.clone());
    }
    check(TORCHDIST, &["--view", "stored"], &expected);
}

#[test]
fn torch_dist_under_the_names_of_the_model_in_memory() {
    let mut expected = live(TORCHDIST);
    expected.remove("param");
    let flags = ["--view", "mcore-local", "--set", "v=101"];
    check(TORCHDIST, &flags, &expected);
}

#[test]
fn torch_dist_under_the_names_of_hugging_face() {
    let expected = sets(&fixture(TORCHDIST).join("oracle/hf.json"));
    check(TORCHDIST, &["--view", "hf", "--set", "v=101"], &expected);
}
