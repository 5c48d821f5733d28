//! Saves of Megatron-core's FSDP that are not as they were written.

use crate::copy;
use crate::dcp::{after_of, entry, place, set, told};
use std::fs;
use ucl_formats::survey;
use ucl_formats::torch::{Node, NodeId, Pickle, Value};

const RUN: &str = "mfsdp-llama-w2";
const METADATA: &str = "iter_0000003/.metadata";

/// A parameter of two chunks, of 1 and 23 rows of 8, and the halves of a gated layer.
const HEAD: &str = "model.module.output_layer.weight";
const W: &str = "model.module.decoder.layers.0.mlp.linear_fc1.weight_w";
const V: &str = "model.module.decoder.layers.0.mlp.linear_fc1.weight_v";

fn after(change: impl FnOnce(&mut Pickle)) -> String {
    after_of(RUN, METADATA, change)
}

fn chunks(pickle: &Pickle, name: &str) -> Vec<NodeId> {
    let chunks = entry(pickle, name).attr("chunks").unwrap();
    chunks.items().unwrap().map(|chunk| chunk.id()).collect()
}

/// Gives a chunk of a tensor other sizes or offsets.
fn chunk(index: usize, attribute: &'static str, sizes: &'static [u64]) -> String {
    after(|pickle| {
        let chunk = chunks(pickle, HEAD)[index];
        let sizes = pickle.size(sizes);
        set(pickle, chunk, attribute, sizes);
    })
}

fn file(name: &'static str) -> String {
    after(|pickle| {
        let place = place(pickle, HEAD, &[0, 0]).id();
        let name = pickle.str(name);
        set(pickle, place, "relative_path", name);
    })
}

/// Takes entries out of a dict of the root.
fn without(pickle: &mut Pickle, attribute: &str, gone: impl Fn(Value<'_>) -> bool) {
    let dict = pickle.root().attr(attribute).unwrap();
    let kept = dict.pairs().unwrap().filter(|(key, _)| !gone(*key));
    let kept: Vec<_> = kept.map(|(key, value)| (key.id(), value.id())).collect();
    let dict = dict.id();
    let Node::Dict(dict) = pickle.node_mut(dict) else { panic!("a dict") };
    dict.pairs = kept;
}

fn lines(told: Vec<(&str, String)>) -> String {
    told.into_iter().map(|(what, told)| format!("-- {what}\n{told}")).collect::<Vec<_>>().join("\n")
}

#[test]
fn chunks_that_do_not_tile_their_tensor() {
    insta::assert_snapshot!(lines(vec![
        ("reach into each other", chunk(1, "offsets", &[0, 0])),
        ("leave a gap", chunk(1, "sizes", &[22, 8])),
        ("leave the tensor", chunk(1, "offsets", &[2, 0])),
        ("have no end", chunk(1, "sizes", &[u64::MAX, 8])),
    ]));
}

#[test]
fn files_that_leave_the_folder_or_are_not_there() {
    insta::assert_snapshot!(lines(vec![
        ("outside of the folder", file("../../oracle/oracle.json")),
        ("at the root", file("/etc/passwd")),
        ("another rank's", file("__9_0.distcp")),
    ]));
}

#[test]
fn halves_that_are_not_two() {
    let gone = |name: &'static str| {
        after(|pickle| {
            without(pickle, "state_dict_metadata", |key| key.as_str() == Some(name));
            without(pickle, "storage_data", |key| key.attr("fqn").unwrap().as_str() == Some(name));
        })
    };
    let shorter = after(|pickle| {
        let (whole, chunk) = (entry(pickle, V).id(), chunks(pickle, V)[0]);
        for (object, attribute) in [(whole, "size"), (chunk, "sizes")] {
            let size = pickle.size(&[5, 8]);
            set(pickle, object, attribute, size);
        }
    });
    insta::assert_snapshot!(lines(vec![
        ("no second", gone(V)),
        ("no first", gone(W)),
        ("a shorter one", shorter),
    ]));
}

#[test]
fn files_that_are_cut_short() {
    let (_folder, run) = copy(RUN);
    for name in [METADATA, "iter_0000003/__0_0.distcp", "iter_0000003/__1_0.distcp"] {
        let path = run.join(name);
        let whole = fs::read(&path).unwrap();
        for share in 0..40 {
            fs::write(&path, &whole[..whole.len() * share / 40]).unwrap();
            let found = survey(&run);
            assert!(!found.problems.is_empty(), "{name}: nothing was found wrong with {share}/40");
        }
        fs::write(&path, &whole).unwrap();
    }
    assert_eq!(told(&run), "");
    fs::remove_file(run.join(METADATA)).unwrap();
    insta::assert_snapshot!(told(&run));
}
