//! Plain files: safetensors and torch, one or many.

use crate::gather::sha256;
use indexmap::IndexMap;
use safetensors::SafeTensors;
use std::fs;
use std::path::Path;
use ucl_formats::inventory::Framework;
use ucl_formats::safetensors::layout;
use ucl_formats::survey;
use ucl_tensor::DType;

/// Writes a file of the tensors `<name>` = [2, 3] of f32, and gives its bytes.
fn write(path: &Path, names: &[&str]) {
    let tensors: Vec<_> =
        names.iter().map(|name| ((*name).to_owned(), DType::F32, vec![2, 3])).collect();
    let laid = layout(&tensors, &IndexMap::new()).unwrap();
    let mut file = laid.header;
    file.resize(laid.len as usize, 7);
    SafeTensors::deserialize(&file).unwrap();
    fs::write(path, file).unwrap();
}

fn told(root: &Path) -> String {
    let problems = survey(root).problems;
    let lines = problems.iter().map(|p| format!("{p} / {}", p.help.as_deref().unwrap_or("-")));
    lines.collect::<Vec<_>>().join("\n").replace(&root.display().to_string(), "<folder>")
}

#[test]
fn shards_and_an_index() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write(&root.join("model-00001-of-00002.safetensors"), &["a", "b"]);
    write(&root.join("model-00002-of-00002.safetensors"), &["c"]);
    write(&root.join("consolidated.safetensors"), &["a", "b", "c"]);
    fs::write(root.join("config.json"), "{}").unwrap();
    let index = |map: &str| {
        fs::write(root.join("model.safetensors.index.json"), format!("{{\"weight_map\":{map}}}"))
            .unwrap();
    };
    index(r#"{"a": "model-00001-of-00002.safetensors", "c": "model-00002-of-00002.safetensors"}"#);
    let found = survey(root);
    assert_eq!(found.problems, []);
    let names: Vec<_> = found.inventory.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(found.inventory.framework, Framework::HuggingFace);
    assert_eq!(found.inventory.kind, "Hugging Face safetensors, 2 files");
    assert_eq!(sha256(&found.inventory, &found.inventory.tensors[2]).len(), 64);

    index(r#"{"a": "../a.safetensors", "b": "/etc/passwd", "c": "gone.safetensors"}"#);
    insta::assert_snapshot!(told(root));
}

#[test]
fn shards_without_an_index() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write(&root.join("model-00001-of-00003.safetensors"), &["a", "b"]);
    write(&root.join("model-00003-of-00003.safetensors"), &["b"]);
    insta::assert_snapshot!(told(root));
}

#[test]
fn damaged_headers() {
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("good.safetensors");
    write(&good, &["a", "b"]);
    let good = fs::read(good).unwrap();
    let header = |json: &str, data: usize| {
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend(json.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    };
    let mut huge = good.clone();
    huge[0] = 0xff;
    huge[6] = 0xff;
    let tensor = r#"{"dtype":"U8","shape":[4],"data_offsets":[0,4]}"#;
    let cases = [
        ("cut in its data", good[..good.len() - 1].to_vec()),
        ("cut in its header", good[..100].to_vec()),
        ("a huge header", huge),
        ("longer than it says", [good.as_slice(), b"x"].concat()),
        ("a name twice", header(&format!(r#"{{"a":{tensor},"a":{tensor}}}"#), 4)),
        ("overlapping", header(&format!(r#"{{"a":{tensor},"b":{tensor}}}"#), 4)),
        ("not JSON", header("{]", 0)),
        (
            "overflow",
            header(
                r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}"#,
                0,
            ),
        ),
        (
            "a negative size",
            header(r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,0]}}"#, 0),
        ),
        (
            "smaller than a byte",
            header(r#"{"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}}"#, 1),
        ),
    ];
    let mut lines = String::new();
    for (name, bytes) in cases {
        let path = folder.path().join("x");
        fs::write(&path, bytes).unwrap();
        let problems = survey(&path).problems;
        assert_eq!(problems.len(), 1, "{name}");
        lines += &format!("{name}: {}\n", problems[0].message);
    }
    insta::assert_snapshot!(lines);
}

#[test]
fn torch_files_of_all_forms() {
    for (name, count) in [("views", 10), ("legacy-views", 10), ("dtypes", 17), ("os-system", 2)] {
        let path = ucl_tests::fixture("hostile").join(format!("{name}.pt"));
        let found = survey(&path);
        assert_eq!(found.problems, [], "{name}");
        assert_eq!(found.inventory.tensors.len(), count, "{name}");
        assert_eq!(found.inventory.kind, "torch file");
    }
    let problems = survey(&ucl_tests::fixture("README.md")).problems;
    assert!(problems[0].message.contains("neither a safetensors nor a torch file"));
}
