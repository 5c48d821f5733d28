//! Views: Hugging Face's names, and the universal ones.

use std::collections::BTreeMap;
use ucl_tests::oracle::{Tensors, sets};
use ucl_tests::{command::convert, command::ucl, fixture, written};

fn check(name: &str, flags: &[&str], expected: &BTreeMap<String, Tensors>) {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    convert(&fixture(name), &out, flags);
    let written = written::states(&out);
    for (state, tensors) in expected {
        let found = &written[state];
        assert_eq!(
            found.keys().collect::<Vec<_>>(),
            tensors.keys().collect::<Vec<_>>(),
            "{name} {state}"
        );
        for (tensor, known) in tensors {
            assert_eq!(&found[tensor], known, "{name}: {tensor} ({state})");
        }
    }
}

fn live(name: &str) -> BTreeMap<String, Tensors> {
    sets(&fixture(name).join("oracle/oracle.json"))
        .into_iter()
        .filter(|(set, _)| set != "live.model")
        .map(|(set, tensors)| (set.replace("live.", ""), tensors))
        .collect()
}

#[test]
fn runs_of_hugging_face_models_keep_their_names() {
    let runs = [
        "z1-llama-fp32-dp2",
        "z1-llama-fp16-dp2",
        "z1-llama-bf16opt-dp2-groups2",
        "z1-gpt2-fp32-dp4-groups3",
        "z1-mixtral-bf16-dp2",
        "z2-llama-bf16-dp2-frozen",
        "z3-llama-bf16-dp4-groups2",
        "z3-phi3-fp32-dp2-frozen",
    ];
    for name in runs {
        check(name, &["--view", "hf"], &live(name));
    }
}

#[test]
fn megatron_deepspeed_llama_to_hf_and_universal() {
    let runs = [
        "megds-llama-tp2-pp2-dp1-bf16",
        "megds-llama-tp2-pp1-dp1-z1-nopipe-fp32",
        "ds-z1-tp2-dp2-bf16",
    ];
    for name in runs {
        check(name, &["--view", "hf"], &sets(&fixture(name).join("oracle/hf.json")));
        check(name, &[], &sets(&fixture(name).join("oracle/universal.json")));
    }
}

#[test]
fn megatron_lm_to_hf_and_universal() {
    let runs = [
        ("mlm-gpt-tp1-pp2-bf16-torch-tied", &["--spec", "gpt2"][..]),
        ("mlm-llama-tp2-pp2-bf16-torch", &[]),
        ("mlm-mixtral-tp1-pp1-ep2-bf16-torch", &[]),
    ];
    for (name, spec) in runs {
        let hf = [&["--view", "hf"], spec].concat();
        check(name, &hf, &sets(&fixture(name).join("oracle/hf.json")));
        check(name, spec, &sets(&fixture(name).join("oracle/universal.json")));
    }
}

/// Two ranks of a feed-forward of 53 rows and a vocabulary of 101; the embedding is whole on both.
#[test]
fn deepspeeds_autotp_is_a_layout_of_the_hugging_face_view() {
    let name = "autotp-llama-tp2-dp2-z1-fp32";
    // No config lies beside the run: how rows fall into heads has to be said.
    check(name, &["--view", "hf", "--set", "n=4", "--set", "k=2"], &live(name));
    let name = "ds-z3-autotp-tp2-dp2-bf16";
    check(name, &["--view", "hf", "--set", "n=4", "--set", "k=2"], &live(name));
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    convert(&fixture(name), &out, &["--to", "hf", "--set", "n=4", "--set", "k=2"]);
    let model = sets(&fixture(name).join("oracle/oracle.json")).remove("live.model");
    assert_eq!(written::model(&out), model.expect("the weights"));
}

#[test]
fn a_qkv_order_that_no_file_records_is_asked_for() {
    let name = "megds-gpt-tp2-pp2-dp1-bf16";
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    let source = fixture(name);
    let (source, target) = (source.to_string_lossy(), out.to_string_lossy());
    let asked = ucl(&["convert", &source, &target]);
    assert_eq!(asked.code, 2, "{}", asked.text());
    assert!(!out.exists());
    for view in ["--from-view deepspeed-pipe\n", "--from-view deepspeed-pipe-thirds\n"] {
        assert!(asked.err.contains(view), "{}", asked.text());
    }
    let expected = sets(&fixture(name).join("oracle/universal.json"));
    check(name, &["--from-view", "deepspeed-pipe"], &expected);
    let told =
        convert(&fixture(name), &folder.path().join("told"), &["--from-view", "deepspeed-pipe"]);
    let said = format!("{}{}", told.out, told.err);
    assert!(
        said.contains("tied_modules.embed.position_embeddings.weight"),
        "the shadow is told:\n{said}"
    );
}

#[test]
fn a_full_view_of_a_part_is_refused() {
    let name = "z2-qwen2-fp32-dp2-frozen-excl";
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    let source = fixture(name);
    let refused =
        ucl(&["convert", &source.to_string_lossy(), &out.to_string_lossy(), "--view", "hf"]);
    assert_eq!(refused.code, 2, "{}", refused.text());
    assert!(!out.exists());
    assert!(refused.err.contains("13 parameters"), "{}", refused.text());
    assert!(refused.err.contains("model.layers.0.self_attn.q_proj.weight"), "{}", refused.text());
}
