//! Hugging Face folders: what transformers wrote comes out again, and runs become models.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use ucl_tests::command::{convert, ucl};
use ucl_tests::oracle::{Tensors, sets};
use ucl_tests::rounding::{rounded, values};
use ucl_tests::{fixture, written};

/// The folders with the shard size that they were written with.
const FOLDERS: [(&str, &str); 12] = [
    ("hf-gpt2-bf16-sharded", "40KB"),
    ("hf-gpt2-fp32", "5GB"),
    ("hf-llama-bf16-sharded", "40KB"),
    ("hf-llama-bf16-sharded-tf5", "40KB"),
    ("hf-llama-fp32", "5GB"),
    ("hf-llamabias-bf16-sharded", "40KB"),
    ("hf-llamatied-fp32", "5GB"),
    ("hf-mixtral-bf16-sharded", "40KB"),
    ("hf-mixtral-bf16-sharded-tf5", "40KB"),
    ("hf-mixtral-fp32", "5GB"),
    ("hf-phi3-fp32", "5GB"),
    ("hf-qwen2-bf16-sharded", "40KB"),
];

pub(crate) fn hf(name: &str) -> PathBuf {
    fixture(name).join("hf")
}

fn live(name: &str) -> Tensors {
    sets(&fixture(name).join("oracle/oracle.json")).remove("live.model").expect("live.model")
}

pub(crate) fn config(folder: &Path) -> Value {
    let text = fs::read(folder.join("config.json")).expect("a config");
    serde_json::from_slice(&text).expect("JSON")
}

#[test]
fn what_transformers_wrote_comes_out_again() {
    let scratch = TempDir::new().unwrap();
    for (name, size) in FOLDERS {
        let to_hf = ["--to", "hf", "--max-file-size", size];
        let [direct, universal, back] =
            ["direct", "universal", "back"].map(|way| scratch.path().join(format!("{name}-{way}")));
        let expected = written::digests(&hf(name));
        convert(&hf(name), &direct, &to_hf);
        assert_eq!(written::digests(&direct), expected, "{name}");
        convert(&hf(name), &universal, &[]);
        convert(&universal, &back, &to_hf);
        assert_eq!(written::digests(&back), expected, "{name} by way of a universal folder");
    }
}

#[test]
fn torch_files_become_safetensors() {
    let scratch = TempDir::new().unwrap();
    let out = scratch.path().join("out");
    convert(&hf("hf-llama-fp16-bin"), &out, &["--to", "hf"]);
    assert_eq!(written::model(&out), live("hf-llama-fp16-bin"));
    for name in ["config.json", "generation_config.json"] {
        let original = fs::read(hf("hf-llama-fp16-bin").join(name)).unwrap();
        assert_eq!(fs::read(out.join(name)).unwrap(), original, "{name}");
    }
}

#[test]
fn what_transformers_5_holds_in_memory() {
    let scratch = TempDir::new().unwrap();
    let name = "hf-mixtral-bf16-sharded-tf5";
    let [memory, back] = ["memory", "back"].map(|way| scratch.path().join(format!("{name}-{way}")));
    convert(&hf(name), &memory, &["--to", "hf", "--view", "hf5"]);
    assert_eq!(written::model(&memory), live(name), "{name}");
    let size = FOLDERS.iter().find(|folder| folder.0 == name).expect("a folder").1;
    convert(&memory, &back, &["--to", "hf", "--max-file-size", size]);
    assert_eq!(written::digests(&back), written::digests(&hf(name)), "{name} and back");
}

/// Shards of all sizes hold every tensor once, where the index says.
#[test]
fn shards_of_any_size() {
    let scratch = TempDir::new().unwrap();
    let name = "hf-llama-fp32";
    let mut counts = Vec::new();
    for size in ["1", "4KB", "13KB", "30KB", "124671", "124672"] {
        let out = scratch.path().join(size);
        convert(&hf(name), &out, &["--to", "hf", "--max-file-size", size]);
        assert_eq!(written::model(&out), live(name), "{size}");
        let files = written::digests(&out)
            .into_keys()
            .filter(|path| path.extension().is_some_and(|e| e == "safetensors"));
        let files: Vec<String> = files.map(|path| path.to_string_lossy().into_owned()).collect();
        counts.push(files.len());
        let index = out.join("model.safetensors.index.json");
        if files.len() == 1 {
            assert_eq!(files, ["model.safetensors"]);
            assert!(!index.exists());
            continue;
        }
        let index: Value = serde_json::from_slice(&fs::read(index).unwrap()).unwrap();
        assert_eq!(index["metadata"], json!({"total_parameters": 31168, "total_size": 124_672}));
        let mut held = BTreeMap::new();
        for file in &files {
            let bytes = fs::read(out.join(file)).unwrap();
            let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            held.extend(tensors.names().into_iter().map(|name| (name.to_owned(), file.clone())));
        }
        assert_eq!(index["weight_map"], json!(held), "{size}");
    }
    assert_eq!(counts, [30, 23, 14, 5, 2, 1]);
}

/// Runs of Hugging Face models: the weights of the live model, in its own types.
#[test]
fn zero_runs_become_models() {
    let scratch = TempDir::new().unwrap();
    let runs = [
        ("z1-llama-fp32-dp2", "hf-llama-fp32", "float32"),
        ("z1-llama-fp16-dp2", "hf-llama-fp32", "float16"),
        ("z1-llama-bf16opt-dp2-groups2", "hf-llama-fp32", "bfloat16"),
        ("z1-gpt2-fp32-dp4-groups3", "hf-gpt2-fp32", "float32"),
        ("z1-mixtral-bf16-dp2", "hf-mixtral-fp32", "bfloat16"),
        ("z2-llama-bf16-dp2-frozen", "hf-llama-fp32", "bfloat16"),
        ("z3-llama-bf16-dp4-groups2", "hf-llama-fp32", "bfloat16"),
        ("z3-phi3-fp32-dp2-frozen", "hf-phi3-fp32", "float32"),
    ];
    for (name, model, dtype) in runs {
        let out = scratch.path().join(name);
        let from = hf(model);
        let ended =
            convert(&fixture(name), &out, &["--to", "hf", "--config", from.to_str().unwrap()]);
        let mut expected = live(name);
        // A tied head is not written.
        if name.contains("gpt2") || name.contains("tied") {
            expected.remove("lm_head.weight");
        }
        assert_eq!(written::model(&out), expected, "{name}");
        let [universal, back] =
            ["universal", "back"].map(|way| scratch.path().join(format!("{name}-{way}")));
        let given = ["--config", from.to_str().unwrap()];
        convert(&fixture(name), &universal, &given);
        convert(&universal, &back, &[&["--to", "hf"], &given[..]].concat());
        assert_eq!(written::model(&back), expected, "{name} by way of a universal folder");
        let mut configured = config(&from);
        configured["dtype"] = json!(dtype);
        assert_eq!(config(&out), configured, "{name}");
        let changed = ended.out.contains("config.json: `dtype`");
        assert_eq!(changed, dtype != "float32", "{}", ended.text());
        let mut files: Vec<_> = written::digests(&out).into_keys().collect();
        files.sort();
        assert_eq!(
            files,
            ["config.json", "generation_config.json", "model.safetensors"].map(PathBuf::from)
        );
    }
}

/// The masters are held against the oracle, and the model against the masters, rounded elsewhere.
#[test]
fn megatron_deepspeed_runs_become_models() {
    let scratch = TempDir::new().unwrap();
    let runs = [
        ("megds-llama-tp2-pp2-dp1-bf16", "BF16", &[][..]),
        ("megds-llama-tp2-pp1-dp1-z1-nopipe-fp32", "F32", &[]),
        ("ds-z1-tp2-dp2-bf16", "BF16", &[]),
        // Both orders of the fused rows fit.
        ("megds-gpt-tp2-pp2-dp1-bf16", "BF16", &["--from-view", "deepspeed-pipe"]),
    ];
    for (name, dtype, flags) in runs {
        let [masters, model, by_way] =
            ["masters", "model", "by-way"].map(|way| scratch.path().join(format!("{name}-{way}")));
        convert(
            &fixture(name),
            &masters,
            &[flags, &["--view", "hf", "--states", "weights"]].concat(),
        );
        let mut oracle = sets(&fixture(name).join("oracle/hf.json"));
        assert_eq!(written::model(&masters), oracle.remove("fp32").expect("masters"), "{name}");
        convert(&fixture(name), &model, &[flags, &["--to", "hf"]].concat());
        same_rounded(&masters, &model, dtype, name);
        // The universal folder remembers the type, and keeps masters and moments.
        let universal = scratch.path().join(format!("{name}-universal"));
        convert(&fixture(name), &universal, flags);
        convert(&universal, &by_way, &["--to", "hf"]);
        assert_eq!(written::digests(&by_way), written::digests(&model), "{name}");
    }
}

/// Every value of one folder, rounded, is the other's.
fn same_rounded(from: &Path, to: &Path, dtype: &str, what: &str) {
    let (from, to) = (written::values(from), written::values(to));
    assert_eq!(from.keys().collect::<Vec<_>>(), to.keys().collect::<Vec<_>>(), "{what}");
    for (name, (known, bytes)) in &from {
        let (found, written) = &to[name];
        assert_eq!((found.dtype.as_str(), &found.shape), (dtype, &known.shape), "{what}: {name}");
        assert!(rounded(dtype, &values(&known.dtype, bytes)) == *written, "{what}: {name}");
    }
}

#[test]
fn any_type_of_weights_to_any() {
    let scratch = TempDir::new().unwrap();
    let mut types = vec![("F32", hf("hf-llama-fp32"))];
    for from in ["F16", "BF16"] {
        let out = scratch.path().join(from);
        convert(&hf("hf-llama-fp32"), &out, &["--to", "hf", "--dtype", from]);
        types.push((from, out));
    }
    for (from, source) in &types {
        for to in ["F64", "F32", "F16", "BF16"] {
            let out = scratch.path().join(format!("{from}-{to}"));
            let ended = convert(source, &out, &["--to", "hf", "--dtype", to]);
            same_rounded(source, &out, to, &format!("{from} to {to}"));
            assert_eq!(ended.out.contains("tensors are cast"), *from != to, "{}", ended.text());
        }
    }
    let said = |dtype: &str| config(&scratch.path().join(format!("F32-{dtype}")))["dtype"].clone();
    assert_eq!(said("BF16"), "bfloat16");
    assert_eq!(said("F64"), "float64");
}

/// The oldest GPT-2 files have no prefix, and masks called `attn.bias`.
#[test]
fn a_mask_is_no_bias() {
    let scratch = TempDir::new().unwrap();
    let [old, out, again, universal, back] =
        ["old", "out", "again", "universal", "back"].map(|name| scratch.path().join(name));
    fs::create_dir(&old).unwrap();
    let name = "hf-gpt2-fp32";
    fs::copy(hf(name).join("config.json"), old.join("config.json")).unwrap();
    let whole = fs::read(hf(name).join("model.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&whole).unwrap();
    let mask: Vec<u8> = (0..37 * 37).map(|at| u8::from(at % 37 <= at / 37)).collect();
    let view = |dtype, shape: &[usize], data| {
        safetensors::tensor::TensorView::new(dtype, shape.to_vec(), data).unwrap()
    };
    let mut all: Vec<_> = tensors
        .tensors()
        .into_iter()
        .map(|(name, view)| (name.strip_prefix("transformer.").unwrap().to_owned(), view))
        .collect();
    let far = (-1e4_f32).to_le_bytes();
    for layer in 0..3 {
        all.push((
            format!("h.{layer}.attn.bias"),
            view(safetensors::Dtype::U8, &[1, 1, 37, 37], &mask),
        ));
        all.push((format!("h.{layer}.attn.masked_bias"), view(safetensors::Dtype::F32, &[], &far)));
    }
    fs::write(old.join("model.safetensors"), safetensors::serialize(all, None).unwrap()).unwrap();
    let ended = convert(&old, &out, &["--to", "hf"]);
    assert!(ended.out.contains("6 tensors are ignored by the spec"), "{}", ended.text());
    // The names stay as they are, without the prefix; other views of them have it.
    let bare: BTreeMap<_, _> = written::values(&hf(name))
        .into_iter()
        .map(|(name, tensor)| (name.strip_prefix("transformer.").unwrap().to_owned(), tensor))
        .collect();
    assert!(written::values(&out) == bare);
    convert(&out, &again, &["--to", "hf"]);
    assert_eq!(written::digests(&again), written::digests(&out));
    convert(&out, &universal, &[]);
    convert(&universal, &back, &["--to", "hf"]);
    assert_eq!(written::digests(&back), written::digests(&out));
}

/// A model that no spec knows keeps its names.
#[test]
fn a_model_of_ones_own() {
    let scratch = TempDir::new().unwrap();
    let out = scratch.path().join("out");
    let name = "ds-z1-buffer-tied-dp2-bf16";
    for view in [&[][..], &["--view", "stored"]] {
        let ended = convert(&fixture(name), &out, &[&["--to", "hf", "--overwrite"], view].concat());
        assert!(ended.out.contains("the source's own names"), "{}", ended.text());
        let mut expected = live(name);
        let found = written::model(&out);
        expected.retain(|tensor, _| found.contains_key(tensor));
        assert_eq!(found, expected);
        assert!(found.len() > 5);
    }
}

#[test]
fn a_plan_lists_the_files() {
    let source = hf("hf-llama-bf16-sharded");
    let ended = ucl(&[
        "plan",
        source.to_str().unwrap(),
        "--to",
        "hf",
        "--max-file-size",
        "40KB",
        "--dtype",
        "fp32",
        "--json",
    ]);
    assert_eq!(ended.code, 0, "{}", ended.text());
    let plan: Value = serde_json::from_str(&ended.out).unwrap();
    let files: Vec<_> = plan["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file["path"].as_str().unwrap())
        .collect();
    assert_eq!(
        files,
        [
            "model-00001-of-00004.safetensors",
            "model-00002-of-00004.safetensors",
            "model-00003-of-00004.safetensors",
            "model-00004-of-00004.safetensors",
            "model.safetensors.index.json"
        ]
    );
    assert_eq!(plan["beside"], json!(["config.json", "generation_config.json"]));
    let notes = plan["report"]["notes"].to_string();
    assert!(
        notes.contains("config.json: `dtype` is \\\"float32\\\", it was \\\"bfloat16\\\""),
        "{notes}"
    );
    assert!(plan["report"]["lossy"].to_string().contains("30 tensors are cast: param BF16 to F32"));
}
