//! Low-rank pairs: kept apart, or added to their weights in the stated order.

use crate::folders::hf;
use serde_json::Value;
use std::fs;
use std::path::Path;
use tempfile::TempDir;
use ucl_tests::command::{convert, ucl};
use ucl_tests::oracle::{Tensors, sets};
use ucl_tests::{fixture, written};

const OF_PEFT: [&str; 3] = ["lora-llama-fp32", "lora-gpt2-bf16", "lora-phi3-fp32"];

fn merged(name: &str, set: &str) -> Tensors {
    sets(&fixture(name).join("oracle/lora.json")).remove(set).expect(set)
}

fn with(adapter: &Path) -> String {
    format!("--merge-lora={}", adapter.display())
}

#[test]
fn an_adapter_in_a_folder_is_added_to_its_model() {
    for name in OF_PEFT {
        let scratch = TempDir::new().unwrap();
        let [own, wide] = ["own", "wide"].map(|out| scratch.path().join(out));
        let flag = with(&fixture(name).join("adapter"));
        convert(&hf(name), &own, &["--to", "hf", &flag]);
        assert_eq!(written::model(&own), merged(name, "merged"), "{name}");
        convert(&hf(name), &wide, &["--to", "hf", "--dtype", "fp32", &flag]);
        assert_eq!(written::model(&wide), merged(name, "merged.fp32"), "{name}");
    }
}

#[test]
fn pairs_in_a_wrapped_model_are_added_to_their_weights() {
    for name in OF_PEFT {
        let scratch = TempDir::new().unwrap();
        let [direct, universal, after] =
            ["direct", "universal", "after"].map(|out| scratch.path().join(out));
        let source = fixture(name).join("wrapped");
        convert(&source, &direct, &["--to", "hf", "--merge-lora"]);
        assert_eq!(written::model(&direct), merged(name, "merged"), "{name}");
        // Kept apart by default, and merged when the universal folder is read.
        convert(&source, &universal, &[]);
        let apart = &written::states(&universal)["param"];
        let pairs = apart.keys().filter(|tensor| tensor.contains(".lora_")).count();
        assert!(pairs >= 12, "{name} keeps {pairs} halves");
        convert(&universal, &after, &["--to", "hf", "--merge-lora"]);
        assert_eq!(
            written::model(&after),
            merged(name, "merged"),
            "{name} by way of a universal folder"
        );
    }
}

#[test]
fn what_peft_merges_is_as_near_as_its_own_order_allows() {
    for name in ["lora-llama-fp32", "lora-phi3-fp32"] {
        let scratch = TempDir::new().unwrap();
        let out = scratch.path().join("out");
        convert(&hf(name), &out, &["--to", "hf", &with(&fixture(name).join("adapter"))]);
        let ours = written::values(&out);
        let bytes = fs::read(fixture(name).join("oracle/peft.safetensors")).unwrap();
        let theirs = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(theirs.len(), ours.len(), "{name}");
        for (tensor, view) in theirs.tensors() {
            let pairs = floats(view.data()).into_iter().zip(floats(&ours[&tensor].1));
            for (element, (theirs, ours)) in pairs.enumerate() {
                assert!(
                    (theirs - ours).abs() <= 1e-6,
                    "{name} {tensor} {element}: {theirs} {ours}"
                );
            }
        }
    }
}

#[test]
fn deepspeed_chats_pairs_are_scaled_by_one_over_their_rank() {
    let name = "lora-dschat-llama-bf16";
    let scratch = TempDir::new().unwrap();
    let [own, wide, twice, universal, after] =
        ["own", "wide", "twice", "universal", "after"].map(|out| scratch.path().join(out));
    let actor = fixture(name).join("actor");
    let told = convert(&actor, &own, &["--to", "hf", "--merge-lora"]);
    assert!(told.out.contains("alpha 1 / rank, alpha by DeepSpeed-Chat's default"), "{}", told.out);
    assert_eq!(written::model(&own), merged(name, "merged"));
    convert(&actor, &wide, &["--to", "hf", "--merge-lora", "--dtype", "fp32"]);
    assert_eq!(written::model(&wide), merged(name, "merged.fp32"));
    convert(&actor, &universal, &[]);
    convert(&universal, &after, &["--to", "hf", "--merge-lora"]);
    assert_eq!(written::model(&after), merged(name, "merged"));
    convert(&actor, &twice, &["--to", "hf", "--merge-lora", "--lora-alpha", "2"]);
    assert_ne!(written::model(&twice), merged(name, "merged"));
}

/// A real run: ZeRO-3, the base frozen in bf16, only the pairs have masters and moments.
#[test]
fn an_actor_that_was_trained_under_zero_3() {
    let name = "dschat-actor-lora-llama-z3-bf16-dp2";
    let scratch = TempDir::new().unwrap();
    let [own, wide, apart, after, universal] =
        ["own", "wide", "apart", "after", "universal"].map(|out| scratch.path().join(out));
    let config = hf("hf-llama-fp32");
    let config = ["--config", &config.to_string_lossy()];
    let run = fixture(name);
    convert(&run, &own, &[&["--to", "hf", "--merge-lora"], &config[..]].concat());
    assert_eq!(written::model(&own), merged(name, "merged"));
    convert(
        &run,
        &wide,
        &[&["--to", "hf", "--merge-lora", "--dtype", "fp32"], &config[..]].concat(),
    );
    assert_eq!(written::model(&wide), merged(name, "merged.fp32"));
    // Kept apart, the pairs have their masters and moments.
    convert(&run, &apart, &config);
    let live = sets(&run.join("oracle/oracle.json"));
    let states = written::states(&apart);
    for state in ["fp32", "exp_avg", "exp_avg_sq"] {
        assert_eq!(states[state], live[&format!("live.{state}")], "{state}");
    }
    convert(&apart, &after, &["--to", "hf", "--merge-lora"]);
    assert_eq!(written::model(&after), merged(name, "merged"));
    convert(&run, &universal, &[&["--merge-lora"], &config[..]].concat());
    assert_eq!(written::states(&universal).keys().collect::<Vec<_>>(), ["param"]);
}

#[test]
fn fused_and_turned_targets_get_the_same_sums() {
    for (name, view) in
        [("lora-phi3-fp32", "mcore"), ("lora-gpt2-bf16", "mcore"), ("lora-llama-fp32", "meta")]
    {
        let scratch = TempDir::new().unwrap();
        let [model, after, direct] =
            ["model", "after", "direct"].map(|out| scratch.path().join(out));
        let flag = with(&fixture(name).join("adapter"));
        convert(&hf(name), &model, &["--to", "hf", &flag]);
        convert(&model, &after, &["--view", view]);
        convert(&hf(name), &direct, &["--view", view, &flag]);
        assert_eq!(written::states(&direct), written::states(&after), "{name}");
    }
}

#[test]
fn a_model_with_pairs_is_no_hugging_face_model() {
    let scratch = TempDir::new().unwrap();
    let out = scratch.path().join("out");
    let source = fixture("lora-llama-fp32").join("wrapped");
    let refused =
        ucl(&["convert", &source.to_string_lossy(), &out.to_string_lossy(), "--to", "hf"]);
    assert_eq!(refused.code, 2);
    assert!(!out.exists());
    assert!(
        refused.err.contains("--merge-lora") && refused.err.contains("--to universal"),
        "{}",
        refused.err
    );
}

#[test]
fn the_plan_says_what_is_merged() {
    let source = fixture("lora-llama-fp32").join("wrapped");
    let source = source.to_string_lossy();
    let planned = ucl(&["plan", &source, "--to", "hf", "--merge-lora"]);
    insta::assert_snapshot!(
        planned.out.split("merged").nth(1).and_then(|rest| rest.split("proven").next()).unwrap()
    );
    let planned = ucl(&["plan", &source, "--to", "hf", "--merge-lora", "--json"]);
    let document: Value = serde_json::from_str(&planned.out).unwrap();
    let merged = document["report"]["merged"].as_array().unwrap();
    assert_eq!(merged.len(), 11);
    assert_eq!(merged[0]["weight"], "model.layers.0.self_attn.q_proj.weight");
    assert_eq!(merged[0]["rank"], 3);
    let apart = ucl(&["plan", &source]);
    assert!(apart.out.contains("11 low-rank pairs are kept apart"), "{}", apart.out);
}

/// An adapter of transformers' names on runs whose weights are cut over ranks, fused and flat.
#[test]
fn an_adapter_is_added_to_masters_wherever_they_lie() {
    for (name, hidden, out) in
        [("z1-llama-fp32-dp2", 32, 32), ("megds-llama-tp2-pp2-dp1-bf16", 32, 32)]
    {
        let scratch = TempDir::new().unwrap();
        let [adapter, plain, merged] =
            ["adapter", "plain", "merged"].map(|out| scratch.path().join(out));
        let (down, up) = (noise(2 * hidden, 1), noise(out * 2, 2));
        let weight = "model.layers.1.self_attn.q_proj.weight";
        save_adapter(&adapter, weight, (&down, &up), (hidden, out), 2);
        let flag = with(&adapter);
        convert(&fixture(name), &plain, &["--view", "hf"]);
        convert(&fixture(name), &merged, &["--view", "hf", &flag]);
        let (before, after) = (written::states(&plain), written::states(&merged));
        for (state, tensors) in &before {
            for (tensor, known) in tensors {
                let now = after[state].get(tensor);
                match (tensor == weight, state.as_str()) {
                    (true, "fp32") => assert_ne!(now, Some(known), "{name}"),
                    (true, _) => {
                        assert_eq!(now, None, "{name} {state}: no moments of a merged weight");
                    }
                    (false, _) => assert_eq!(now, Some(known), "{name} {tensor}"),
                }
            }
        }
        let [was, is] = [&plain, &merged].map(|folder| fp32(folder, weight));
        assert_eq!(is, added(&was, (&down, &up), (hidden, out), 2), "{name}");
    }
}

/// A weight of several windows, whatever these are.
#[test]
fn threads_and_memory_do_not_show_in_sums() {
    let (hidden, out, rank) = (1500, 1100, 5);
    let scratch = TempDir::new().unwrap();
    let [model, adapter] = ["model", "adapter"].map(|name| scratch.path().join(name));
    let (down, up) = (noise(rank * hidden, 3), noise(out * rank, 4));
    let weights = noise(out * hidden, 5);
    fs::create_dir(&model).unwrap();
    let stored = ("w.weight".to_owned(), "F32", vec![out as u64, hidden as u64], bytes(&weights));
    written::save(&model.join("model.safetensors"), &[stored]);
    save_adapter(&adapter, "w.weight", (&down, &up), (hidden, out), rank);
    let expected = added(&weights, (&down, &up), (hidden, out), rank);
    let flag = with(&adapter);
    for (number, way) in [
        ["--jobs", "1", "--memory", "4MiB"],
        ["--jobs", "3", "--memory", "16MiB"],
        ["--jobs", "2", "--memory", "1GiB"],
    ]
    .iter()
    .enumerate()
    {
        let out = scratch.path().join(number.to_string());
        let mut flags = vec!["--view", "stored", &flag];
        flags.extend(way);
        convert(&model, &out, &flags);
        let (_, found) = &written::values(&out)["w.weight"];
        assert!(floats(found) == expected, "{way:?}");
    }
}

fn fp32(folder: &Path, tensor: &str) -> Vec<f32> {
    let path = folder.join("fp32-00001-of-00001.safetensors");
    let bytes = fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    floats(file.tensor(tensor).unwrap().data())
}

/// The weight with the pair added, alpha 3, element by element.
fn added(
    weights: &[f32],
    (down, up): (&[f32], &[f32]),
    (hidden, out): (usize, usize),
    rank: usize,
) -> Vec<f32> {
    let scale = (3.0 / rank as f64) as f32;
    let mut all = Vec::new();
    for row in 0..out {
        for column in 0..hidden {
            let mut sum = 0_f32;
            for r in 0..rank {
                sum += up[row * rank + r] * down[r * hidden + column];
            }
            all.push(weights[row * hidden + column] + scale * sum);
        }
    }
    all
}

/// A folder as PEFT saves it, of one pair with alpha 3.
fn save_adapter(
    folder: &Path,
    weight: &str,
    (down, up): (&[f32], &[f32]),
    (hidden, out): (usize, usize),
    rank: usize,
) {
    fs::create_dir(folder).unwrap();
    let config = format!(r#"{{"peft_type": "LORA", "r": {rank}, "lora_alpha": 3}}"#);
    fs::write(folder.join("adapter_config.json"), config).unwrap();
    let module = weight.strip_suffix(".weight").unwrap();
    let half = |name: &str, shape: [usize; 2], values: &[f32]| {
        let name = format!("base_model.model.{module}.{name}.weight");
        (name, "F32", shape.map(|size| size as u64).to_vec(), bytes(values))
    };
    let halves = [half("lora_A", [rank, hidden], down), half("lora_B", [out, rank], up)];
    written::save(&folder.join("adapter_model.safetensors"), &halves);
}

fn noise(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((state >> 40) as f32 / (1 << 24) as f32) - 0.5
    };
    (0..count).map(|_| next()).collect()
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect()
}
