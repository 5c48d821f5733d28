//! Commands on specs.

use crate::redact::redacted;
use std::fs;
use tempfile::TempDir;
use ucl_tests::command::ucl;

/// Three mistakes in three places.
const WRONG: &str = "\
ucl 1

model mine extends llama {
  each l { mlp.extra : f hh }
}

view hf {
  \"model.layers.{l}.mlp.extra.weight\" : f = mlp.extra
  \"model.layers.{k}.mlp.down_proj.weight\" : h f = mlp.down
}
";

#[test]
fn check_shows_every_mistake_with_its_line() {
    let scratch = TempDir::new().unwrap();
    let file = scratch.path().join("mine.ucl");
    fs::write(&file, WRONG).unwrap();
    let ended = ucl(&["check", file.to_str().unwrap()]);
    assert_eq!(ended.code, 1);
    insta::assert_snapshot!(redacted(&ended, scratch.path()));
}

#[test]
fn check_the_built_in_specs() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../specs");
    let mut files: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().to_str().unwrap().to_owned())
        .filter(|path| path.ends_with(".ucl"))
        .collect();
    files.sort();
    let mut arguments = vec!["check"];
    arguments.extend(files.iter().map(String::as_str));
    let ended = ucl(&arguments);
    assert_eq!(ended.code, 0, "{}", ended.text());
    arguments.splice(0..1, ["fmt", "--check"]);
    let ended = ucl(&arguments);
    assert_eq!(ended.code, 0, "{}", ended.text());
}

#[test]
fn fmt_mends_a_file_and_check_tells() {
    let scratch = TempDir::new().unwrap();
    let file = scratch.path().join("mine.ucl");
    fs::write(&file, "ucl 1 model mine extends llama{}view hf2{\n\"a.{l}\":h=attn.norm}").unwrap();
    let path = file.to_str().unwrap();
    assert_eq!(ucl(&["fmt", "--check", path]).code, 1);
    assert_eq!(ucl(&["fmt", path]).code, 0);
    insta::assert_snapshot!(fs::read_to_string(&file).unwrap());
    assert_eq!(ucl(&["fmt", "--check", path]).code, 0);
    fs::write(&file, "ucl 1 model {").unwrap();
    assert_eq!(ucl(&["fmt", path]).code, 2);
}

#[test]
fn specs_lists_what_is_built_in() {
    let ended = ucl(&["specs"]);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
    let models: Vec<&str> = ended.out.lines().filter(|line| !line.starts_with(' ')).collect();
    for (file, _) in ucl_specs::SPECS {
        let model = file.trim_end_matches(".ucl");
        // A model for any other stands there once for each.
        let listed = |line: &&&str| **line == model || line.starts_with(&format!("{model}-"));
        assert!(models.iter().any(|line| listed(&line)), "{model}: {models:?}");
    }
    let rest = ended.out.lines().skip_while(|line| *line != "llama");
    let llama: Vec<&str> = rest.take(5).collect();
    insta::assert_snapshot!(llama.join("\n"));
}

#[test]
fn compile_prints_a_view_flat() {
    insta::assert_snapshot!(ucl(&["compile", "llama", "--view", "hf"]).text());
}

#[test]
fn compile_does_not_know_the_view() {
    let ended = ucl(&["compile", "llama", "--view", "hff"]);
    assert_eq!(ended.code, 2);
    insta::assert_snapshot!(ended.text());
}

#[test]
fn the_spec_in_the_readme_is_correct() {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
    let readme = fs::read_to_string(readme).unwrap();
    let spec = readme.split("```\n").find(|block| block.starts_with("ucl 1")).unwrap();
    let scratch = TempDir::new().unwrap();
    let file = scratch.path().join("mine.ucl");
    fs::write(&file, spec).unwrap();
    let ended = ucl(&["check", file.to_str().unwrap()]);
    assert_eq!(ended.code, 0, "{}", ended.text());
    let ended = ucl(&["fmt", file.to_str().unwrap()]);
    assert_eq!(ended.code, 0, "{}", ended.text());
    assert_eq!(fs::read_to_string(&file).unwrap(), spec);
}
