//! Every view on every mesh to universal, and to each other view: what comes out is its own address.

use crate::simulate::{assert_universal, executed, mesh, planned, program, programs, stored};
use ucl_plan::Naming;

const LLAMA: &str = "l=4 k=4 q=2 i=2 h=8 f=12 v=11 m=4";
const GPT: &str = "l=4 k=4 q=1 i=2 h=8 f=12 v=11 c=5 m=4 pos=1";

fn check(model: &str, view: &str, set: &str, on: &str, tied: bool) {
    let programs = programs();
    let set = match model {
        "llama" => set.to_owned(),
        _ => format!("{set} {}", biases(program(programs, model))),
    };
    let only: Vec<_> = programs.iter().filter(|p| p.model.name == model).cloned().collect();
    let simulated = stored(&only[0], view, &set, &mesh(on), tied);
    for window in [7, 64, u64::MAX / 2] {
        let plan = planned(&only, &simulated, view, &set, &Naming::Universal);
        assert_eq!(plan.bound.tied, tied, "{view} on {on}");
        assert_universal(&plan, &executed(&plan, &simulated.files, window));
    }
}

/// Optional biases are there if they are said to be.
fn biases(program: &ucl_ir::Program) -> String {
    let optional = program.model.params.iter().filter(|param| param.optional);
    optional.map(|param| format!("{}=1 ", param.path)).collect()
}

#[test]
fn megatron_deepspeed_llama() {
    for view in ["deepspeed", "deepspeed-thirds", "deepspeed-pipe", "deepspeed-pipe-thirds"] {
        for on in ["tp=1 pp=1", "tp=2 pp=1", "tp=4 pp=1", "tp=2 pp=2", "tp=1 pp=4"] {
            check("llama", view, LLAMA, on, false);
        }
    }
}

#[test]
fn megatron_numbers_layers_anew_on_each_stage() {
    for view in ["megatron", "megatron-v0", "megatron-v1"] {
        for on in ["tp=1 pp=1", "tp=2 pp=2", "tp=1 pp=4", "tp=2 pp=2 vpp=2"] {
            check("llama", view, LLAMA, on, false);
        }
    }
}

#[test]
fn megatron_core_cuts_through_a_group() {
    for on in ["tp=1", "tp=2", "tp=4", "tp=8", "tp=4 pp=2"] {
        check("llama", "mcore", "l=4 k=4 q=6 i=2 h=8 f=24 v=11 m=4", on, false);
    }
}

#[test]
fn gpt_with_biases_positions_and_a_tied_head() {
    for view in ["deepspeed", "megatron"] {
        for on in ["tp=1 pp=1", "tp=2 pp=1", "tp=2 pp=2"] {
            check("gpt2", view, GPT, on, true);
        }
    }
}

#[test]
fn hugging_face_and_meta() {
    check("llama", "hf", LLAMA, "tp=1", false);
    check("llama", "hf", LLAMA, "tp=1", true);
    check("gpt2", "hf", GPT, "tp=1", true);
    for on in ["tp=1", "tp=2", "tp=4", "tp=8"] {
        check("llama", "meta", "l=2 k=4 q=2 i=2 h=8 f=16 v=16 m=4", on, false);
    }
}

#[test]
fn a_value_head_on_any_model() {
    check("reward-llama", "deepspeed-chat", LLAMA, "tp=1", false);
    check("reward-llama", "deepspeed-chat", LLAMA, "tp=2", false);
    check("reward-gpt2", "deepspeed-chat", GPT, "tp=1", false);
    check("reward-mixtral", "deepspeed-chat", &format!("{LLAMA} e=3"), "tp=1", false);
}

#[test]
fn one_view_straight_to_another_is_the_way_over_universal() {
    let programs = programs();
    let only: Vec<_> = programs.iter().filter(|p| p.model.name == "llama").cloned().collect();
    let (set, on) = (LLAMA, mesh("tp=2 pp=2"));
    let simulated = stored(program(programs, "llama"), "deepspeed-pipe", set, &on, false);
    for view in ["hf", "meta", "deepspeed-thirds", "mcore", "torch-dist"] {
        let plan =
            planned(&only, &simulated, "deepspeed-pipe", set, &Naming::View(view.to_owned()));
        let made = executed(&plan, &simulated.files, 50);
        let whole = stored(program(programs, "llama"), view, set, &mesh("tp=1"), false);
        for (tensor, (name, _)) in whole.shards.ranks[0].tensors.iter().enumerate() {
            // The target is one whole: what a layout pads at tp=1 is not in it.
            let expected: Vec<_> =
                whole.files[tensor].iter().filter(|cell| cell.is_some()).collect();
            let found: Vec<_> = made[name].iter().collect();
            assert_eq!(found, expected, "{view}: {name}");
        }
        assert_eq!(made.len(), whole.shards.ranks[0].tensors.len());
    }
}
