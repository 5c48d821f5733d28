//! Universal folders: what the manifest says against what the files hold.

use indexmap::IndexMap;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use ucl_formats::inventory::Framework;
use ucl_formats::safetensors::layout;
use ucl_formats::survey;
use ucl_tensor::DType;

fn manifest() -> Value {
    let entry = |name: &str, role: &str, states: Value| json!({ "name": name, "shape": [2, 3], "role": role, "dtype": "BF16", "states": states });
    let state = |file: &str| json!({ "file": file, "dtype": "F32", "digest": "xxh3:00" });
    json!({
        "format": "ucl.universal", "version": 1, "step": 7,
        "source": { "kind": "DeepSpeed ZeRO-1", "version": "0.19.8", "mesh": { "dp": 2 } },
        "model": "identity", "view": "stored", "dims": {},
        "tensors": [
            entry("a", "trained", json!({ "fp32": state("fp32.safetensors"), "exp_avg": state("exp_avg.safetensors") })),
            entry("b", "frozen", json!({ "param": state("param.safetensors") })),
        ],
        "extra": ["mp_rank_00_model_states.pt"],
    })
}

fn write(root: &Path, manifest: &Value) {
    let file = |name: &str, tensor: &str| {
        let laid =
            layout(&[(tensor.to_owned(), DType::F32, vec![2, 3])], &IndexMap::new()).unwrap();
        let mut bytes = laid.header;
        bytes.resize(laid.len as usize, 0);
        fs::write(root.join(name), bytes).unwrap();
    };
    file("fp32.safetensors", "a");
    file("exp_avg.safetensors", "a");
    file("param.safetensors", "b");
    fs::create_dir_all(root.join("extra")).unwrap();
    fs::write(root.join("extra/mp_rank_00_model_states.pt"), "as it is").unwrap();
    fs::write(root.join("ucl.json"), manifest.to_string()).unwrap();
}

#[test]
fn a_folder_is_read_as_its_manifest_says() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &manifest());
    for path in [folder.path().to_owned(), folder.path().join("ucl.json")] {
        let found = survey(&path);
        assert_eq!(found.problems, []);
        let inventory = found.inventory;
        let tensors: Vec<_> = inventory.tensors.iter().map(|t| (&*t.state, &*t.name)).collect();
        assert_eq!(tensors, [("fp32", "a"), ("exp_avg", "a"), ("param", "b")]);
        assert_eq!((inventory.framework, inventory.step), (Framework::Universal, Some(7)));
        assert_eq!(inventory.universal.unwrap().view, "stored");
        let carried = ucl_formats::carry::carried_bytes(&inventory.carried[0]).unwrap();
        assert_eq!(carried, b"as it is");
    }
}

/// Changes the manifest at a pointer and says what is told of the folder.
fn after(pointer: &str, value: Value) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut changed = manifest();
    *changed.pointer_mut(pointer).expect("it is there") = value;
    write(folder.path(), &changed);
    let problems = survey(folder.path()).problems;
    let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
    lines.join("\n").replace(&folder.path().display().to_string(), "<folder>")
}

#[test]
fn what_is_not_as_the_manifest_says_is_named() {
    let cases = [
        ("/tensors/0/shape", json!([3, 2])),
        ("/tensors/1/states/param/dtype", json!("BF16")),
        ("/tensors/1/name", json!("c")),
        ("/tensors/0/states/fp32/file", json!("gone.safetensors")),
        ("/tensors/0/states/fp32/file", json!("../fp32.safetensors")),
        ("/extra/0", json!("../../etc/passwd")),
        ("/extra/0", json!("gone.pt")),
        ("/extra", json!(["mp_rank_00_model_states.pt", "extra/mp_rank_00_model_states.pt"])),
        ("/version", json!(2)),
        ("/format", json!("other")),
        ("/tensors", json!({})),
    ];
    let mut lines = String::new();
    for (pointer, value) in cases {
        lines += &format!("{pointer} = {value}\n");
        for line in after(pointer, value).lines() {
            lines += &format!("    {line}\n");
        }
    }
    insta::assert_snapshot!(lines);
}
