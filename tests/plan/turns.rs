//! Phi-3-small by its row formulas: rows of groups, and rows of gate and up in turn.

use crate::rows::{row, tensor};
use crate::simulate::{Cells, Simulated, mesh, program, programs, stored};

const SET: &str = "l=1 k=4 q=2 i=2 h=3 f=16 v=16 m=4";
const K: u64 = 4;
const G: u64 = 2;
const D: u64 = 4;
const F: u64 = 16;

fn small(view: &str, on: &str) -> Simulated {
    stored(program(programs(), "phi3-small"), view, SET, &mesh(on), true)
}

/// What a fused row is: 0 for a query, 1 for a key, 2 for a value, and its row in that parameter.
fn by_group(fused: u64) -> (usize, u64) {
    let (group, rest) = (fused / ((G + 2) * D), fused % ((G + 2) * D));
    let (head, i) = (rest / D, rest % D);
    match head {
        head if head < G => (0, (group * G + head) * D + i),
        head if head == G => (1, group * D + i),
        _ => (2, group * D + i),
    }
}

/// The seeds of queries, keys and values, which tell the parameters apart.
fn seeds(cells: &Cells, width: u64) -> [u64; 3] {
    [0, G * D, (G + 1) * D].map(|row| cells[(row * width) as usize].expect("no padding").0)
}

#[test]
fn the_fused_rows_are_whole_groups_in_every_framework() {
    let fused = K * (G + 2) * D;
    let views = [
        ("hf", "self_attn.query_key_value", 1),
        ("megatron", "self_attention.query_key_value", 2),
        ("mcore", "self_attention.linear_qkv", 2),
        // Twice as many ranks as groups: the rows are cut on, through each.
        ("mcore", "self_attention.linear_qkv", 8),
    ];
    for (view, name, tp) in views {
        let run = small(view, &format!("tp={tp}"));
        let known = seeds(tensor(&small(view, "tp=1"), 0, &format!("{name}.weight")), 3);
        for rank in 0..tp {
            let weight = tensor(&run, rank as usize, &format!("{name}.weight"));
            let bias = tensor(&run, rank as usize, &format!("{name}.bias"));
            assert_eq!(bias.len() as u64, fused / tp, "{view}");
            for local in 0..fused / tp {
                let (part, expected) = by_group(rank * fused / tp + local);
                assert_eq!(row(weight, local), expected, "{view} rank {rank} row {local}");
                assert_eq!(weight[(local * 3) as usize].expect("no padding").0, known[part]);
                assert_eq!(bias[local as usize].expect("no padding").1, expected, "{view} bias");
            }
        }
    }
}

#[test]
fn gate_and_up_take_turns_in_hugging_faces_file_alone() {
    let run = small("hf", "tp=1");
    let weight = tensor(&run, 0, "mlp.up_proj.weight");
    let bias = tensor(&run, 0, "mlp.up_proj.bias");
    let (gate, up) = (weight[0].expect("no padding").0, weight[3].expect("no padding").0);
    assert_ne!(gate, up);
    for i in 0..F {
        assert_eq!(row(weight, 2 * i), i);
        assert_eq!(row(weight, 2 * i + 1), i);
        assert_eq!(weight[(2 * i * 3) as usize].expect("no padding").0, gate);
        assert_eq!(weight[((2 * i + 1) * 3) as usize].expect("no padding").0, up);
        assert_eq!(bias[(2 * i) as usize].expect("no padding").1, i);
        assert_eq!(bias[(2 * i + 1) as usize].expect("no padding").1, i);
    }
    for (view, name) in
        [("megatron", "mlp.dense_h_to_4h.weight"), ("mcore", "mlp.linear_fc1.weight")]
    {
        for tp in [1, 2, 4] {
            let run = small(view, &format!("tp={tp}"));
            for rank in 0..tp {
                let weight = tensor(&run, rank as usize, name);
                for i in 0..F / tp {
                    let both = [i, F / tp + i];
                    assert_eq!(both.map(|at| row(weight, at)), [rank * F / tp + i; 2], "{view}");
                    let seeds = both.map(|at| weight[(at * 3) as usize].expect("no padding").0);
                    assert_eq!(seeds, [gate, up], "{view}: the gate comes first");
                }
            }
        }
    }
}

/// As wide as it is high in the published model, so that no shape shows a transposition.
#[test]
fn the_projection_is_not_transposed() {
    let run = stored(
        program(programs(), "phi3-small"),
        "hf",
        "l=1 k=4 q=2 i=2 h=32 f=16 v=16 m=4",
        &mesh("tp=1"),
        true,
    );
    let cells = tensor(&run, 0, "self_attn.dense.weight");
    for (at, cell) in cells.iter().enumerate() {
        assert_eq!(cell.expect("no padding").1, at as u64);
    }
}
