//! Categories and affine maps on tensors that are shapes alone.

use super::cut::{Cut, Merge, Ranks, Used, decide};
use super::info::Info;
use super::tiles::tiling;
use serde_json::{Value, json};

fn read(info: &Value) -> Result<Info, Vec<String>> {
    Info::read(info.as_object().unwrap())
}

/// What becomes of `w`, of which the ranks hold these shapes.
fn merge(info: &Value, shapes: &[&[u64]]) -> Result<(Merge, Option<u64>), String> {
    let shapes: Vec<Vec<u64>> = shapes.iter().map(|shape| shape.to_vec()).collect();
    let info = read(info).map_err(|wrong| wrong.join("; "))?;
    let tensor = Ranks { name: "w", shapes: &shapes, laid: false };
    decide(&info, &tensor, &mut Used::default()).map(|found| (found.merge, found.rows))
}

fn cut(axis: usize, outer: u64, inner: u64, parts: &[&[u64]]) -> Merge {
    let parts = parts.iter().map(|part| part.to_vec()).collect();
    Merge::Cut(Cut { axis, outer, inner, parts })
}

#[test]
fn categories() {
    let plain = cut(0, 1, 1, &[&[3, 2]]);
    assert_eq!(merge(&json!({}), &[&[3, 4], &[2, 4]]).unwrap().0, plain);
    let row = json!({"parameter_with_row_parallelism_patterns": ["w"]});
    assert_eq!(merge(&row, &[&[4, 3], &[4, 2]]).unwrap().0, cut(1, 1, 1, &[&[3, 2]]));
    let average = json!({"parameter_to_average_patterns": [".*"]});
    assert_eq!(merge(&average, &[&[4], &[4]]).unwrap().0, Merge::Average);
    let halves = json!({"parameter_with_2_sub_params_cat_dim_0": ["w$"]});
    let expected = cut(0, 1, 1, &[&[3, 3], &[3, 3]]);
    assert_eq!(merge(&halves, &[&[6, 4], &[6, 4]]).unwrap().0, expected);
    assert!(merge(&halves, &[&[7, 4], &[7, 4]]).is_err());
    let vocabulary = json!({"vocabulary_parameter_patterns": ["w"], "original_vocab_size": 5});
    let (_, rows) = merge(&vocabulary, &[&[4, 2], &[4, 2]]).unwrap();
    assert_eq!(rows, Some(5));
    assert!(merge(&json!({"vocabulary_parameter_patterns": ["w"]}), &[&[4, 2], &[4, 2]]).is_err());
    let two = json!({"tp_replicated_parameter_patterns": ["w", "."]});
    assert!(merge(&two, &[&[4], &[4]]).unwrap_err().contains("two patterns"));
    let unlike = json!({"tp_replicated_parameter_patterns": ["w"]});
    assert!(merge(&unlike, &[&[4], &[3]]).is_err());
    let refused = json!({"autotp_unsupported_parameter_patterns": {"w": "too odd"}});
    assert!(merge(&refused, &[&[4], &[4]]).unwrap_err().contains("too odd"));
}

#[test]
fn parts_of_fused_parameters() {
    let sub = |version: f64, shape: Value, widths: Value| {
        json!({
            "universal_checkpoint_version": version,
            "parameter_with_sub_params": [{"patterns": ["w"], "shape": shape, "partition_dim": 0}],
            "sub_param_shard_widths": {"w": widths},
        })
    };
    let uneven = sub(0.4, json!([[6, 3], 5]), json!([[4, 2], [2, 1]]));
    let expected = cut(0, 1, 1, &[&[4, 2], &[2, 1]]);
    assert_eq!(merge(&uneven, &[&[6, 5], &[3, 5]]).unwrap().0, expected);
    assert!(merge(&uneven, &[&[5, 5], &[4, 5]]).is_err(), "the files have others");
    let wrong = sub(0.4, json!([[6, 3], 5]), json!([[4, 3], [2, 1]]));
    assert!(merge(&wrong, &[&[6, 5], &[3, 5]]).is_err(), "they do not add up");
    let even = sub(0.3, json!([3, -1]), Value::Null);
    let expected = cut(0, 1, 1, &[&[2, 2], &[2, 2], &[2, 2]]);
    assert_eq!(merge(&even, &[&[6, 5], &[6, 5]]).unwrap().0, expected);
    assert!(merge(&even, &[&[5, 5], &[4, 5]]).is_err(), "no widths, and not even");
    // Experts side by side, each cut: three of four rows.
    let experts = json!({
        "universal_checkpoint_version": 0.2,
        "parameter_with_sub_params":
            [{"patterns": ["w"], "shape": [3, [4], 5], "partition_dim": 1}],
    });
    assert_eq!(merge(&experts, &[&[6, 5], &[6, 5]]).unwrap().0, cut(0, 3, 1, &[&[2, 2]]));
}

/// A map of `logical`; for each rank its shape and pieces.
fn map(logical: Value, ranks: &[(Value, Value)]) -> Value {
    let ranks: serde_json::Map<String, Value> = ranks
        .iter()
        .enumerate()
        .map(|(rank, (shape, pieces))| {
            (rank.to_string(), json!({"shard_shape": shape, "pieces": pieces}))
        })
        .collect();
    json!({"affine_map": {"version": 1, "params": {"^w$": {"logical_shape": logical, "ranks": ranks}}}})
}

fn piece(shape: Value, source: Value, dest: Value) -> Value {
    json!({"shape": shape, "source": source, "dest": dest, "locations": [0]})
}

#[test]
fn affine_maps() {
    let rows = map(
        json!([5, 4]),
        &[
            (json!([3, 4]), json!([piece(json!([3, 4]), json!([0, [4, 1]]), json!([0, [4, 1]]))])),
            (json!([2, 4]), json!([piece(json!([2, 4]), json!([12, [4, 1]]), json!([0, [4, 1]]))])),
        ],
    );
    assert_eq!(merge(&rows, &[&[3, 4], &[2, 4]]).unwrap().0, cut(0, 1, 1, &[&[3, 2]]));
    let columns = map(
        json!([2, 5]),
        &[
            (json!([2, 3]), json!([piece(json!([2, 3]), json!([0, [5, 1]]), json!([0, [3, 1]]))])),
            (json!([2, 2]), json!([piece(json!([2, 2]), json!([3, [5, 1]]), json!([0, [2, 1]]))])),
        ],
    );
    assert_eq!(merge(&columns, &[&[2, 3], &[2, 2]]).unwrap().0, cut(1, 1, 1, &[&[3, 2]]));
    // Two parts, of 4 and 2, on each rank one behind the other.
    let fused = |rank: u64| {
        let first = piece(json!([2]), json!([2 * rank, [1]]), json!([0, [1]]));
        let second = piece(json!([1]), json!([4 + rank, [1]]), json!([2, [1]]));
        (json!([3]), json!([first, second]))
    };
    let fused = map(json!([6]), &[fused(0), fused(1)]);
    assert_eq!(merge(&fused, &[&[3], &[3]]).unwrap().0, cut(0, 1, 1, &[&[2, 2], &[1, 1]]));
    let whole = || (json!([4]), json!([piece(json!([4]), json!([0, [1]]), json!([0, [1]]))]));
    assert_eq!(
        merge(&map(json!([4]), &[whole(), whole()]), &[&[4], &[4]]).unwrap().0,
        Merge::Replicated
    );
}

#[test]
fn affine_maps_that_lie() {
    let run =
        |from: u64, to: u64, len: u64| piece(json!([len]), json!([from, [1]]), json!([to, [1]]));
    let of = |first: Value, second: Value| {
        let map = map(json!([4]), &[(json!([2]), first), (json!([2]), second)]);
        match merge(&map, &[&[2], &[2]])?.0 {
            Merge::Laid(map) => tiling(&map).map(|_| true),
            _ => Ok(false),
        }
    };
    assert_eq!(of(json!([run(0, 0, 2)]), json!([run(2, 0, 2)])), Ok(false));
    let backwards = json!([run(3, 0, 1), run(2, 1, 1)]);
    assert_eq!(of(json!([run(0, 0, 2)]), backwards), Ok(true), "no cut, and whole all the same");
    let huge = piece(json!([u64::MAX, u64::MAX]), json!([0, [1, 1]]), json!([0, [1, 1]]));
    let lies = [
        ("out of the tensor", json!([run(3, 0, 2)])),
        ("out of the part", json!([run(2, 1, 2)])),
        ("overlap", json!([run(1, 0, 2)])),
        ("a gap", json!([run(2, 0, 1)])),
        ("twice", json!([run(2, 0, 1), run(2, 0, 1)])),
        ("far too large", json!([huge])),
        ("no pieces", json!({})),
        ("scaled", json!([{"shape": [2], "source": [2, [1]], "dest": [0, [1]], "scale": 2.0}])),
    ];
    for (what, second) in lies {
        assert!(of(json!([run(0, 0, 2)]), second).is_err(), "{what}");
    }
}

#[test]
fn what_is_not_known_is_refused() {
    let wrong = [
        json!({"universal_checkpoint_version": 0.5}),
        json!({"universal_checkpoint_version": "new"}),
        json!({"affine_map": {"version": 2, "params": {}}}),
        json!({"affine_map": 7}),
        json!({"vocabulary_parameter_patterns": "w"}),
        json!({"vocabulary_parameter_patterns": ["("]}),
        json!({"parameter_to_average_patterns": [7]}),
        json!({"original_vocab_size": -1}),
        json!({"parameter_with_sub_params": [{"patterns": ["w"], "shape": [3], "partition_dim": 1}]}),
        json!({"parameter_with_sub_params": [{"patterns": ["w"], "shape": [1e9, 2], "partition_dim": 0}]}),
    ];
    for info in &wrong {
        assert!(read(info).is_err(), "{info}");
    }
}
