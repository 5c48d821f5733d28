//! Models whose layers differ: GLM-4-MoE by a number of its config, Qwen2-MoE by names alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use ucl_plan::shard;
use ucl_tests::oracle::Tensors;
use ucl_tests::{command::convert, command::ucl, fixture, written};

/// The spec of GLM-4-MoE, which is none of the library's.
fn glm() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/models/glm4-moe.ucl");
    path.to_string_lossy().into_owned()
}

const QWEN: &str = "qwen2-moe-mixed";

/// The tensors of a Hugging Face folder, read with the safetensors crate.
fn tensors(folder: &Path) -> Tensors {
    let copy = tempfile::tempdir().expect("a folder");
    // The reader goes by the names of universal folders.
    let file = copy.path().join("param-00001-of-00001.safetensors");
    fs::copy(folder.join("model.safetensors"), file).expect("a copy");
    written::states(copy.path()).remove("param").expect("tensors")
}

/// The fixture in a folder of its own, without some tensors and with others renamed.
fn changed(name: &str, change: impl Fn(&str) -> Option<String>) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(name);
    fs::create_dir(&path).expect("a folder");
    fs::copy(fixture(name).join("config.json"), path.join("config.json")).expect("a copy");
    let bytes = fs::read(fixture(name).join("model.safetensors")).expect("the fixture");
    let read = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
    let kept: Vec<_> = read.tensors().into_iter().collect();
    let kept = kept.iter().filter_map(|(name, view)| Some((change(name)?, view)));
    let bytes = safetensors::serialize(kept, None).expect("safetensors");
    fs::write(path.join("model.safetensors"), bytes).expect("a file");
    (folder, path)
}

#[test]
fn hf_to_universal_and_back_is_bit_identical() {
    for (flags, name) in [(&["--spec", &glm()][..], "hf-glm4moe-bf16"), (&[], "hf-qwen2moe-bf16")] {
        let folder = tempfile::tempdir().expect("a folder");
        let (universal, back) = (folder.path().join("universal"), folder.path().join("back"));
        convert(&fixture(name), &universal, flags);
        // The universal folder carries the spec, sets and all.
        convert(&universal, &back, &["--view", "hf"]);
        assert_eq!(written::states(&back)["param"], tensors(&fixture(name)), "{name}");
        let names: Vec<String> = written::states(&universal)["param"].keys().cloned().collect();
        let (dense, gate) = if flags.is_empty() { (2, "dense.gate") } else { (0, "mlp.gate") };
        for layer in 0..3 {
            let has = |param: &str| names.contains(&format!("l.{layer}.{param}"));
            assert_eq!(has(gate), layer == dense, "{names:?}");
            assert_eq!(has("expert.gate"), layer != dense, "{names:?}");
        }
    }
}

fn refused(path: &Path, flags: &[&str]) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    let (source, target) = (path.to_string_lossy(), out.to_string_lossy());
    let mut arguments = vec!["convert", &source, &target];
    arguments.extend(flags);
    let ended = ucl(&arguments);
    assert_eq!(ended.code, 2, "{}", ended.text());
    assert!(!out.exists());
    let root = env!("CARGO_MANIFEST_DIR");
    let words: String = ended.err.split_whitespace().collect::<Vec<_>>().join(" ");
    words.replace(root, "TESTS").replace(&*source, "SOURCE").replace(&*target, "TARGET")
}

#[test]
fn what_a_layer_lacks_is_named() {
    let gone = "model.layers.0.mlp.up_proj.weight";
    let (_folder, path) =
        changed("hf-glm4moe-bf16", |name| (name != gone).then(|| name.to_owned()));
    insta::assert_snapshot!("dense-missing", refused(&path, &["--spec", &glm()]));

    let gone = "model.layers.1.mlp.gate.weight";
    let (_folder, path) =
        changed("hf-qwen2moe-bf16", |name| (name != gone).then(|| name.to_owned()));
    insta::assert_snapshot!("sparse-missing", refused(&path, &["--spec", QWEN]));
}

#[test]
fn a_number_that_the_names_contradict_is_refused() {
    let set = ["--spec", &glm(), "--set", "kd=2"];
    insta::assert_snapshot!("other-number", refused(&fixture("hf-glm4moe-bf16"), &set));
}

#[test]
fn a_layer_of_both_kinds_is_refused() {
    let (_folder, path) = changed("hf-qwen2moe-bf16", |name| {
        let rest = name.strip_prefix("model.layers.2.mlp.");
        Some(rest.map_or_else(|| name.to_owned(), |rest| format!("model.layers.0.mlp.{rest}")))
    });
    insta::assert_snapshot!("both-kinds", refused(&path, &["--spec", QWEN]));
}

#[test]
fn a_made_model_has_the_layers_of_the_real_one() {
    let mut library = ucl_specs::library();
    library.add("glm4-moe.ucl", &fs::read_to_string(glm()).expect("a spec"));
    let program = library.compile("glm4-moe").expect("it compiles");
    let sizes = "l=3 kd=1 h=16 f=20 v=24 k=2 q=2 i=3 e=4 g=10 s=10 attn.qnorm=1 attn.knorm=1 \
                 attn.q.bias=1 attn.k.bias=1 attn.v.bias=1";
    let pairs = sizes.split_whitespace().map(|pair| pair.split_once('=').expect("name=number"));
    let sizes: BTreeMap<String, u64> =
        pairs.map(|(name, size)| (name.to_owned(), size.parse().expect("a number"))).collect();
    let whole = [("tp".to_owned(), 1)].into_iter().collect();
    let made = shard(&program, "hf", &sizes, &whole, false).map_err(|wrong| format!("{wrong:?}"));
    let made: BTreeMap<String, Vec<u64>> =
        made.expect("it fits").ranks[0].tensors.iter().cloned().collect();
    let real = tensors(&fixture("hf-glm4moe-bf16"));
    let real: BTreeMap<String, Vec<u64>> =
        real.into_iter().map(|(name, known)| (name, known.shape)).collect();
    assert_eq!(made, real);
}
