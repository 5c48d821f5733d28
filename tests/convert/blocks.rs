//! Weights of eight bits with a scale for each block, as the reference declares them.

use safetensors::{Dtype, tensor::TensorView};
use std::fs;
use std::path::Path;
use ucl_tests::{command::convert, command::ucl, written};

/// The reference's example, with blocks of 4 by 4.
fn spec(folder: &Path) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../grammar/README.md");
    let reference = fs::read_to_string(path).expect("the reference");
    let start = reference.find("ucl 1\n\nmodel blocks").expect("the example");
    let text = reference[start..].split("```").next().expect("its end");
    assert!(text.contains("= 128"));
    let file = folder.join("blocks.ucl");
    fs::write(&file, text.replace("= 128", "= 4")).expect("a file");
    file.to_string_lossy().into_owned()
}

/// A model of `rows` by 8 in eight bits, whose last blocks may be cut short.
fn write(folder: &Path, rows: usize) {
    let bytes = |count: usize| (0..count).map(|at| (at * 37 % 120) as u8).collect::<Vec<u8>>();
    let floats = |count: usize| -> Vec<u8> {
        (0..count).flat_map(|at| (at as f32 + 0.5).to_le_bytes()).collect()
    };
    let tensors = [
        ("model.layers.0.mlp.up_proj.weight", Dtype::F8_E4M3, vec![rows, 8], bytes(rows * 8)),
        (
            "model.layers.0.mlp.up_proj.weight_scale_inv",
            Dtype::F32,
            vec![rows.div_ceil(4), 2],
            floats(rows.div_ceil(4) * 2),
        ),
        ("model.norm.weight", Dtype::F32, vec![8], floats(8)),
    ];
    let views = tensors.iter().map(|(name, dtype, shape, data)| {
        (*name, TensorView::new(*dtype, shape.clone(), data).expect("a tensor"))
    });
    let file = safetensors::serialize(views, None).expect("safetensors");
    fs::write(folder.join("param-00001-of-00001.safetensors"), file).expect("a file");
}

#[test]
fn weights_and_scales_of_blocks_go_there_and_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("source");
    fs::create_dir(&source).expect("a folder");
    write(&source, 12);
    let (universal, back) = (folder.path().join("universal"), folder.path().join("back"));
    convert(&source, &universal, &["--spec", &spec(folder.path())]);
    let made = &written::states(&universal)["param"];
    assert_eq!(made["l.0.mlp.up"].shape, [12, 8]);
    assert_eq!(made["l.0.mlp.up.inv"].shape, [3, 2]);
    convert(&universal, &back, &["--view", "hf"]);
    assert_eq!(written::states(&back)["param"], written::states(&source)["param"]);
}

#[test]
fn a_last_block_that_is_cut_short_does_not_fit() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("source");
    fs::create_dir(&source).expect("a folder");
    write(&source, 10);
    let out = folder.path().join("out");
    let (from, to) = (source.to_string_lossy(), out.to_string_lossy());
    let ended = ucl(&["convert", &from, &to, "--spec", &spec(folder.path())]);
    assert_eq!(ended.code, 2, "{}", ended.text());
    assert!(
        ended.err.contains("`F b` is 10") && ended.err.contains("12 by the rest"),
        "{}",
        ended.text()
    );
}
