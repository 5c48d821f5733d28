//! What lies beside the weights of a Hugging Face folder, and what it has to say of them.

use crate::folders::{config, hf};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use ucl_tests::command::convert;
use ucl_tests::made::pt::Pt;
use ucl_tests::rounding::{self, rounded};
use ucl_tests::{fixture, written};

/// Tokenizer, licence and code go along, by way of a universal folder too; scripts and cards do not.
#[test]
fn files_of_the_model_go_along() {
    let scratch = TempDir::new().unwrap();
    let [source, universal, direct, back] =
        ["source", "universal", "direct", "back"].map(|name| scratch.path().join(name));
    fs::create_dir(&source).unwrap();
    for name in ["model.safetensors", "generation_config.json"] {
        fs::copy(hf("hf-llama-fp32").join(name), source.join(name)).unwrap();
    }
    let mut config = config(&hf("hf-llama-fp32"));
    let kept = [
        "tokenizer.json",
        "tokenizer.model",
        "spm.model",
        "cl100k_base.tiktoken",
        "chat_template.jinja",
        "additional_chat_templates/tools.jinja",
        "LICENSE",
        "modeling_mine.py",
    ];
    fs::create_dir(source.join("additional_chat_templates")).unwrap();
    let others = ["README.md", "notes.txt", "optimizer.pt", ".gitattributes"];
    for name in kept.iter().chain(&others) {
        fs::write(source.join(name), format!("{name}\n")).unwrap();
    }
    for code in [None, Some("config.json"), Some("tokenizer_config.json")] {
        let own_code = code.is_some();
        config.as_object_mut().unwrap().remove("auto_map");
        let auto_map = json!({"AutoConfig": "modeling_mine.Config"});
        if code == Some("config.json") {
            config["auto_map"] = auto_map.clone();
        }
        fs::write(source.join("config.json"), config.to_string()).unwrap();
        if code == Some("tokenizer_config.json") {
            let text = json!({"auto_map": auto_map}).to_string();
            fs::write(source.join("tokenizer_config.json"), text).unwrap();
        }
        let again = ["--overwrite"];
        convert(&source, &universal, &again);
        convert(&universal, &back, &["--to", "hf", "--overwrite"]);
        let ended = convert(&source, &direct, &["--to", "hf", "--overwrite"]);
        let script = if own_code { "" } else { "modeling_mine.py, " };
        let note = format!("not the model's: README.md, {script}notes.txt, optimizer.pt.");
        assert!(ended.out.contains(&note), "{}", ended.text());
        let mut expected = vec!["config.json", "generation_config.json", "model.safetensors"];
        expected.extend(kept.iter().filter(|name| own_code || !name.ends_with(".py")));
        expected.extend(code.filter(|name| *name != "config.json"));
        expected.sort_unstable();
        for out in [&back, &direct] {
            let files = written::digests(out);
            let names: Vec<_> = files.keys().map(|path| path.to_str().unwrap()).collect();
            assert_eq!(names, expected);
            let original = written::digests(&source);
            assert!(files.iter().all(|(path, digest)| original[path] == *digest));
        }
    }
}

#[test]
fn a_config_that_is_missing_is_told() {
    let scratch = TempDir::new().unwrap();
    let out = scratch.path().join("out");
    let ended = convert(&fixture("z1-llama-fp32-dp2"), &out, &["--to", "hf"]);
    assert!(
        ended.out.contains("config.json is missing") && ended.out.contains("--config DIR"),
        "{}",
        ended.text()
    );
    let files: Vec<_> = written::digests(&out).into_keys().collect();
    assert_eq!(files, [PathBuf::from("model.safetensors")]);
}

/// The type is changed where it is said, in the words in which it is said.
#[test]
fn the_type_of_the_weights() {
    let scratch = TempDir::new().unwrap();
    let [folder, out] = ["folder", "out"].map(|name| scratch.path().join(name));
    fs::create_dir(&folder).unwrap();
    let text = fs::read_to_string(hf("hf-gpt2-fp32").join("config.json")).unwrap();
    // As transformers 4 wrote it before 4.56, and compact.
    let old = text.replace("\"dtype\"", "\"torch_dtype\"").replace(",\n  ", ",");
    fs::write(folder.join("config.json"), &old).unwrap();
    let flags = ["--to", "hf", "--dtype", "bf16", "--config", folder.to_str().unwrap()];
    convert(&fixture("z1-gpt2-fp32-dp4-groups3"), &out, &flags);
    let found = fs::read_to_string(out.join("config.json")).unwrap();
    assert_eq!(found, old.replace("\"float32\"", "\"bfloat16\""));
    // Nothing is said of the type: nothing is added.
    let silent = old
        .replace("\"torch_dtype\":\"float32\",", "")
        .replace("\"torch_dtype\": \"float32\",", "");
    assert_ne!(silent, old);
    fs::write(folder.join("config.json"), &silent).unwrap();
    convert(&fixture("z1-gpt2-fp32-dp4-groups3"), &out, &[&flags[..], &["--overwrite"]].concat());
    assert_eq!(fs::read_to_string(out.join("config.json")).unwrap(), silent);
}

/// A config that was written with the weights is left as it is, whatever type it says: weights of one
/// byte stand for others, one tensor may be wider, and some configs were never true.
#[test]
fn the_type_that_a_config_says_of_its_own_weights() {
    let scratch = TempDir::new().unwrap();
    let name = "hf-llama-bf16-sharded";
    let values = written::values(&hf(name));
    type Which = fn(&str) -> bool;
    let cases: [(&str, &str, Which); 3] = [
        ("scales", "F8_E4M3", |name| name.contains("_proj.")),
        ("wider", "F32", |name| name == "model.embed_tokens.weight"),
        ("untrue", "F32", |_| true),
    ];
    for (case, dtype, changed) in cases {
        let [source, direct, universal, back, cast] =
            ["source", "direct", "universal", "back", "cast"]
                .map(|way| scratch.path().join(format!("{case}-{way}")));
        fs::create_dir(&source).unwrap();
        let text = fs::read(hf(name).join("config.json")).unwrap();
        fs::write(source.join("config.json"), &text).unwrap();
        let mut tensors = Vec::new();
        for (name, (known, bytes)) in &values {
            let to = if changed(name) { dtype } else { "BF16" };
            let bytes = rounded(to, &rounding::values(&known.dtype, bytes));
            tensors.push((name.clone(), to, known.shape.clone(), bytes));
            if changed(name) && case == "scales" {
                let one = 1_f32.to_le_bytes().to_vec();
                tensors.push((format!("{name}_scale"), "F32", vec![1], one));
            }
        }
        written::save(&source.join("model.safetensors"), &tensors);
        convert(&source, &direct, &["--to", "hf"]);
        assert!(fs::read(direct.join("config.json")).unwrap() == text, "{case}");
        if case != "untrue" {
            convert(&source, &universal, &[]);
            convert(&universal, &back, &["--to", "hf"]);
            assert!(fs::read(back.join("config.json")).unwrap() == text, "{case} and back");
        }
        if case != "scales" {
            convert(&source, &cast, &["--to", "hf", "--dtype", "fp16"]);
            assert_eq!(config(&cast)["dtype"], "float16", "{case}");
        }
    }
    // A universal folder that was cast has a config of what it was.
    let [universal, back] = ["cast", "back"].map(|way| scratch.path().join(way));
    convert(&hf(name), &universal, &["--dtype", "fp16"]);
    convert(&universal, &back, &["--to", "hf"]);
    assert_eq!(config(&back)["dtype"], "float16");
}

/// What a safetensors file says of itself is kept.
#[test]
fn metadata_goes_along() {
    let scratch = TempDir::new().unwrap();
    let [source, universal, back] =
        ["source", "universal", "back"].map(|name| scratch.path().join(name));
    fs::create_dir(&source).unwrap();
    fs::copy(hf("hf-llama-fp32").join("config.json"), source.join("config.json")).unwrap();
    let whole = fs::read(hf("hf-llama-fp32").join("model.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&whole).unwrap();
    let mut metadata =
        [("format", "mlx"), ("merge_recipe", "a: 1")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    let made = safetensors::serialize(tensors.tensors(), Some(metadata.clone().into())).unwrap();
    // What is written is torch's, whatever it was before.
    metadata[0].1 = "pt".to_owned();
    fs::write(source.join("model.safetensors"), made).unwrap();
    convert(&source, &universal, &[]);
    convert(&universal, &back, &["--to", "hf"]);
    let whole = fs::read(back.join("model.safetensors")).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&whole).unwrap();
    assert_eq!(header.metadata().clone().unwrap(), metadata.into());
}

/// A head that shares its storage with the embedding is not written, and the config says that it is tied.
/// The files are two torch files with an index, as old models are.
#[test]
fn a_head_that_is_an_alias() {
    let scratch = TempDir::new().unwrap();
    let [source, out] = ["source", "out"].map(|name| scratch.path().join(name));
    fs::create_dir(&source).unwrap();
    let model = hf("hf-llamatied-fp32");
    let values = written::values(&model);
    let shards = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"];
    let mut places = serde_json::Map::new();
    for (number, shard) in shards.into_iter().enumerate() {
        let mut file = Pt::default();
        let mut entries = Vec::new();
        for (name, (known, bytes)) in &values {
            if name.contains(".layers.") == (number == 1) {
                let dtype = ucl_tensor::DType::parse(&known.dtype).unwrap();
                entries.push((name.as_str(), file.tensor(dtype, &known.shape, bytes.clone())));
            }
        }
        let embedding = entries.iter().find(|entry| entry.0 == "model.embed_tokens.weight");
        entries.extend(embedding.map(|embedding| ("lm_head.weight", embedding.1)));
        places.extend(entries.iter().map(|entry| (entry.0.to_owned(), json!(shard))));
        let root = file.ordered(entries);
        file.save(root, &source.join(shard));
    }
    let index = json!({"metadata": {"total_size": 1}, "weight_map": places});
    fs::write(source.join("pytorch_model.bin.index.json"), index.to_string()).unwrap();
    let text = fs::read_to_string(model.join("config.json")).unwrap();
    let untied = text.replace("\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false");
    assert_ne!(text, untied);
    fs::write(source.join("config.json"), untied).unwrap();
    let ended = convert(&source, &out, &["--to", "hf"]);
    assert!(
        ended.out.contains("second names are not repeated: lm_head.weight"),
        "{}",
        ended.text()
    );
    let changed = "config.json: `tie_word_embeddings` is true, it was false";
    assert!(ended.out.contains(changed), "{}", ended.text());
    for name in ["model.safetensors", "config.json"] {
        assert!(fs::read(out.join(name)).unwrap() == fs::read(model.join(name)).unwrap(), "{name}");
    }
}

/// A base model, as models of embeddings are: no head, no prefix. What there is comes out again.
#[test]
fn a_model_without_a_head() {
    let scratch = TempDir::new().unwrap();
    let [source, direct, universal, back] =
        ["source", "direct", "universal", "back"].map(|name| scratch.path().join(name));
    fs::create_dir(&source).unwrap();
    let model = hf("hf-llama-fp32");
    fs::copy(model.join("config.json"), source.join("config.json")).unwrap();
    let tensors: Vec<_> = written::values(&model)
        .into_iter()
        .filter_map(|(name, (known, bytes))| {
            let name = name.strip_prefix("model.")?.to_owned();
            Some((name, "F32", known.shape, bytes))
        })
        .collect();
    written::save(&source.join("model.safetensors"), &tensors);
    let stored = ["--to", "hf", "--view", "stored"];
    convert(&source, &direct, &stored);
    assert_eq!(written::values(&direct), written::values(&source));
    let config = |folder: &Path| fs::read(folder.join("config.json")).unwrap();
    assert!(config(&direct) == config(&source));
    convert(&source, &universal, &["--view", "stored"]);
    convert(&universal, &back, &stored);
    assert_eq!(written::digests(&back), written::digests(&direct));
}

/// Another view of the same names has the prefix that the source's lack, and says so.
#[test]
fn names_that_get_a_prefix() {
    let scratch = TempDir::new().unwrap();
    let [source, own, other, expected] =
        ["source", "own", "other", "expected"].map(|name| scratch.path().join(name));
    fs::create_dir(&source).unwrap();
    let model = hf("hf-mixtral-fp32");
    fs::copy(model.join("config.json"), source.join("config.json")).unwrap();
    let bare = |name: &str| name.strip_prefix("model.").unwrap_or(name).to_owned();
    let tensors: Vec<_> = written::values(&model)
        .into_iter()
        .map(|(name, (known, bytes))| (bare(&name), "F32", known.shape, bytes))
        .collect();
    written::save(&source.join("model.safetensors"), &tensors);
    convert(&source, &own, &["--to", "hf"]);
    assert_eq!(written::values(&own), written::values(&source));
    let (universal, back) = (scratch.path().join("universal"), scratch.path().join("back"));
    convert(&source, &universal, &[]);
    convert(&universal, &back, &["--to", "hf"]);
    assert_eq!(written::values(&back), written::values(&source));
    let ended = convert(&source, &other, &["--to", "hf", "--view", "hf5"]);
    convert(&model, &expected, &["--to", "hf", "--view", "hf5"]);
    assert_eq!(written::values(&other), written::values(&expected));
    let said = "The names get the prefix `model.`, which the source's lack.";
    assert!(ended.out.contains(said), "{}", ended.text());
}

/// A head that is stored beside the embedding that it is tied to is not written, and that is told.
#[test]
fn a_head_that_is_a_copy() {
    let scratch = TempDir::new().unwrap();
    let [source, out] = ["source", "out"].map(|name| scratch.path().join(name));
    fs::create_dir(&source).unwrap();
    let model = hf("hf-llamatied-fp32");
    fs::copy(model.join("config.json"), source.join("config.json")).unwrap();
    let mut tensors: Vec<_> = written::values(&model)
        .into_iter()
        .map(|(name, (known, bytes))| (name, "F32", known.shape, bytes))
        .collect();
    let embedding = tensors.iter().find(|tensor| tensor.0 == "model.embed_tokens.weight");
    let head = embedding.map(|(_, dtype, shape, bytes)| {
        ("lm_head.weight".to_owned(), *dtype, shape.clone(), bytes.clone())
    });
    tensors.extend(head);
    written::save(&source.join("model.safetensors"), &tensors);
    let ended = convert(&source, &out, &["--to", "hf"]);
    let said = "1 tensors are left out, as others hold the same: lm_head.weight";
    assert!(ended.out.contains(said), "{}", ended.text());
    assert_eq!(written::values(&out), written::values(&model));
}

/// Python's json writes numbers that JSON has no words for; they stay as they are.
#[test]
fn numbers_of_python() {
    let scratch = TempDir::new().unwrap();
    let [source, out, universal, back] =
        ["source", "out", "universal", "back"].map(|name| scratch.path().join(name));
    fs::create_dir(&source).unwrap();
    let model = hf("hf-llama-fp32");
    fs::copy(model.join("model.safetensors"), source.join("model.safetensors")).unwrap();
    let text = fs::read_to_string(model.join("config.json")).unwrap();
    let numbers = "{\n  \"low\": -Infinity,\n  \"limits\": [NaN, Infinity],\n";
    let text = text.replacen("{\n", numbers, 1);
    fs::write(source.join("config.json"), &text).unwrap();
    let cast = ["--to", "hf", "--dtype", "bf16"];
    convert(&source, &out, &cast);
    let expected = text.replace("\"float32\"", "\"bfloat16\"");
    assert_ne!(expected, text);
    assert_eq!(fs::read_to_string(out.join("config.json")).unwrap(), expected);
    convert(&source, &universal, &[]);
    convert(&universal, &back, &[&cast[..], &["--config", source.to_str().unwrap()]].concat());
    assert_eq!(fs::read_to_string(back.join("config.json")).unwrap(), expected);
}

/// A Trainer keeps the config and the tokenizer beside DeepSpeed's folder.
#[test]
fn a_checkpoint_of_a_trainer() {
    let scratch = TempDir::new().unwrap();
    let [run, out] = ["run", "out"].map(|name| scratch.path().join(name));
    let step = run.join("checkpoint-3/global_step3");
    fs::create_dir_all(&step).unwrap();
    let from = fixture("z1-llama-fp16-dp2");
    for entry in fs::read_dir(from.join("global_step3")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, step.join(path.file_name().unwrap())).unwrap();
    }
    let beside = run.join("checkpoint-3");
    fs::copy(from.join("latest"), beside.join("latest")).unwrap();
    fs::copy(hf("hf-llama-fp32").join("config.json"), beside.join("config.json")).unwrap();
    for name in ["tokenizer.json", "rng_state_0.pth", "trainer_state.json"] {
        fs::write(beside.join(name), name).unwrap();
    }
    let ended = convert(&run, &out, &["--to", "hf"]);
    assert!(
        ended.out.contains("not the model's: rng_state_0.pth, trainer_state.json."),
        "{}",
        ended.text()
    );
    let files: Vec<_> = written::digests(&out).into_keys().collect();
    assert_eq!(files, ["config.json", "model.safetensors", "tokenizer.json"].map(PathBuf::from));
    assert_eq!(config(&out)["dtype"], "float16");
}
