//! Phi-3.5-MoE and Mixtral by their row formulas: experts in every form, on tensor and expert ranks.

use crate::rows::tensor;
use crate::simulate::{Cells, Simulated, mesh, program, programs, stored};

const SET: &str = "l=1 k=2 q=2 i=2 h=6 f=12 v=16 m=4 e=4 attn.q.bias=1 attn.k.bias=1 attn.v.bias=1 \
                   attn.o.bias=1 head.bias=1";
const E: u64 = 4;
const F: u64 = 12;
const H: u64 = 6;

fn run(view: &str, on: &str) -> Simulated {
    stored(program(programs(), "phi3-moe"), view, SET, &mesh(on), false)
}

/// An element, which is no padding: its parameter's seed and its address.
fn at(cells: &Cells, number: u64) -> (u64, u64) {
    cells[number as usize].expect("no padding")
}

/// The address of an element of `expert.gate` and `expert.up`, and of `expert.down`.
fn wide(expert: u64, f: u64, h: u64) -> u64 {
    (expert * F + f) * H + h
}

fn down(expert: u64, h: u64, f: u64) -> u64 {
    (expert * H + h) * F + f
}

#[test]
fn one_tensor_for_each_expert_in_hugging_faces_files() {
    let run = run("hf", "tp=1");
    let mut seeds = Vec::new();
    for expert in 0..E {
        let name = |w: &str| format!("block_sparse_moe.experts.{expert}.{w}.weight");
        let [w1, w2, w3] = ["w1", "w2", "w3"].map(|w| tensor(&run, 0, &name(w)));
        for f in 0..F {
            for h in 0..H {
                assert_eq!(at(w1, f * H + h).1, wide(expert, f, h));
                assert_eq!(at(w3, f * H + h).1, wide(expert, f, h));
                assert_eq!(at(w2, h * F + f).1, down(expert, h, f));
            }
        }
        seeds.push([at(w1, 0).0, at(w2, 0).0, at(w3, 0).0]);
    }
    assert!(seeds.iter().all(|one| *one == seeds[0]));
    assert_ne!(seeds[0][0], seeds[0][2], "gate is not up");
    let bias = tensor(&run, 0, "lm_head.bias");
    assert_eq!(
        bias.iter().map(|cell| cell.expect("no padding").1).collect::<Vec<_>>(),
        (0..16).collect::<Vec<_>>()
    );
}

#[test]
fn gate_and_then_up_of_each_expert_in_memory() {
    let hf = run("hf", "tp=1");
    let seed = |w: &str| at(tensor(&hf, 0, &format!("experts.0.{w}.weight")), 0).0;
    let run = run("hf5", "tp=1");
    let both = tensor(&run, 0, "mlp.experts.gate_up_proj");
    for expert in 0..E {
        for f in 0..F {
            for h in 0..H {
                let number = |row: u64| (expert * 2 * F + row) * H + h;
                assert_eq!(at(both, number(f)), (seed("w1"), wide(expert, f, h)));
                assert_eq!(at(both, number(F + f)), (seed("w3"), wide(expert, f, h)));
            }
        }
    }
    let router = tensor(&run, 0, "mlp.router.weight");
    assert!(router.iter().enumerate().all(|(number, cell)| cell.expect("all").1 == number as u64));
}

#[test]
fn experts_on_two_axes_in_megatron_core() {
    let hf = run("hf", "tp=1");
    let seed = |w: &str| at(tensor(&hf, 0, &format!("experts.0.{w}.weight")), 0).0;
    let (tp, ep) = (2, 2);
    let run = run("mcore", "tp=2 ep=2");
    for (number, rank) in run.shards.ranks.iter().enumerate() {
        let (t, x) = (rank.at["tp"], rank.at["ep"]);
        for local in 0..E / ep {
            let expert = x * E / ep + local;
            let name = |fc: &str| format!("local_experts.{local}.{fc}.weight");
            let [fc1, fc2] = ["linear_fc1", "linear_fc2"].map(|fc| tensor(&run, number, &name(fc)));
            let part = F / tp;
            for f in 0..part {
                for h in 0..H {
                    let expected = wide(expert, t * part + f, h);
                    assert_eq!(at(fc1, f * H + h), (seed("w1"), expected), "{:?}", rank.at);
                    assert_eq!(at(fc1, (part + f) * H + h), (seed("w3"), expected));
                    let expected = down(expert, h, t * part + f);
                    assert_eq!(at(fc2, h * part + f), (seed("w2"), expected));
                }
            }
        }
        let router = tensor(&run, number, "mlp.router.weight");
        assert_eq!(router.len() as u64, E * H, "the router is whole on every rank");
        let bias = tensor(&run, number, "output_layer.bias");
        assert_eq!(bias.len() as u64, 16 / tp);
        assert_eq!(at(bias, 0).1, t * 16 / tp);
    }
}

/// The header of an old GroupedMLP says `[h, e 2f]`; the bytes are expert by expert `[h, 2f]`.
#[test]
fn the_bytes_of_grouped_experts_are_not_in_the_order_of_their_header() {
    let hf = run("hf", "tp=1");
    let seed = |w: &str| at(tensor(&hf, 0, &format!("experts.0.{w}.weight")), 0).0;
    let run = run("mcore-gemm", "tp=1");
    let (name, shape) = run.shards.ranks[0]
        .tensors
        .iter()
        .find(|(name, _)| name.ends_with("experts.weight1"))
        .expect("there");
    assert_eq!(*shape, [H, E * 2 * F], "{name}");
    let (first, second) = (tensor(&run, 0, "experts.weight1"), tensor(&run, 0, "experts.weight2"));
    for expert in 0..E {
        for h in 0..H {
            for f in 0..F {
                let number = |column: u64| (expert * H + h) * 2 * F + column;
                assert_eq!(at(first, number(f)), (seed("w1"), wide(expert, f, h)));
                assert_eq!(at(first, number(F + f)), (seed("w3"), wide(expert, f, h)));
                assert_eq!(at(second, (expert * F + f) * H + h), (seed("w2"), down(expert, h, f)));
            }
        }
    }
}
