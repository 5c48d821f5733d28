//! Names under the name of the module that held the model.

use serde_json::json;
use std::fs;
use std::path::Path;
use ucl_tensor::DType;
use ucl_tests::command::{convert, ucl};
use ucl_tests::made::pt::Pt;
use ucl_tests::{fixture, written};

/// Saves an fp32 model of transformers as Lightning does, where its module holds it as `self.model`.
fn save(model: &Path, prefix: &str, to: &Path) {
    let mut pt = Pt::default();
    let mut pairs = Vec::new();
    for (name, (known, bytes)) in written::values(model) {
        assert_eq!(known.dtype, "F32");
        pairs.push((format!("{prefix}{name}"), pt.tensor(DType::F32, &known.shape, bytes)));
    }
    let pairs = pairs.iter().map(|(name, tensor)| (name.as_str(), *tensor)).collect();
    let weights = pt.ordered(pairs);
    let facts = [
        ("epoch", json!(1)),
        ("global_step", json!(3)),
        ("pytorch-lightning_version", json!("2.5.1")),
    ];
    let mut entries: Vec<_> = facts.iter().map(|(key, value)| (*key, pt.json(value))).collect();
    entries.push(("state_dict", weights));
    let root = pt.dict(entries);
    pt.save(root, to);
}

#[test]
fn lightning_holds_a_model() {
    let model = fixture("hf-llama-fp32/hf");
    let config = model.to_string_lossy();
    let scratch = tempfile::tempdir().unwrap();
    let (held, plain) = (scratch.path().join("held.ckpt"), scratch.path().join("plain.ckpt"));
    save(&model, "model.", &held);
    save(&model, "", &plain);
    for (source, taken_off) in [(&held, true), (&plain, false)] {
        let out = source.with_extension("out");
        let told = convert(source, &out, &["--to", "hf", "--config", &config]);
        assert_eq!(written::model(&out), written::model(&model));
        let said = told.out.contains("A wrapper prefix (`model.`, of the module");
        assert_eq!(said, taken_off, "{}", told.out);
    }
    // Of no model that is known: names are as they are.
    let other = scratch.path().join("other.ckpt");
    save(&model, "model.net.", &other);
    let out = scratch.path().join("stored");
    let typed = [&other, &out].map(|path| path.to_string_lossy().into_owned());
    let ended = ucl(&["convert", &typed[0], &typed[1], "--view", "stored"]);
    assert_eq!(ended.code, 0, "{}", ended.text());
    assert!(!ended.out.contains("A wrapper prefix"), "{}", ended.text());
    assert!(written::states(&out)["param"].keys().all(|name| name.starts_with("model.net.")));
}

/// Both stages of a tied pipeline may save the layer that they share.
#[test]
fn a_tied_layer_in_two_files() {
    let scratch = tempfile::tempdir().unwrap();
    let run = scratch.path().join("run");
    let (from, step) = (fixture("megds-gpt-tp2-pp2-dp1-bf16"), run.join("global_step4"));
    fs::create_dir_all(&step).unwrap();
    fs::copy(from.join("latest"), run.join("latest")).unwrap();
    for entry in fs::read_dir(from.join("global_step4")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), step.join(entry.file_name())).unwrap();
    }
    let alone = scratch.path().join("alone");
    let flags = ["--from-view", "deepspeed-pipe"];
    convert(&run, &alone, &flags);
    for tp in 0..2 {
        let layer = |number| format!("layer_{number:02}-model_{tp:02}-model_states");
        let bytes = fs::read(step.join(layer(1) + ".pt")).unwrap();
        let copy = renamed(&bytes, &layer(1), &layer(7));
        fs::write(step.join(layer(7) + ".pt"), copy).unwrap();
    }
    let both = scratch.path().join("both");
    let told = convert(&run, &both, &flags);
    assert_eq!(written::states(&both), written::states(&alone));
    assert!(told.out.contains("replica"), "{}", told.out);
    // One element of the copy is another: of its longest run of bytes, the table, one in the middle.
    let path = step.join("layer_07-model_01-model_states.pt");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    let typed = [&run, &scratch.path().join("wrong")].map(|p| p.to_string_lossy().into_owned());
    let ended = ucl(&[&["convert", &typed[0], &typed[1]], &flags[..]].concat());
    assert_ne!(ended.code, 0, "{}", ended.text());
    let name = "\"tied_modules.embed.word_embeddings.weight\" (param) at tp=1 replica=1";
    assert!(ended.err.contains(name), "{}", ended.text());
}

/// A file of torch under another name of the same length, which stands before each of its members.
fn renamed(bytes: &[u8], was: &str, is: &str) -> Vec<u8> {
    let (was, is) = (was.as_bytes(), is.as_bytes());
    assert_eq!(was.len(), is.len());
    let mut out = bytes.to_vec();
    for start in 0..bytes.len() - was.len() {
        if bytes[start..].starts_with(was) {
            out[start..start + is.len()].copy_from_slice(is);
        }
    }
    out
}
