//! Affine maps that are no cut along one dim: every element tells where it belongs.

use serde_json::{Map, Value, json};
use std::fs;
use std::path::Path;
use tempfile::TempDir;
use ucl_tests::command::{convert, ucl};
use ucl_tests::made::run::{Piece, Run, STATES, Zero};
use ucl_tests::oracle::{Known, Tensors};
use ucl_tests::written;

/// Tensor ranks.
const TP: usize = 4;

/// A strided block: its extents, first element and strides in the whole, the same in the part.
type Block = (Vec<u64>, (u64, Vec<u64>), (u64, Vec<u64>));

/// A tensor, whole and cut.
#[derive(Clone)]
struct Laid {
    name: &'static str,
    shape: Vec<u64>,
    /// For each rank the shape of its part, and the blocks of it.
    parts: Vec<(Vec<u64>, Vec<Block>)>,
    /// Whether a map says so; else a category.
    mapped: bool,
}

fn row_major(shape: &[u64]) -> Vec<u64> {
    (0..shape.len()).map(|dim| shape[dim + 1..].iter().product()).collect()
}

/// The places that a block touches, in its own order.
fn places(shape: &[u64], start: u64, strides: &[u64]) -> Vec<u64> {
    let total: u64 = shape.iter().product();
    let place = |index: u64| {
        let (mut rest, mut place) = (index, start);
        for dim in (0..shape.len()).rev() {
            place += rest % shape[dim] * strides[dim];
            rest /= shape[dim];
        }
        place
    };
    (0..total).map(place).collect()
}

impl Laid {
    fn new(name: &'static str, shape: &[u64], parts: Vec<(Vec<u64>, Vec<Block>)>) -> Laid {
        Laid { name, shape: shape.to_vec(), parts, mapped: true }
    }

    /// The element of a state at a place of the whole: exact in bf16, and its own.
    fn value(&self, state: usize, place: u64) -> f32 {
        let seed = self.name.bytes().fold(7_u64, |sum, byte| sum * 31 % 509 + u64::from(byte));
        ((seed + place) * 4 + state as u64 + 1) as f32
    }

    fn piece(&self, rank: usize) -> Piece {
        let (shape, blocks) = &self.parts[rank];
        let states = [0, 1, 2].map(|state| {
            let mut part = vec![0.0; shape.iter().product::<u64>() as usize];
            for (shape, (source, from), (dest, to)) in blocks {
                let into = places(shape, *dest, to);
                for (place, into) in places(shape, *source, from).into_iter().zip(into) {
                    part[into as usize] = self.value(state, place);
                }
            }
            part
        });
        Piece {
            name: self.name.to_owned(),
            shape: shape.clone(),
            weight: states[0].clone(),
            states,
        }
    }

    fn map(&self) -> Value {
        let ranks = self.parts.iter().enumerate().map(|(rank, (shape, blocks))| {
            let blocks = blocks.iter().map(|(shape, source, dest)| {
                json!({"shape": shape, "source": [source.0, source.1], "dest": [dest.0, dest.1], "locations": [rank]})
            });
            let blocks: Vec<Value> = blocks.collect();
            (rank.to_string(), json!({"shard_shape": shape, "pieces": blocks}))
        });
        json!({"logical_shape": self.shape, "ranks": ranks.collect::<Map<_, _>>()})
    }

    fn whole(&self, state: usize) -> Known {
        use sha2::{Digest, Sha256};
        let total: u64 = self.shape.iter().product();
        let bytes: Vec<u8> =
            (0..total).flat_map(|place| self.value(state, place).to_le_bytes()).collect();
        let sha256 = written::hex(&Sha256::digest(&bytes));
        Known { dtype: "F32".to_owned(), shape: self.shape.clone(), sha256 }
    }
}

/// A box of the whole, row by row in a part of its shape.
fn boxed(shape: &[u64], lo: [u64; 2], size: [u64; 2]) -> (Vec<u64>, Vec<Block>) {
    let block =
        (size.to_vec(), (lo[0] * shape[1] + lo[1], row_major(shape)), (0, row_major(&size)));
    (size.to_vec(), vec![block])
}

fn tensors() -> Vec<Laid> {
    let ranks = 0..TP as u64;
    let quadrants = |r: u64| boxed(&[5, 7], [r / 2 * 3, r % 2 * 4], [3 - r / 2, 4 - r % 2]);
    // Rank r has the rows r, r + 4, …
    let rows = |r: u64| {
        let own = (11 - r).div_ceil(4);
        (vec![own, 3], vec![(vec![own, 3], (r * 3, vec![12, 1]), (0, vec![3, 1]))])
    };
    let columns = |r: u64| {
        let own = (9 - r).div_ceil(4);
        (vec![4, own], vec![(vec![4, own], (r, vec![9, 4]), (0, vec![own, 1]))])
    };
    // One long step through all rows.
    let stepped = |r: u64| (vec![6], vec![(vec![6], (r, vec![4]), (0, vec![1]))]);
    let runs = |r: u64| {
        let (lo, len) = ([0, 7, 12, 13][r as usize], [7, 5, 1, 7][r as usize]);
        (vec![len], vec![(vec![len], (lo, vec![1]), (0, vec![1]))])
    };
    let turned = |r: u64| (vec![5, 2], vec![(vec![2, 5], (r * 10, vec![5, 1]), (0, vec![1, 2]))]);
    // Two rows of queries each; keys and values on all.
    let shared = |r: u64| {
        let part = vec![4, 3];
        let own = (vec![2, 3], (r * 6, vec![3, 1]), (0, vec![3, 1]));
        (part, vec![own, (vec![2, 3], (24, vec![3, 1]), (6, vec![3, 1]))])
    };
    // Each has three rows, and one of them is the next rank's too.
    let overlapping = |r: u64| boxed(&[9, 2], [r * 2, 0], [3, 2]);
    // Two dims of three swap places, and blocks of one rank lie in reverse.
    let cube = |r: u64| {
        let block = |half: u64| {
            let source = (r * 6 + half * 3, vec![24, 1]);
            (vec![2, 3], source, (6 - 6 * half, vec![3, 1]))
        };
        (vec![2, 2, 3], vec![block(0), block(1)])
    };
    let by = |f: &dyn Fn(u64) -> (Vec<u64>, Vec<Block>)| ranks.clone().map(f).collect::<Vec<_>>();
    // Three parts, cut into widths that follow no rule.
    let widths: [[u64; TP]; 3] = WIDTHS;
    let fused = |r: u64| {
        let own: Vec<u64> = widths.iter().map(|part| part[r as usize]).collect();
        let blocks = widths.iter().enumerate().map(|(part, of)| {
            let before: u64 = widths[..part].iter().flatten().sum();
            let source = before + of[..r as usize].iter().sum::<u64>();
            let dest: u64 = own[..part].iter().sum();
            let shape = vec![of[r as usize], 2];
            (shape, (source * 2, vec![2, 1]), (dest * 2, vec![2, 1]))
        });
        (vec![own.iter().sum(), 2], blocks.collect())
    };
    let whole: u64 = widths.iter().flatten().sum();
    let plain = |r: u64| boxed(&[8, 3], [r * 2, 0], [2, 3]);
    let copied = |_| (vec![5], vec![(vec![5], (0, vec![1]), (0, vec![1]))]);
    vec![
        Laid::new("quadrants.weight", &[5, 7], by(&quadrants)),
        Laid::new("rows.weight", &[11, 3], by(&rows)),
        Laid::new("columns.weight", &[4, 9], by(&columns)),
        Laid::new("stepped.weight", &[3, 8], by(&stepped)),
        Laid::new("runs.weight", &[5, 4], by(&runs)),
        Laid::new("turned.weight", &[8, 5], by(&turned)),
        Laid::new("shared.weight", &[10, 3], by(&shared)),
        Laid::new("overlapping.weight", &[9, 2], by(&overlapping)),
        Laid::new("cube.weight", &[2, 8, 3], by(&cube)),
        Laid { mapped: false, ..Laid::new("fused.weight", &[whole, 2], by(&fused)) },
        Laid::new("plain.weight", &[8, 3], by(&plain)),
        Laid { mapped: false, ..Laid::new("norm.weight", &[5], by(&copied)) },
    ]
}

const WIDTHS: [[u64; TP]; 3] = [[3, 1, 4, 2], [1, 0, 2, 2], [1, 1, 1, 1]];

fn info(tensors: &[Laid]) -> Value {
    let maps = tensors.iter().filter(|laid| laid.mapped);
    let maps = maps.map(|laid| (format!("^{}$", laid.name.replace('.', "\\.")), laid.map()));
    json!({
        "universal_checkpoint_version": 0.4,
        "tp_replicated_parameter_patterns": ["^norm\\.weight$"],
        "parameter_with_sub_params": [{
            "patterns": ["^fused\\.weight$"], "shape": [[10, 5, 4], 2], "partition_dim": 0,
        }],
        "sub_param_shard_widths": {"^fused\\.weight$": WIDTHS},
        "affine_map": {"version": 1, "params": maps.collect::<Map<_, _>>()},
    })
}

fn write(folder: &Path, tensors: &[Laid], zero: Zero, info: Value) {
    let rank = |tp: usize| {
        let (one, two) = tensors.split_at(5);
        let pieces = |of: &[Laid]| of.iter().map(|laid| laid.piece(tp)).collect();
        vec![pieces(one), pieces(two)]
    };
    let ranks = (0..TP).map(rank).collect();
    Run { dp: 3, zero, step: 7, args: Value::Null, info, ranks }.write(folder);
}

/// Masters and moments, cut by three data ranks wherever that falls.
#[test]
fn whatever_the_map_says() {
    let scratch = TempDir::new().unwrap();
    let tensors = tensors();
    for (number, zero) in [Zero::Stage(1), Zero::Bf16].into_iter().enumerate() {
        let run = scratch.path().join(format!("run-{number}"));
        write(&run, &tensors, zero, info(&tensors));
        let out = scratch.path().join(format!("out-{number}"));
        let ended = convert(&run, &out, &[]);
        let text = ended.text();
        assert!(text.contains("10 parameters lie on the tensor ranks in a way"), "{text}");
        let states = written::states(&out);
        for (state, name) in STATES.iter().enumerate() {
            let expected: Tensors =
                tensors.iter().map(|laid| (laid.name.to_owned(), laid.whole(state))).collect();
            assert_eq!(states[*name], expected, "{name}");
        }
        // As a Hugging Face model, of which the weights are alone.
        let hf = scratch.path().join(format!("hf-{number}"));
        convert(&run, &hf, &["--to", "hf"]);
        assert_eq!(written::model(&hf).len(), tensors.len());
        // The spec that is derived has them whole, and reads the same.
        let spec = scratch.path().join("derived.ucl");
        let derived = ucl(&["derive", run.to_str().unwrap()]);
        assert!(derived.err.contains("\"quadrants.weight\""), "{}", derived.text());
        fs::write(&spec, &derived.out).unwrap();
        for command in [&["check"][..], &["fmt", "--check"], &["test"]] {
            let ended = ucl(&[command, &[spec.to_str().unwrap()]].concat());
            assert_eq!(ended.code, 0, "{command:?}\n{}", ended.text());
        }
        let by_spec = scratch.path().join(format!("by-spec-{number}"));
        convert(&run, &by_spec, &["--spec", spec.to_str().unwrap(), "--view", "stored"]);
        assert_eq!(written::digests(&by_spec), written::digests(&out));
    }
}

/// What no category has is joined, but for what is plainly a copy on every rank.
#[test]
fn what_no_category_has() {
    let scratch = TempDir::new().unwrap();
    let all = tensors();
    let plain = all.iter().find(|laid| laid.name == "plain.weight").unwrap();
    let norm = all.iter().find(|laid| laid.name == "norm.weight").unwrap();
    let scale = Laid { name: "scale.weight", ..norm.clone() };
    let ranks = (0..TP).map(|tp| {
        let mut ones = scale.piece(tp);
        ones.states = [vec![1.0; 5], vec![0.0; 5], vec![0.0; 5]];
        ones.weight = ones.states[0].clone();
        vec![vec![plain.piece(tp), norm.piece(tp), ones]]
    });
    let (zero, ranks) = (Zero::Stage(1), ranks.collect());
    let info = json!({"universal_checkpoint_version": 0.4});
    let run = scratch.path().join("run");
    Run { dp: 2, zero, step: 7, args: Value::Null, info, ranks }.write(&run);
    let out = scratch.path().join("out");
    let ended = convert(&run, &out, &[]);
    let states = written::states(&out);
    for (state, name) in STATES.iter().enumerate() {
        assert_eq!(states[*name]["plain.weight"], plain.whole(state));
        assert_eq!(states[*name]["norm.weight"], norm.whole(state), "a copy is no part");
        assert_eq!(states[*name]["scale.weight"].shape, [20], "as DeepSpeed joins it");
    }
    for note in
        ["\"norm.weight\": all ranks hold the same", "\"scale.weight\": all ranks hold one number"]
    {
        assert!(ended.text().contains(note), "{}", ended.text());
    }
}

/// What ranks hold twice is compared, wherever it lies.
#[test]
fn copies_that_differ() {
    let scratch = TempDir::new().unwrap();
    for (name, rank, place) in [("shared.weight", 2, 6), ("overlapping.weight", 3, 0)] {
        let tensors = tensors();
        let index = tensors.iter().position(|laid| laid.name == name).unwrap();
        let ranks = (0..TP).map(|tp| {
            let mut pieces: Vec<Piece> = tensors.iter().map(|laid| laid.piece(tp)).collect();
            if tp == rank {
                pieces[index].states[1][place] += 1.0;
            }
            vec![pieces]
        });
        let run = scratch.path().join(name);
        let (zero, ranks) = (Zero::Stage(1), ranks.collect());
        Run { dp: 3, zero, step: 7, args: Value::Null, info: info(&tensors), ranks }.write(&run);
        let out = scratch.path().join(format!("{name}-out"));
        let ended = ucl(&["convert", run.to_str().unwrap(), out.to_str().unwrap()]);
        assert_eq!(ended.code, 2, "{}", ended.text());
        let label = format!("\"{name}\" (exp_avg) at tp={rank}");
        assert!(ended.err.contains(&label), "{}", ended.text());
        assert!(!out.exists());
    }
}

/// Maps that contradict themselves or the files, each with its own sentence.
#[test]
fn maps_that_lie() {
    let scratch = TempDir::new().unwrap();
    let tensors = tensors();
    let key = "^quadrants\\.weight$";
    let huge = u64::from(u32::MAX) << 31;
    let lies: Vec<(&str, Value, Value, &str)> = vec![
        (
            "/ranks/3/pieces/0/source/0",
            json!(24),
            json!(null),
            "2 of its 35 elements are on no tensor rank",
        ),
        (
            "/ranks/3/pieces/0/source/0",
            json!(18),
            json!(null),
            "3 of its 35 elements are on no tensor rank",
        ),
        ("/ranks/3/pieces/0/source/0", json!(28), json!(null), "leaves the tensor"),
        ("/ranks/3/pieces/0/source/0", json!(huge), json!(null), "leaves the tensor"),
        ("/ranks/3/pieces/0/source/1", json!([huge, huge]), json!(null), "leaves the tensor"),
        (
            "/ranks/3/pieces/0/dest/1",
            json!([1, 1]),
            json!(null),
            "two pieces for one place of tp=3",
        ),
        ("/ranks/3/pieces/0/dest/0", json!(1), json!(null), "leaves the tensor"),
        ("/ranks/3/pieces/0/shape", json!([huge, huge]), json!(null), "leaves the tensor"),
        ("/ranks/3/pieces/0/shape", json!([2, 2]), json!(null), "are not the 6 elements"),
        ("/ranks/3/pieces/0/source/1", json!([0, 1]), json!(null), "twice"),
        ("/ranks/3/shard_shape", json!([3, 2]), json!(null), "the files have [2, 3]"),
        ("/ranks/3/pieces", json!(7), json!(null), "can't be read"),
        ("/logical_shape", json!([huge, huge]), json!(null), "can't be read"),
        (
            "/logical_shape",
            json!([1_u64 << 31, 1_u64 << 31]),
            json!(null),
            "elements are on no tensor rank",
        ),
        ("/ranks", json!({}), json!(null), "for 0 tensor ranks, there are 4"),
        ("/ranks/4", json!(null), json!({"shard_shape": [0], "pieces": []}), "for 5 tensor ranks"),
    ];
    for (number, (path, value, added, expected)) in lies.into_iter().enumerate() {
        let mut info = info(&tensors);
        let map = &mut info["affine_map"]["params"][key];
        match added.is_null() {
            true => *map.pointer_mut(path).unwrap() = value,
            false => map["ranks"]["4"] = added,
        }
        let run = scratch.path().join(format!("run-{number}"));
        write(&run, &tensors, Zero::Stage(1), info);
        for command in ["plan", "derive"] {
            let ended = ucl(&[command, run.to_str().unwrap()]);
            assert_eq!(ended.code, 2, "{path}\n{}", ended.text());
            let flat = ended.err.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(flat.contains("quadrants.weight"), "{}", ended.text());
            assert!(flat.contains(expected), "{path}: {expected}\n{}", ended.text());
        }
    }
}
