//! Sharded saves of PyTorch and of Megatron-core.

use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use ucl_tensor::DType;
use ucl_tests::command::{convert, ucl};
use ucl_tests::made::sharded::{Part, Sharded};
use ucl_tests::oracle::{Known, Tensors, sets};
use ucl_tests::{fixture, written};

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

/// What `--to hf` writes.
fn hugging_face(name: &str, flags: &[&str]) -> Tensors {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    convert(&fixture(name), &out, &[&["--to", "hf"], flags].concat());
    written::model(&out)
}

const LLAMA: [&str; 4] = ["--set", "n=4", "--set", "k=2"];

const FSDP2: &str = "fsdp2-llama-fp32-w2";

#[test]
fn fsdp2_as_it_is_stored() {
    check(FSDP2, &["--view", "stored"], &live(FSDP2));
}

#[test]
fn fsdp2_under_the_names_of_hugging_face() {
    check(FSDP2, &[&["--view", "hf"], &LLAMA[..]].concat(), &live(FSDP2));
    assert_eq!(hugging_face(FSDP2, &LLAMA), live(FSDP2)["param"]);
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
    check(TORCHDIST, &["--view", "mcore-local"], &expected);
}

#[test]
fn torch_dist_under_the_names_of_hugging_face() {
    let expected = sets(&fixture(TORCHDIST).join("oracle/hf.json"));
    check(TORCHDIST, &["--view", "hf"], &expected);
}

const MEGATRON_FSDP: &str = "mfsdp-llama-w2";

/// Megatron-core's FSDP: gated layers in halves, chunks of any size, groups for each parameter.
#[test]
fn fsdp_dtensor_under_the_names_of_hugging_face() {
    let expected = live(MEGATRON_FSDP);
    check(MEGATRON_FSDP, &["--view", "hf", "--set", "v=21"], &expected);
    assert_eq!(hugging_face(MEGATRON_FSDP, &["--set", "v=21"]), expected["param"]);
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    convert(&fixture(MEGATRON_FSDP), &out, &["--set", "v=21"]);
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(out.join("ucl.json")).expect("a manifest"))
            .expect("JSON");
    let groups = manifest["optimizer"]["groups"].as_array().expect("groups");
    assert_eq!(groups.len(), 1);
    assert_eq!(groups[0]["step"], 3);
    assert_eq!(groups[0]["hyper"]["lr"], 0.01);
    // The group is told of whole layers, the states of halves.
    let whole = inspected(&fixture(MEGATRON_FSDP));
    assert_eq!(whole["source"]["kind"], "Megatron-core fsdp_dtensor, 2 files");
    assert_eq!(whole["source"]["step"], 3);
}

/// Saves of small models by torch 2.15, with what no larger run shows: see the README of the fixtures.
#[test]
fn grids_numbers_wrappers_and_safetensors() {
    for name in ["dcp-2d-w4", "dcp-raw-w4", "dcp-fsdp1-w3", "dcp-safetensors-w2", "dcp-hf-w2"] {
        check(name, &["--view", "stored"], &live(name));
    }
}

/// Accelerate has a folder for the model and one for the optimizer.
#[test]
fn model_and_optimizer_in_a_folder_each() {
    let name = "dcp-accelerate-w2";
    check(name, &["--view", "stored"], &live(name));
    let whole = inspected(&fixture(name));
    assert_eq!(whole["source"]["step"], 3);
    assert_eq!(whole["source"]["kind"], "PyTorch DCP, 4 files");
    let alone = inspected(&fixture(name).join("checkpoint-3/pytorch_model_fsdp_0"));
    assert_eq!(alone["source"]["step"], 3);
    assert!(
        alone["notes"].to_string().contains("`optimizer_0` beside it was not taken"),
        "{alone}"
    );
}

fn inspected(path: &Path) -> serde_json::Value {
    let ended = ucl(&["inspect", "--json", path.to_str().expect("text")]);
    serde_json::from_str(&ended.out).expect(&ended.err)
}

/// Bytes of fp32 that count up.
fn counted(from: u64, count: u64) -> Vec<u8> {
    (from..from + count).flat_map(|number| (number as f32).to_le_bytes()).collect()
}

fn counted_tensor(shape: &[u64], from: u64) -> Known {
    let bytes = counted(from, shape.iter().product());
    Known { dtype: "F32".to_owned(), shape: shape.to_vec(), sha256: written::sha256(&bytes) }
}

/// A tile of a tensor that counts up, as its own row-major elements.
fn tile(shape: &[u64], at: &[u64], size: &[u64], from: u64) -> Vec<u8> {
    let count: u64 = size.iter().product();
    let index = |number: u64| {
        let (mut rest, mut flat, mut scale) = (number, 0, 1);
        for axis in (0..shape.len()).rev() {
            flat += (at[axis] + rest % size[axis]) * scale;
            scale *= shape[axis];
            rest /= size[axis];
        }
        from + flat
    };
    (0..count).flat_map(|number| (index(number) as f32).to_le_bytes()).collect()
}

/// All places of a grid, the last dim first.
fn places(grid: &[u64]) -> Vec<Vec<u64>> {
    let all: u64 = grid.iter().product();
    let place = |number: u64| {
        let (mut rest, mut place) = (number, vec![0; grid.len()]);
        for axis in (0..grid.len()).rev() {
            place[axis] = rest % grid[axis];
            rest /= grid[axis];
        }
        place
    };
    (0..all).map(place).collect()
}

/// A tensor in tiles of a grid, whole or in flat ranges that end at `cuts`.
fn parts(shape: &[u64], grid: &[u64], from: u64, cuts: Option<&[u64]>) -> Vec<Part> {
    let size: Vec<u64> = shape.iter().zip(grid).map(|(all, parts)| all / parts).collect();
    let mut out = Vec::new();
    for place in places(grid) {
        let at: Vec<u64> = place.iter().zip(&size).map(|(index, size)| index * size).collect();
        let bytes = tile(shape, &at, &size, from);
        let Some(cuts) = cuts else {
            out.push((at, size.clone(), bytes));
            continue;
        };
        let end = size.iter().product();
        let mut start = 0;
        for cut in cuts.iter().copied().filter(|cut| *cut < end).chain([end]) {
            let offsets = [&place[..], &[start]].concat();
            let extents = [&vec![1; grid.len()][..], &[cut - start]].concat();
            out.push((offsets, extents, bytes[start as usize * 4..cut as usize * 4].to_vec()));
            start = cut;
        }
    }
    out
}

/// Layers by columns of ranks, states in flat ranges of the tiles (`fully_sharded_model_space`); the shape
/// of one is only in the weight, that of another in `.metadata` too.
fn flat_ranges(folder: &Path, buckets: bool) -> BTreeMap<String, Tensors> {
    let tensors: [(&str, &[u64], &[u64]); 4] = [
        ("decoder.layers.mlp.linear_fc1.weight", &[2, 6, 5], &[2, 3, 1]),
        ("decoder.layers.mlp.linear_fc2.weight", &[2, 5, 6], &[2, 1, 2]),
        ("decoder.layers.mlp.linear_fc1.layer_norm_weight", &[2, 5], &[2, 1]),
        ("decoder.final_layernorm.weight", &[5], &[1]),
    ];
    let mut save = Sharded::default();
    let mut expected: BTreeMap<String, Tensors> = BTreeMap::new();
    for (name, shape, grid) in tensors {
        save.tensor(name, DType::F32, shape, parts(shape, grid, 0, None));
        if buckets {
            expected
                .entry("param".to_owned())
                .or_default()
                .insert(name.to_owned(), counted_tensor(shape, 0));
            continue;
        }
        for (number, state) in ["fp32_param", "exp_avg", "exp_avg_sq"].into_iter().enumerate() {
            let from = 1000 * number as u64;
            let key = format!("optimizer.state.{state}.{name}");
            if shape.len() == 1 {
                // One dim stays as it is, in ranges.
                let ranges = [(0, 2), (2, 3)]
                    .map(|(at, len)| (vec![at], vec![len], counted(from + at, len)));
                save.tensor(&key, DType::F32, shape, ranges.to_vec());
            } else {
                let tile: u64 = shape.iter().zip(grid).map(|(all, parts)| all / parts).product();
                let flat = [grid, &[tile]].concat();
                save.tensor(&key, DType::F32, &flat, parts(shape, grid, from, Some(&[1, 4, 11])));
                if state == "exp_avg" {
                    save.unflattened(&key, shape);
                }
            }
            let state = if number == 0 { "fp32" } else { state };
            expected
                .entry(state.to_owned())
                .or_default()
                .insert(name.to_owned(), counted_tensor(shape, from));
        }
    }
    if buckets {
        let key = "optimizer.distributed.dp_group_idx_0.gbuf_idx_0.dtype_(torch.float32, torch.float32).bucket_idx_0.exp_avg";
        save.tensor(key, DType::F32, &[8], vec![(vec![0], vec![8], counted(0, 8))]);
    }
    let group = json!({"lr": 0.5, "params": [0, 1, 2, 3], "step": 7});
    let common = json!([{
        "args": {"num_layers": 2, "hidden_size": 5}, "iteration": 7, "checkpoint_version": 3.0,
        "optimizer": {"optimizer": {"param_groups": [group]}},
    }]);
    save.object("common_state/shard_0_1", &common);
    save.object("rng_state/shard_0_1", &json!([{"seed": 1}]));
    save.object("decoder.layers.mlp.linear_fc1._extra_state/shard_0_2", &json!([null]));
    save.write(folder);
    expected
}

#[test]
fn flat_ranges_of_tiles_are_put_together() {
    let folder = tempfile::tempdir().expect("a folder");
    let (run, out) = (folder.path().join("iter_0000007"), folder.path().join("out"));
    let expected = flat_ranges(&run, false);
    let ended = convert(&run, &out, &["--view", "stored"]);
    assert_eq!(written::states(&out), expected);
    let said = format!("{}{}", ended.out, ended.err);
    assert!(said.contains("step 7"), "{said}");
    assert!(said.contains("_extra_state"), "{said}");
    assert!(out.join("extra/rng_state_shard_0_1.pt").is_file(), "{said}");
    let manifest = std::fs::read_to_string(out.join("ucl.json")).expect("a manifest");
    assert!(manifest.contains("\"lr\": 0.5"), "the optimizer's group is kept");
}

#[test]
fn buffers_without_names_stop_the_states_and_not_the_weights() {
    let folder = tempfile::tempdir().expect("a folder");
    let (run, out) = (folder.path().join("iter_0000007"), folder.path().join("out"));
    let expected = flat_ranges(&run, true);
    let (source, target) = (run.to_string_lossy(), out.to_string_lossy());
    let refused = ucl(&["convert", &source, &target, "--view", "stored"]);
    assert_eq!(refused.code, 2, "{}", refused.text());
    assert!(refused.err.contains("--states weights"), "{}", refused.text());
    assert!(refused.err.contains("fully-reshardable"), "{}", refused.text());
    let ended = convert(&run, &out, &["--view", "stored", "--states", "weights"]);
    assert_eq!(written::states(&out), expected);
    assert!(ended.out.contains("flat buffers"), "it is told what is left out: {}", ended.text());
}
