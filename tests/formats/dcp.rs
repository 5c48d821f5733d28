//! Sharded saves that are not as they were written.

use crate::copy;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use ucl_formats::torch::{Node, NodeId, Pickle, Value, emit};
use ucl_formats::{Problem, survey};

const SMALL: &str = "fsdp2-llama-fp32-w2";

pub(crate) fn told(run: &Path) -> String {
    let problems = survey(run).problems;
    let line = |problem: &Problem| {
        let help = problem.help.as_deref().unwrap_or("-");
        format!("{problem}\n    help: {help}")
    };
    let text = problems.iter().map(line).collect::<Vec<_>>().join("\n");
    text.replace(&run.display().to_string(), "<run>")
}

fn metadata(run: &Path) -> PathBuf {
    run.join("step-3/.metadata")
}

/// Changes `.metadata` as a pickle and says what is told then.
fn after(change: impl FnOnce(&mut Pickle)) -> String {
    after_of(SMALL, "step-3/.metadata", change)
}

/// The same for the `.metadata` of a fixture.
pub(crate) fn after_of(fixture: &str, metadata: &str, change: impl FnOnce(&mut Pickle)) -> String {
    let (_folder, run) = copy(fixture);
    let path = run.join(metadata);
    let mut pickle = Pickle::parse(&fs::read(&path).unwrap()).unwrap();
    change(&mut pickle);
    fs::write(&path, emit(&pickle).unwrap()).unwrap();
    let told = told(&run);
    assert!(!told.is_empty(), "nothing was found wrong");
    told
}

pub(crate) fn entry<'a>(pickle: &'a Pickle, name: &str) -> Value<'a> {
    pickle.root().attr("state_dict_metadata").unwrap().get(name).unwrap()
}

/// The place of a chunk of a tensor.
pub(crate) fn place<'a>(pickle: &'a Pickle, name: &str, offset: &[u64]) -> Value<'a> {
    let mut stored = pickle.root().attr("storage_data").unwrap().pairs().unwrap();
    let wanted = |key: Value<'_>| {
        key.attr("fqn").unwrap().as_str() == Some(name)
            && key.attr("offset").and_then(Value::as_shape).as_deref() == Some(offset)
    };
    stored.find(|(key, _)| wanted(*key)).unwrap().1
}

/// Gives an attribute of an object another value. Small values are shared, so a new one is made.
pub(crate) fn set(pickle: &mut Pickle, object: NodeId, attribute: &str, value: NodeId) {
    let state = pickle.value(object).state().unwrap().id();
    let pairs = pickle.value(state).pairs().unwrap();
    let at = pairs.into_iter().position(|(key, _)| key.as_str() == Some(attribute)).unwrap();
    let Node::Dict(dict) = pickle.node_mut(state) else { panic!("attributes") };
    dict.pairs[at].1 = value;
}

const Q: &str = "model.model.layers.0.self_attn.q_proj.weight";

fn chunk(pickle: &Pickle, index: usize) -> NodeId {
    entry(pickle, Q).attr("chunks").unwrap().index(index).unwrap().id()
}

fn set_place(attribute: &'static str, value: impl Fn(&mut Pickle) -> NodeId) -> String {
    after(|pickle| {
        let place = place(pickle, Q, &[0, 0]).id();
        let value = value(pickle);
        set(pickle, place, attribute, value);
    })
}

fn set_chunk(index: usize, attribute: &'static str, sizes: &'static [u64]) -> String {
    after(|pickle| {
        let chunk = chunk(pickle, index);
        let sizes = pickle.size(sizes);
        set(pickle, chunk, attribute, sizes);
    })
}

#[test]
fn chunks_that_do_not_tile_their_tensor() {
    insta::assert_snapshot!(
        [
            ("reach into each other", set_chunk(0, "sizes", &[17, 32])),
            ("leave a gap", set_chunk(0, "sizes", &[15, 32])),
            ("leave the tensor", set_chunk(1, "sizes", &[17, 32])),
            ("have no end", set_chunk(1, "sizes", &[u64::MAX, 32])),
            ("have other dims", set_chunk(0, "sizes", &[16, 32, 1])),
            ("are placed nowhere", set_chunk(1, "offsets", &[17, 0])),
            (
                "are missing",
                after(|pickle| {
                    let chunks = entry(pickle, Q).attr("chunks").unwrap().id();
                    let Node::List(chunks) = pickle.node_mut(chunks) else { panic!("a list") };
                    chunks.pop();
                })
            ),
        ]
        .map(|(what, told)| format!("-- {what}\n{told}"))
        .join("\n")
    );
}

#[test]
fn places_that_are_wrong() {
    insta::assert_snapshot!(
        [
            ("outside of the folder", set_place("relative_path", |p| p.str("../__0_0.distcp"))),
            ("at the root", set_place("relative_path", |p| p.str("/etc/passwd"))),
            ("no name", set_place("relative_path", |p| p.str(""))),
            ("no string", set_place("relative_path", |p| p.int(3))),
            ("another file", set_place("relative_path", |p| p.str("__7_0.distcp"))),
            ("behind the end", set_place("offset", |p| p.int(1 << 40))),
            ("at no byte", set_place("offset", |p| p.int(-1))),
            ("in the middle of an item", set_place("offset", |p| p.int(7))),
            ("too long", set_place("length", |p| p.int(i64::MAX))),
            ("too short", set_place("length", |p| p.int(100))),
            ("empty", set_place("length", |p| p.int(0))),
            (
                "of another tensor",
                after(|pickle| {
                    let other = place(pickle, "model.model.embed_tokens.weight", &[0, 0]);
                    let offset = other.attr("offset").unwrap().id();
                    let length = other.attr("length").unwrap().id();
                    let place = place(pickle, Q, &[0, 0]).id();
                    set(pickle, place, "offset", offset);
                    set(pickle, place, "length", length);
                })
            ),
            (
                "written through a transform",
                after(|pickle| {
                    let place = place(pickle, Q, &[0, 0]).id();
                    let state = pickle.value(place).state().unwrap().id();
                    let name = pickle.str("stream.zstd");
                    let (key, list) =
                        (pickle.str("transform_descriptors"), pickle.list(vec![name]));
                    let Node::Dict(dict) = pickle.node_mut(state) else { panic!("attributes") };
                    dict.pairs.push((key, list));
                })
            ),
        ]
        .map(|(what, told)| format!("-- {what}\n{told}"))
        .join("\n")
    );
}

#[test]
fn lists_that_are_wrong() {
    let without = |attribute: &'static str| {
        after(move |pickle| {
            let root = pickle.root().id();
            let none = pickle.none();
            set(pickle, root, attribute, none);
        })
    };
    insta::assert_snapshot!(
        [
            ("no tensors", without("state_dict_metadata")),
            ("no places", without("storage_data")),
            (
                "another type",
                after(|pickle| {
                    let properties = entry(pickle, Q).attr("properties").unwrap();
                    let dtype = properties.state().unwrap().index(0).unwrap().id();
                    let other = pickle.dtype(ucl_tensor::DType::BF16).unwrap();
                    *pickle.node_mut(dtype) = pickle.node(other).clone();
                })
                .lines()
                .take(2)
                .collect::<Vec<_>>()
                .join("\n")
            ),
            (
                "a tensor that is a number",
                after(|pickle| {
                    let entry = entry(pickle, Q).id();
                    *pickle.node_mut(entry) = Node::Int(1);
                })
            ),
        ]
        .map(|(what, told)| format!("-- {what}\n{told}"))
        .join("\n")
    );
}

#[test]
fn files_that_are_missing_or_cut_short() {
    let (_folder, run) = copy(SMALL);
    fs::remove_file(run.join("step-3/__1_0.distcp")).unwrap();
    let missing = told(&run);
    let (_folder, run) = copy(SMALL);
    let path = run.join("step-3/__0_0.distcp");
    let length = fs::metadata(&path).unwrap().len();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length - 1).unwrap();
    let cut = told(&run);
    let (_folder, run) = copy(SMALL);
    fs::remove_file(metadata(&run)).unwrap();
    let unfinished = told(&run);
    insta::assert_snapshot!(format!(
        "-- missing\n{missing}\n-- cut short\n{cut}\n-- without .metadata\n{unfinished}"
    ));
}

/// At every opcode near the start, and all over the rest.
#[test]
fn metadata_cut_short_anywhere() {
    let (_folder, run) = copy(SMALL);
    let path = metadata(&run);
    let whole = fs::read(&path).unwrap();
    let started = Instant::now();
    let cuts = (0..400).chain((400..whole.len()).step_by(997)).chain([whole.len() - 1]);
    for length in cuts {
        fs::write(&path, &whole[..length]).unwrap();
        let problems = survey(&run).problems;
        assert!(!problems.is_empty(), "nothing was found wrong with {length} bytes");
    }
    assert!(started.elapsed() < Duration::from_secs(120));
}

/// A list of lists of lists, and one that holds itself.
#[test]
fn metadata_nested_deeply_or_in_a_circle() {
    let (_folder, run) = copy(SMALL);
    let path = metadata(&run);
    let mut deep = vec![0x80, 4];
    deep.extend(std::iter::repeat_n(b']', 1 << 20));
    deep.extend(std::iter::repeat_n(b'a', (1 << 20) - 1));
    deep.push(b'.');
    fs::write(&path, &deep).unwrap();
    assert!(told(&run).contains("state_dict_metadata"));
    let circle = b"\x80\x04]\x94h\x00a.";
    fs::write(&path, circle).unwrap();
    assert!(told(&run).contains("state_dict_metadata"));
    let told = after(|pickle| {
        let entry = entry(pickle, Q).id();
        let chunks = pickle.value(entry).attr("chunks").unwrap().id();
        let Node::List(held) = pickle.node_mut(chunks) else { panic!("a list") };
        held[0] = chunks;
    });
    assert!(told.contains("without offsets and sizes"), "{told}");
}

/// A million chunks that all lie on one another are refused in time.
#[test]
fn many_chunks_on_one_another() {
    let started = Instant::now();
    let told = after(|pickle| {
        let chunks = entry(pickle, Q).attr("chunks").unwrap().id();
        let Node::List(held) = pickle.node_mut(chunks) else { panic!("a list") };
        let first = held[0];
        held.extend(std::iter::repeat_n(first, 300_000));
    });
    assert!(told.contains(Q), "{told}");
    assert!(started.elapsed() < Duration::from_secs(60));
}
