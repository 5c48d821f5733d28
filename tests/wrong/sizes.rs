//! Numbers that no size can be, and tensors of several types.

use crate::scene::{Scene, copy};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize_to_file};
use std::collections::BTreeMap;
use std::fs;
use ucl_tests::{command::ucl, fixture};

type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// A copy of the model in the fixture, its tensors changed.
fn model(name: &str, edit: impl FnOnce(&mut Tensors)) -> Scene {
    let scene = Scene::empty();
    copy(&fixture(name).join("hf"), &scene.path("run"));
    let path = scene.path("run/model.safetensors");
    let file = fs::read(&path).unwrap();
    let opened = SafeTensors::deserialize(&file).unwrap();
    let mut tensors: Tensors = opened
        .tensors()
        .into_iter()
        .map(|(name, view)| (name, (view.dtype(), view.shape().to_vec(), view.data().to_vec())))
        .collect();
    edit(&mut tensors);
    let views = tensors.iter().map(|(name, (dtype, shape, data))| {
        (name.as_str(), TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    serialize_to_file(views, None, &path).unwrap();
    scene
}

fn convert(scene: &Scene, flags: &[&str]) -> ucl_tests::command::Ended {
    let (run, out) = (scene.path("run"), scene.path("out"));
    let mut arguments = vec!["convert", run.to_str().unwrap(), out.to_str().unwrap()];
    arguments.extend(flags);
    ucl(&arguments)
}

/// One more layer of far too high a number: nothing is dropped, nothing is counted up to it.
#[test]
fn numbers_in_names_that_are_no_indices() {
    for number in ["18446744073709551615", "99999999999", "20000000"] {
        let scene = model("hf-llama-fp32", |tensors| {
            let norm = tensors["model.layers.0.input_layernorm.weight"].clone();
            tensors.insert(format!("model.layers.{number}.input_layernorm.weight"), norm);
        });
        let universal = convert(&scene, &[]);
        let written = fs::read_to_string(scene.path("out/ucl.json")).unwrap_or_default();
        assert!(universal.code == 2 || written.contains(number), "{}", universal.text());
        let hf = convert(&scene, &["--view", "hf", "--overwrite"]);
        assert_eq!(hf.code, 2, "{}", hf.text());
        assert!(hf.err.contains(number), "{}", hf.text());
    }
}

#[test]
fn sizes_in_a_config_that_no_dim_can_have() {
    let scene = model("hf-llama-fp32", |_| {});
    let text = fs::read_to_string(scene.path("run/config.json")).unwrap();
    for wrong in ["-9223372036854775808", "4611686018427387904", "1e30", "-3", "2.5", "\"32\""] {
        let changed = text.replace("\"hidden_size\": 32", &format!("\"hidden_size\": {wrong}"));
        assert_ne!(changed, text);
        scene.write("run/config.json", changed);
        let ended = convert(&scene, &["--view", "hf"]);
        assert_eq!(ended.code, 2, "{wrong}: {}", ended.text());
        assert!(ended.err.contains("`hidden_size` is"), "{wrong}: {}", ended.text());
        assert!(!scene.path("out").exists());
    }
    let said = convert(&scene, &["--set", "i=9223372036854775807"]);
    assert!(said.err.contains("larger than any dim"), "{}", said.text());
}

/// An expert in bf16 beside others in fp32: the stacked tensor is fp32, and both ways are equal.
#[test]
fn parts_of_several_types_are_not_rounded() {
    let scene = model("hf-mixtral-fp32", |tensors| {
        for (name, (dtype, _, data)) in tensors.iter_mut() {
            if name.contains(".experts.0.") {
                *dtype = Dtype::BF16;
                *data = data.chunks_exact(4).flat_map(|value| [value[2], value[3]]).collect();
            }
        }
    });
    let ended = convert(&scene, &[]);
    assert_eq!(ended.code, 0, "{}", ended.text());
    assert!(
        ended.out.contains("BF16 to F32") && !ended.out.contains("F32 to BF16"),
        "{}",
        ended.text()
    );
    let (run, out) = (scene.path("run"), scene.path("out"));
    let diff = ucl(&["diff", run.to_str().unwrap(), out.to_str().unwrap()]);
    assert_eq!(diff.code, 0, "{}", diff.text());
}

/// Values that a type cannot hold are counted, and told by tensor.
#[test]
fn values_that_are_too_large_for_a_type() {
    let scene = model("hf-llama-fp32", |tensors| {
        let (_, _, data) = tensors.get_mut("model.norm.weight").unwrap();
        for (at, value) in [(0, 1e38_f32), (3, -70000.0), (5, f32::NAN)] {
            data[4 * at..4 * at + 4].copy_from_slice(&value.to_le_bytes());
        }
    });
    let ended = convert(&scene, &["--to", "hf", "--dtype", "fp16"]);
    assert_eq!(ended.code, 0, "{}", ended.text());
    assert!(ended.out.contains("model.norm.weight: 3 values are infinite"), "{}", ended.text());
    let plain = convert(&scene, &["--to", "hf", "--overwrite"]);
    assert!(!plain.out.contains("infinite"), "nothing is cast: {}", plain.text());
}
