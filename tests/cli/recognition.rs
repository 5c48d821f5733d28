//! Which model a checkpoint is of: what documents, names and shapes say, and how it is told.

use crate::redact::redacted;
use std::fs;
use std::path::Path;
use tempfile::TempDir;
use ucl_tests::command::ucl;
use ucl_tests::fixture;

/// A folder with a config of this `model_type`, otherwise like the one of the fixtures.
fn config(folder: &Path, model_type: &str, heads: (u64, u64)) -> String {
    let text = fs::read_to_string(fixture("configs/hf-llama-fp32/config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    config["model_type"] = model_type.into();
    config["num_attention_heads"] = heads.0.into();
    config["num_key_value_heads"] = heads.1.into();
    let path = folder.join(format!("{model_type}-{}", heads.0));
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("config.json"), config.to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

/// What `inspect` says of the model, down to the dims.
fn model(name: &str, more: &[&str]) -> String {
    let path = fixture(name);
    let mut arguments = vec!["inspect", path.to_str().unwrap()];
    arguments.extend(more);
    let ended = ucl(&arguments);
    assert_eq!(ended.code, 0, "{}", ended.text());
    let lines = ended.out.lines().skip_while(|line| !line.starts_with("  model"));
    let lines =
        lines.take_while(|line| !line.starts_with("  dims") && !line.starts_with("  param"));
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn how_sure_it_is() {
    let folder = TempDir::new().unwrap();
    let mut text = String::new();
    let mut add = |what: &str, name: &str, more: &[&str]| {
        text += &format!("{what}\n{}\n", model(name, more));
    };
    let llama = "z1-llama-fp32-dp2";
    add("no document", llama, &[]);
    add("a type of llama", llama, &["--config", &config(folder.path(), "mistral", (4, 2))]);
    add(
        "a type that no spec names",
        llama,
        &["--config", &config(folder.path(), "nosuch", (4, 2))],
    );
    add("a type of another spec", llama, &["--config", &config(folder.path(), "phi3", (4, 2))]);
    let named = ["--spec", "llama", "--config", &config(folder.path(), "nosuch", (4, 2))];
    add("a built-in spec by name", llama, &named);
    add("a model whose spec is not here", "hf-glm4moe-bf16", &[]);
    add("related models", "megds-llama-tp2-pp2-dp1-bf16", &[]);
    add("two views", "megds-gpt-tp2-pp2-dp1-bf16", &[]);
    insta::assert_snapshot!(text);
}

#[test]
fn what_cannot_be_taken_as_it_is() {
    let folder = TempDir::new().unwrap();
    let unknown = config(folder.path(), "nosuch", (4, 2));
    let out = folder.path().join("out");
    let mut text = String::new();
    for (name, more) in [
        ("z1-llama-fp32-dp2", vec!["--config", &unknown, "--view", "meta"]),
        ("z1-llama-fp32-dp2", vec!["--spec", "lama"]),
        ("megds-gpt-tp2-pp2-dp1-bf16", vec![]),
    ] {
        let source = fixture(name);
        let mut arguments = vec!["convert", source.to_str().unwrap(), out.to_str().unwrap()];
        arguments.extend(&more);
        let ended = ucl(&arguments);
        assert_eq!(ended.code, 2, "{}", ended.text());
        assert!(!out.exists());
        let typed = arguments.join(" ");
        let typed = typed.replace(fixture("").to_str().unwrap().trim_end_matches('/'), "FIXTURES");
        let typed = typed.replace(folder.path().to_str().unwrap(), "TMP");
        text += &format!("ucl {typed}\n{}\n", redacted(&ended, folder.path()));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn an_unknown_type_keeps_its_own_names() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("out");
    let source = fixture("z1-llama-fp32-dp2");
    let unknown = config(folder.path(), "nosuch", (4, 2));
    let (from, to) = (source.to_str().unwrap(), out.to_str().unwrap());
    let ended = ucl(&["convert", from, to, "--config", &unknown]);
    assert_eq!(ended.code, 0, "{}", ended.text());
    let states = ucl_tests::written::states(&out);
    let live = ucl_tests::oracle::sets(&source.join("oracle/oracle.json"));
    assert_eq!(states["fp32"], live["live.fp32"]);
    assert_eq!(states["exp_avg"], live["live.exp_avg"]);
}

#[test]
fn the_same_as_data() {
    let path = fixture("megds-gpt-tp2-pp2-dp1-bf16");
    let ended = ucl(&["inspect", path.to_str().unwrap(), "--json"]);
    let whole: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&whole["recognition"]).unwrap());
}
