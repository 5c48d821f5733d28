//! StarCoder2, a family that no shipped spec knows: one file, written by the reference alone.

use safetensors::SafeTensors;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use ucl_tests::{command::convert, command::ucl, fixture};

const SPEC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../grammar/examples/starcoder2.ucl");

/// The bytes of every tensor of a file.
fn bytes(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let file = fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    tensors.tensors().into_iter().map(|(name, view)| (name, view.data().to_vec())).collect()
}

#[test]
fn there_and_back_is_the_same_file() {
    let folder = tempfile::tempdir().unwrap();
    let (universal, back) = (folder.path().join("universal"), folder.path().join("back"));
    let source = fixture("hf-starcoder2-bf16").join("hf");
    convert(&source, &universal, &["--spec", SPEC]);
    convert(&universal, &back, &["--to", "hf"]);
    for file in ["model.safetensors", "config.json", "generation_config.json"] {
        assert_eq!(
            fs::read(source.join(file)).unwrap(),
            fs::read(back.join(file)).unwrap(),
            "{file}"
        );
    }
    assert!(fs::read_to_string(universal.join("ucl.json")).unwrap().contains("starcoder2"));
}

/// Groups of a fused qkv: two queries of 8 rows, a key, a value, for each of two kv heads.
#[test]
fn megatron_core_by_its_rows() {
    const D: usize = 8;
    const ROW: usize = 32 * 2;
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("mcore");
    let source = fixture("hf-starcoder2-bf16").join("hf");
    convert(&source, &out, &["--spec", SPEC, "--view", "mcore"]);
    let (hf, mcore) = (
        bytes(&source.join("model.safetensors")),
        bytes(&out.join("param-00001-of-00001.safetensors")),
    );
    for (kind, width) in [("weight", ROW), ("bias", 2)] {
        for layer in 0..2 {
            let part =
                |name: &str| &hf[&format!("model.layers.{layer}.self_attn.{name}_proj.{kind}")];
            let rows =
                |of: &[u8], from: usize, count: usize| of[from * width..][..count * width].to_vec();
            let expected: Vec<u8> = (0..2)
                .flat_map(|j| {
                    let group = [
                        rows(part("q"), 2 * j * D, 2 * D),
                        rows(part("k"), j * D, D),
                        rows(part("v"), j * D, D),
                    ];
                    group.concat()
                })
                .collect();
            let name = format!("decoder.layers.{layer}.self_attention.linear_qkv.{kind}");
            assert_eq!(mcore[&name], expected, "{name}");
        }
    }
}

#[test]
fn the_examples_pass_their_own_tests() {
    for name in ["starcoder2", "olmo2"] {
        let path = SPEC.replace("starcoder2", name);
        assert_eq!(ucl(&["fmt", "--check", &path]).code, 0, "{name}");
        let ended = ucl(&["test", &path]);
        assert_eq!(ended.code, 0, "{}", ended.text());
        assert!(
            ended.out.contains(" 0 failed") && ended.out.contains("0 lines not pinned"),
            "{}",
            ended.text()
        );
    }
}

/// A value that is no number does not count as missing.
#[test]
fn a_config_with_damaged_values_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let source = fixture("hf-starcoder2-bf16").join("hf");
    let text = fs::read_to_string(source.join("config.json")).unwrap();
    for wrong in ["\"2\"", "2.5", "[2]"] {
        let changed = text
            .replace("\"num_key_value_heads\": 2", &format!("\"num_key_value_heads\": {wrong}"));
        assert_ne!(changed, text);
        fs::write(folder.path().join("config.json"), changed).unwrap();
        let out = folder.path().join("out");
        let (source, out) = (source.to_str().unwrap(), out.to_str().unwrap());
        let config = folder.path().to_str().unwrap();
        let ended = ucl(&["convert", source, out, "--spec", SPEC, "--config", config]);
        assert_eq!(ended.code, 2, "{}", ended.text());
        assert!(
            ended.err.contains(&format!("`num_key_value_heads` is {wrong}")),
            "{}",
            ended.text()
        );
    }
}
