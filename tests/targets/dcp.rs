//! PyTorch's distributed checkpoint, as a run of FSDP saves it.

use crate::{Source, commutes, equal, files, same, sound, text};
use serde_json::json;
use std::path::Path;
use ucl_tensor::DType;
use ucl_tests::command::{convert, ucl};
use ucl_tests::made::sharded::Sharded;
use ucl_tests::{fixture, written};

const DCP: &[&str] = &["--to", "dcp", "--mesh", "dp=3"];

/// Sources of every kind whose names are those of modules, or that a view can spell so.
const SOURCES: [Source; 8] = [
    ("fsdp2-llama-fp32-w2", &[]),
    ("z1-llama-fp32-dp2", &[]),
    ("z1-llama-bf16opt-dp2-groups2", &[]),
    ("z1-gpt2-fp32-dp4-groups3", &[]),
    ("z2-llama-bf16-dp2-frozen", &[]),
    ("z3-llama-bf16-dp4-groups2", &[]),
    ("megds-llama-tp2-pp2-dp1-bf16", &["--view", "hf"]),
    ("ds-z1-sgd-dp2-fp32", &[]),
];

#[test]
fn a_source_directly_and_through_a_universal_folder() {
    for source in SOURCES {
        commutes(source, DCP);
    }
}

#[test]
fn what_is_written_is_what_was_there() {
    for (name, flags) in SOURCES {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        convert(&fixture(name), &out, &[DCP, flags].concat());
        if name.contains("gpt2") {
            // FSDP saves a tied head under its own name too.
            let ended = ucl(&["diff", text(&fixture(name)), text(&out)]);
            assert!(ended.out.contains("only in b  1 tensor: head (param)\n"), "{}", ended.text());
        } else {
            equal(&fixture(name), &out, &[]);
        }
        sound(&out);
        // Any other number of ranks has the same in it.
        let (one, again) = (folder.path().join("one"), folder.path().join("again"));
        convert(&out, &one, &["--to", "dcp", "--mesh", "dp=1"]);
        assert_eq!(files(&one).len(), 2, "{name}");
        convert(&one, &again, DCP);
        if name.contains("gpt2") {
            // What is saved twice is no longer told to be tied, and comes in the model's order.
            equal(&out, &again, &[]);
        } else {
            same(&out, &again, name);
        }
    }
}

/// Tensors of a made save: names and shapes, some with fewer rows than ranks.
const INDEXED: [(&str, &[u64]); 5] = [
    ("embed.weight", &[11, 6]),
    ("few.weight", &[3, 5]),
    ("norm.weight", &[7]),
    ("conv.weight", &[5, 4, 3]),
    ("gain", &[1]),
];

/// States of each, by their keys in the save.
const STATES: [&str; 3] = ["param", "exp_avg", "exp_avg_sq"];

/// The values of a tensor in a state: each is the address of its element in all of the model.
fn address(tensor: usize, state: usize, element: u64) -> f32 {
    (tensor as u64 * 1000 + state as u64 * 100_000 + element) as f32
}

/// Where `parts` ranks cut a dim, as `torch.chunk` does: first indices and extents, some of which are nothing.
fn shares(extent: u64, parts: u64) -> Vec<(u64, u64)> {
    let each = extent.div_ceil(parts);
    (0..parts).map(|part| (part * each).min(extent)).map(|at| (at, each.min(extent - at))).collect()
}

/// A save of `rows` by `columns` ranks, FSDP over tensor parallelism: the first dim is cut over the ones, the second
/// over the others.
fn indexed((rows, columns): (u64, u64), folder: &Path) {
    let mut save = Sharded::default();
    for (tensor, (name, shape)) in INDEXED.iter().enumerate() {
        for (state, called) in STATES.iter().enumerate() {
            let key = match *called {
                "param" => format!("model.{name}"),
                state => format!("optimizer.state.{name}.{state}"),
            };
            let width = shape.get(1).copied().unwrap_or(1);
            let depth: u64 = shape.iter().skip(2).product();
            let across = if shape.len() > 1 { shares(width, columns) } else { vec![(0, 1)] };
            let mut parts = Vec::new();
            for (row, high) in shares(shape[0], rows) {
                for (column, wide) in across.iter().copied().filter(|(_, wide)| high * wide > 0) {
                    let elements = (row..row + high).flat_map(|row| {
                        let first = (row * width + column) * depth;
                        first..first + wide * depth
                    });
                    let values = elements.map(|element| address(tensor, state, element));
                    let (mut offsets, mut extents) = (vec![0; shape.len()], shape.to_vec());
                    (offsets[0], extents[0]) = (row, high);
                    if shape.len() > 1 {
                        (offsets[1], extents[1]) = (column, wide);
                    }
                    parts.push((offsets, extents, values.flat_map(f32::to_le_bytes).collect()));
                }
            }
            save.tensor(&key, DType::F32, shape, parts);
        }
        save.object(&format!("optimizer.state.{name}.step"), &json!(3.0));
        save.object(&format!("optimizer.param_groups.{name}.lr"), &json!(0.5));
    }
    save.object("step", &json!(3));
    save.write(folder);
}

/// Whatever ranks saved it, and directly as through a universal folder: the same bytes, every value in its place.
#[test]
fn any_grid_of_ranks_to_any_number_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for grid in [(1, 1), (2, 1), (5, 1), (2, 2), (3, 4), (1, 3)] {
        let (source, universal) = (at("source"), at("universal"));
        indexed(grid, &source);
        convert(&source, &universal, &["--overwrite"]);
        for ranks in [1, 2, 3, 8] {
            let mesh = format!("dp={ranks}");
            let to = ["--to", "dcp", "--mesh", mesh.as_str(), "--overwrite"];
            let (direct, through, back) = (at("direct"), at("through"), at("back"));
            convert(&source, &direct, &to);
            convert(&universal, &through, &to);
            same(&direct, &through, &mesh);
            sound(&direct);
            convert(&direct, &back, &["--overwrite"]);
            let written = written::states(&back);
            for (state, called) in STATES.iter().enumerate() {
                for (tensor, (name, shape)) in INDEXED.iter().enumerate() {
                    let elements = 0..shape.iter().product();
                    let values = elements.map(|element| address(tensor, state, element));
                    let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
                    let known = &written[*called][*name];
                    assert_eq!(known.shape, *shape, "{name}");
                    assert_eq!(known.sha256, written::sha256(&bytes), "{name} ({called}), {mesh}");
                }
            }
            // Of one number of ranks all are alike, whoever saved it.
            let first = at(&format!("of {ranks}"));
            if grid == (1, 1) {
                std::fs::rename(&direct, &first).unwrap();
            } else {
                same(&first, &direct, &format!("{grid:?} to {mesh}"));
            }
        }
    }
}

/// The checksum of an item tells that a byte of it is another.
#[test]
fn a_flipped_byte_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    convert(&fixture("fsdp2-llama-fp32-w2"), &out, DCP);
    let path = out.join("__1_0.distcp");
    let bytes = std::fs::read(&path).unwrap();
    // Of an item's storage: the first bytes behind the first header of one.
    let name = b"archive/data/0";
    let header = bytes.windows(name.len()).position(|window| window == name).unwrap();
    let field = |at: usize| u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap()) as usize;
    let data = header + name.len() + field(header - 2);
    let mut other = bytes.clone();
    other[data + 5] ^= 0x10;
    std::fs::write(&path, other).unwrap();
    let ended = ucl(&["verify", text(&out)]);
    assert_ne!(ended.code, 0, "{}", ended.text());
    assert!(ended.out.contains("__1_0.distcp"), "{}", ended.text());
    assert!(ended.out.contains("the checkpoint is damaged"), "{}", ended.text());
    std::fs::write(&path, bytes).unwrap();
    sound(&out);
}

#[test]
fn there_and_back_through_deepspeed() {
    let name = "fsdp2-llama-fp32-w2";
    let folder = tempfile::tempdir().unwrap();
    let [zero, back, direct] = ["zero", "back", "direct"].map(|f| folder.path().join(f));
    convert(&fixture(name), &zero, &["--to", "deepspeed", "--zero", "3", "--mesh", "dp=2"]);
    equal(&fixture(name), &zero, &[]);
    convert(&zero, &back, DCP);
    equal(&fixture(name), &back, &[]);
    convert(&fixture(name), &direct, DCP);
    equal(&direct, &back, &[]);
}

#[test]
fn the_same_bytes_for_any_jobs() {
    let folder = tempfile::tempdir().unwrap();
    let (one, eight) = (folder.path().join("one"), folder.path().join("eight"));
    let run = fixture("z1-llama-bf16opt-dp2-groups2");
    convert(&run, &one, &[DCP, &["--jobs", "1", "--memory", "4MiB"]].concat());
    convert(&run, &eight, &[DCP, &["--jobs", "8"]].concat());
    same(&one, &eight, "jobs");
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut said = String::new();
    for flags in [
        &["--mesh", "tp=2"][..],
        &["--mesh", "dp=2,pp=2"],
        &["--mesh", "dp=20000"],
        &["--mesh", "dp=0"],
        &["--view", "megatorn"],
    ] {
        let out = folder.path().join("out");
        let run = fixture("z1-llama-fp32-dp2");
        let arguments = ["convert", text(&run), text(&out), "--to", "dcp"];
        let ended = ucl(&[&arguments, flags].concat());
        assert_ne!(ended.code, 0, "{flags:?}");
        assert!(!out.exists(), "{flags:?}");
        said += &format!("=== {}\n{}\n", flags.join(" "), ended.err);
    }
    insta::assert_snapshot!(said);
}

#[test]
fn the_plan_says_what_the_weights_become() {
    let run = fixture("z1-llama-bf16opt-dp2-groups2");
    let ended = ucl(&["plan", text(&run), "--to", "dcp", "--mesh", "dp=3"]);
    assert_eq!(ended.code, 0, "{}", ended.text());
    insta::assert_snapshot!(ended.out.replace(text(run.parent().unwrap()), "FIXTURES"));
}
