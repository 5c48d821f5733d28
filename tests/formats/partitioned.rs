//! ZeRO-3 checkpoints that are not as they were written.

use crate::copy;
use crate::damage::{after, edit, replace, set};
use std::fs;
use std::path::{Path, PathBuf};
use ucl_formats::inventory::Data;
use ucl_formats::survey;

const ODD: &str = "ds-z3-adamw-dp2-fp32";
const FROZEN: &str = "z3-phi3-fp32-dp2-frozen";

fn model(run: &Path, rank: u32) -> PathBuf {
    run.join(format!("global_step3/zero_pp_rank_{rank}_mp_rank_00_model_states.pt"))
}

fn shard(run: &Path, rank: u32) -> PathBuf {
    run.join(format!("global_step3/zero_pp_rank_{rank}_mp_rank_00_optim_states.pt"))
}

fn swap(one: &Path, other: &Path) {
    let aside = one.with_extension("aside");
    fs::rename(one, &aside).unwrap();
    fs::rename(other, one).unwrap();
    fs::rename(aside, other).unwrap();
}

fn of(fixture: &str) -> PathBuf {
    ucl_tests::fixture(fixture)
}

#[test]
fn missing_ranks() {
    insta::assert_snapshot!(after(FROZEN, |run| {
        fs::remove_file(model(run, 1)).unwrap();
        fs::remove_file(shard(run, 0)).unwrap();
    }));
}

#[test]
fn no_model_file_at_all() {
    insta::assert_snapshot!(after(ODD, |run| {
        fs::remove_file(model(run, 0)).unwrap();
        fs::remove_file(model(run, 1)).unwrap();
    }));
}

#[test]
fn surplus_ranks() {
    insta::assert_snapshot!(after(ODD, |run| {
        fs::copy(model(run, 1), model(run, 2)).unwrap();
        fs::copy(shard(run, 1), shard(run, 3)).unwrap();
    }));
}

#[test]
fn swapped_ranks() {
    insta::assert_snapshot!(after(FROZEN, |run| {
        swap(&model(run, 0), &model(run, 1));
        swap(&shard(run, 0), &shard(run, 1));
    }));
}

#[test]
fn another_number_of_ranks() {
    insta::assert_snapshot!(after(ODD, |run| {
        edit(&shard(run, 0), |bytes| set(bytes, "partition_count", 3));
        edit(&model(run, 1), |bytes| set(bytes, "global_steps", 2));
    }));
}

#[test]
fn ranks_of_three_where_there_are_two() {
    insta::assert_snapshot!(after(ODD, |run| {
        for rank in 0..2 {
            edit(&shard(run, rank), |bytes| set(bytes, "partition_count", 3));
            edit(&model(run, rank), |bytes| set(bytes, "dp_world_size", 3));
        }
    }));
}

#[test]
fn a_shard_of_another_model() {
    insta::assert_snapshot!(after(FROZEN, |run| {
        fs::copy(shard(&of("ds-z3-adagrad-dp2-fp32"), 1), shard(run, 1)).unwrap();
    }));
}

#[test]
fn a_shard_with_other_sub_groups() {
    insta::assert_snapshot!(after(ODD, |run| {
        fs::copy(shard(&of(FROZEN), 1), shard(run, 1)).unwrap();
    }));
}

#[test]
fn a_model_file_of_another_model() {
    insta::assert_snapshot!(after(FROZEN, |run| {
        fs::copy(model(&of(ODD), 1), model(run, 1)).unwrap();
    }));
}

/// `ds_zero_partition_groups` says who shares experts, `ds_autoep_layers` whose they are.
#[test]
fn experts_that_are_shared_wrongly() {
    let stacks = "autoep-z3-ep2-dp4-fp32";
    let shared = |ranks: &'static [u8]| {
        // Rank 1 shares its experts with rank 3.
        after(stacks, |run| edit(&shard(run, 1), |bytes| replace(bytes, b"K\x01K\x03e", ranks)))
    };
    let told = [
        ("not with itself", shared(b"K\x02K\x03e")),
        ("with one of the others", shared(b"K\x01K\x02e")),
        ("with none", shared(b"K\x01K\x09e")),
        ("of another rank", after(stacks, |run| edit(&model(run, 1), |b| set(b, "ep_rank", 0)))),
        (
            "of one rank twice",
            after(stacks, |run| {
                for rank in [1, 3] {
                    edit(&model(run, rank), |bytes| set(bytes, "ep_rank", 0));
                }
            }),
        ),
        ("of no rank", after(stacks, |run| edit(&model(run, 2), |b| set(b, "ep_rank", 9)))),
        (
            "with none who tells",
            after(stacks, |run| {
                for rank in 0..4 {
                    let names: [&[u8]; 2] =
                        [b"ds_zero_partition_groups", b"ds_zero_partition_groupX"];
                    edit(&shard(run, rank), |bytes| replace(bytes, names[0], names[1]));
                }
            }),
        ),
    ];
    let lines = told.map(|(what, told)| format!("-- {what}\n{told}"));
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn files_of_two_stages() {
    insta::assert_snapshot!(after(ODD, |run| {
        let other = of("z1-llama-fp32-dp2").join("global_step3/mp_rank_00_model_states.pt");
        fs::copy(other, run.join("global_step3/mp_rank_00_model_states.pt")).unwrap();
    }));
}

#[test]
fn offloaded() {
    insta::assert_snapshot!(after(ODD, |run| {
        fs::create_dir(run.join("global_step3/offloaded_tensors")).unwrap();
    }));
}

/// Wherever a file ends, it is named and nothing else goes wrong.
#[test]
fn cut_short() {
    let (_folder, run) = copy("ds-z3-subgroups-dp3-bf16");
    let step = run.join("global_step3");
    for name in [
        "zero_pp_rank_1_mp_rank_00_model_states.pt",
        "bf16_zero_pp_rank_2_mp_rank_00_optim_states.pt",
    ] {
        let path = step.join(name);
        let whole = fs::read(&path).unwrap();
        for share in 0..40 {
            fs::write(&path, &whole[..whole.len() * share / 40]).unwrap();
            let problems = survey(&run).problems;
            assert!(
                problems.iter().any(|problem| problem.file == path),
                "{name} {share}: {problems:?}"
            );
        }
        fs::write(&path, whole).unwrap();
    }
    assert_eq!(survey(&run).problems, []);
}

/// Numbers of the pickles, changed: never a panic, and never elements that no file has.
#[test]
fn numbers_that_are_wrong() {
    let (_folder, run) = copy("ds-z3-subgroups-dp3-bf16");
    let step = run.join("global_step3");
    let model = "zero_pp_rank_0_mp_rank_00_model_states.pt";
    let shard = "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt";
    let shapes = ["param_shapes", "frozen_param_shapes"];
    let counts = ["dp_world_size", "mp_world_size", "pp_degree", "tp_degree"];
    let parts = ["zero_stage", "partition_count", "fp32_flat_groups", "params", "param_groups"];
    let keys = [(model, &shapes[..]), (model, &counts), (shard, &parts)];
    let mut noticed = 0;
    for (name, keys) in keys {
        let path = step.join(name);
        let whole = fs::read(&path).unwrap();
        for (key, number) in keys.iter().flat_map(|key| [0, 2, 5, 250].map(|n| (key, n))) {
            let mut bytes = whole.clone();
            set(&mut bytes, key, number);
            fs::write(&path, bytes).unwrap();
            let found = survey(&run);
            noticed += usize::from(!found.problems.is_empty());
            for tensor in &found.inventory.tensors {
                let Data::Runs(runs) = &tensor.data else { continue };
                for run in runs {
                    let end = run.offset + run.len * tensor.dtype.size_bytes();
                    assert!(
                        end <= found.inventory.files[run.file as usize].bytes,
                        "{key} {number}"
                    );
                }
            }
        }
        fs::write(&path, whole).unwrap();
    }
    assert!(noticed >= 24, "{noticed}");
}
