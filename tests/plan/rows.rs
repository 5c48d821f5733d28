//! Rows of fused tensors by their written formulas, not by the tool's own algebra.

use crate::simulate::{Cells, Simulated, mesh, program, programs, stored};

const SET: &str = "l=1 k=4 q=2 i=2 h=3 f=12 v=11 m=4";
const K: u64 = 4;
const G: u64 = 2;
const D: u64 = 4;
const H: u64 = 3;
const F: u64 = 12;

fn llama(view: &str, on: &str) -> Simulated {
    stored(program(programs(), "llama"), view, SET, &mesh(on), false)
}

/// The cells of a rank's tensor whose name ends so.
pub(crate) fn tensor<'a>(run: &'a Simulated, rank: usize, end: &str) -> &'a Cells {
    let before: usize = run.shards.ranks[..rank].iter().map(|rank| rank.tensors.len()).sum();
    let at = run.shards.ranks[rank].tensors.iter().position(|(name, _)| name.ends_with(end));
    &run.files[before + at.expect("the tensor")]
}

/// The address in its parameter of the first element of a row; addresses count whole rows of `h`.
pub(crate) fn row(cells: &Cells, row: u64) -> u64 {
    cells[(row * H) as usize].expect("no padding").1 / H
}

#[test]
fn qkv_by_group() {
    for tp in [1, 2, 4] {
        let run = llama("deepspeed", &format!("tp={tp}"));
        let groups = K / tp;
        for t in 0..tp {
            let cells = tensor(&run, t as usize, "query_key_value.weight");
            for j in 0..groups {
                let group = t * groups + j;
                for i in 0..D {
                    for m in 0..G {
                        let found = row(cells, (j * (G + 2) + m) * D + i);
                        assert_eq!(found, (group * G + m) * D + i, "query tp={t}/{tp}");
                    }
                    assert_eq!(row(cells, (j * (G + 2) + G) * D + i), group * D + i, "key");
                    assert_eq!(row(cells, (j * (G + 2) + G + 1) * D + i), group * D + i, "value");
                }
            }
        }
    }
}

#[test]
fn qkv_in_thirds_of_each_rank() {
    let tp = 2;
    let run = llama("deepspeed-thirds", "tp=2");
    let (n, k) = (K * G / tp, K / tp);
    for t in 0..tp {
        let cells = tensor(&run, t as usize, "query_key_value.weight");
        for i in 0..n * D {
            assert_eq!(row(cells, i), t * n * D + i, "query");
        }
        for i in 0..k * D {
            assert_eq!(row(cells, n * D + i), t * k * D + i, "key");
            assert_eq!(row(cells, n * D + k * D + i), t * k * D + i, "value");
        }
    }
}

#[test]
fn gate_and_up_on_each_rank() {
    let tp = 2;
    let run = llama("deepspeed", "tp=2");
    for t in 0..tp {
        let cells = tensor(&run, t as usize, "mlp.dense_h_to_4h.weight");
        for i in 0..F / tp {
            assert_eq!(row(cells, i), t * F / tp + i, "gate");
            assert_eq!(row(cells, F / tp + i), t * F / tp + i, "up");
            let (gate, up) = (cells[(i * H) as usize], cells[((F / tp + i) * H) as usize]);
            assert_ne!(gate, up, "they are different parameters");
        }
    }
}

#[test]
fn a_row_parallel_weight_is_cut_by_columns() {
    let tp = 2;
    let run = llama("deepspeed", "tp=2");
    let width = K * G * D;
    for t in 0..tp {
        let cells = tensor(&run, t as usize, "self_attention.dense.weight");
        for r in 0..H {
            for c in 0..width / tp {
                let found = cells[(r * width / tp + c) as usize].expect("no padding").1;
                assert_eq!(found, r * width + t * width / tp + c);
            }
        }
    }
}

#[test]
fn rotary_pairs_are_neighbours_in_metas_order() {
    let run = llama("meta", "tp=1");
    let cells = tensor(&run, 0, "attention.wq.weight");
    for head in 0..K * G {
        for b in 0..2 {
            for i in 0..D / 2 {
                assert_eq!(row(cells, head * D + 2 * i + b), head * D + b * (D / 2) + i);
            }
        }
    }
}

#[test]
fn the_vocabulary_is_padded_and_then_cut() {
    let run = llama("deepspeed", "tp=2");
    // 11 rows padded to a multiple of 4 * 2, eight on each rank.
    for t in 0..2 {
        let cells = tensor(&run, t, "word_embeddings.weight");
        assert_eq!(cells.len() as u64, 8 * H);
        for r in 0..8 {
            let found = cells[(r * H) as usize].map(|cell| cell.1 / H);
            let global = t as u64 * 8 + r;
            assert_eq!(found, (global < 11).then_some(global));
        }
    }
}
