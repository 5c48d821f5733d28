//! Mixtures of experts whose files do not fit together: each mistake has to be named.

use crate::damage::{after, edit, replace, set};
use std::fs;
use std::path::{Path, PathBuf};

const RUN: &str = "dsmoe-ep2-z1-fp32";

fn model(run: &Path) -> PathBuf {
    run.join("global_step3/mp_rank_00_model_states.pt")
}

fn shard(run: &Path, rank: u64) -> PathBuf {
    run.join(format!("global_step3/zero_pp_rank_{rank}_mp_rank_00_optim_states.pt"))
}

fn expert(run: &Path, expert: u64) -> PathBuf {
    run.join(format!("global_step3/layer_0_expert_{expert}_mp_rank_00_model_states.pt"))
}

#[test]
fn a_file_is_missing() {
    insta::assert_snapshot!(after(RUN, |run| fs::remove_file(expert(run, 2)).unwrap()));
}

#[test]
fn all_files_are_missing() {
    insta::assert_snapshot!(after(RUN, |run| {
        (0..4).for_each(|id| fs::remove_file(expert(run, id)).unwrap());
    }));
}

#[test]
fn one_expert_under_two_names() {
    insta::assert_snapshot!(after(RUN, |run| drop(fs::copy(expert(run, 1), expert(run, 2)))));
}

#[test]
fn two_files_of_one_expert() {
    insta::assert_snapshot!(after(RUN, |run| {
        let other = run.join("global_step3/layer_00_expert_1_mp_rank_00_model_states.pt");
        fs::copy(expert(run, 1), other).unwrap();
    }));
}

#[test]
fn surplus_files() {
    insta::assert_snapshot!(after(RUN, |run| {
        fs::copy(expert(run, 3), expert(run, 4)).unwrap();
        let other = run.join("global_step3/layer_1_expert_0_mp_rank_00_model_states.pt");
        fs::copy(expert(run, 0), other).unwrap();
    }));
}

#[test]
fn more_experts_than_files() {
    insta::assert_snapshot!(after(RUN, |run| {
        edit(&model(run), |bytes| set(bytes, "num_experts", 255));
    }));
}

#[test]
fn experts_that_ranks_cannot_share() {
    insta::assert_snapshot!(after(RUN, |run| {
        edit(&model(run), |bytes| set(bytes, "num_experts", 3));
        fs::remove_file(expert(run, 3)).unwrap();
    }));
}

#[test]
fn a_number_of_experts_that_is_none() {
    insta::assert_snapshot!(after(RUN, |run| {
        // `[4]` becomes `([], 4)`.
        edit(&model(run), |bytes| replace(bytes, b"K\x04a", b"K\x04\x86"));
    }));
}

#[test]
fn a_rank_that_no_run_has() {
    insta::assert_snapshot!(after(RUN, |run| {
        let name = format!("layer_0_expert_0_mp_rank_{}_model_states.pt", u64::MAX);
        fs::copy(expert(run, 0), run.join("global_step3").join(name)).unwrap();
        fs::copy(expert(run, 0), expert(run, u64::MAX)).unwrap();
    }));
}

#[test]
fn an_optimizer_of_experts_is_missing() {
    insta::assert_snapshot!(after("moe-z0-ep2-dp2-fp32", |run| {
        fs::remove_file(run.join("global_step3/expp_rank_1_mp_rank_00_optim_states.pt")).unwrap();
    }));
}

#[test]
fn stacks_that_are_placed_wrongly() {
    let run = "autoep-z1-ep2-dp4-indexed";
    let whole = after(run, |run| {
        edit(&model(run), |bytes| set(bytes, "ranks", 1));
    });
    let row = after(run, |run| {
        fs::remove_file(run.join("global_step3/layer_1_expert_0_mp_rank_00_model_states.pt"))
            .unwrap();
    });
    insta::assert_snapshot!(format!("{whole}\n\n{row}"));
}

#[test]
fn an_expert_of_another_shape() {
    insta::assert_snapshot!(after(RUN, |run| {
        edit(&expert(run, 2), |bytes| replace(bytes, b"K-K \x86", b"K,K \x86"));
    }));
}

#[test]
fn a_wrong_number_of_parts() {
    insta::assert_snapshot!(after(RUN, |run| {
        edit(&shard(run, 1), |bytes| {
            // `[2, 1]` becomes `[2, 2]`.
            replace(bytes, b"K\x02K\x01e", b"K\x02K\x02e");
        });
    }));
}

#[test]
fn ranks_that_experts_do_not_fit_on() {
    insta::assert_snapshot!(after(RUN, |run| {
        for rank in 0..2 {
            edit(&shard(run, rank), |bytes| replace(bytes, b"ep_size_2", b"ep_size_3"));
        }
    }));
}

#[test]
fn a_local_number_that_no_rank_has() {
    insta::assert_snapshot!(after(RUN, |run| {
        let name = b"deepspeed_experts.1.0.weight";
        edit(&model(run), |bytes| replace(bytes, name, b"deepspeed_experts.7.0.weight"));
    }));
}

#[test]
fn parts_of_two_ranks_swapped() {
    insta::assert_snapshot!(after(RUN, |run| {
        let [one, other] = [0, 1].map(|rank| fs::read(shard(run, rank)).unwrap());
        fs::write(shard(run, 0), other).unwrap();
        fs::write(shard(run, 1), one).unwrap();
    }));
}

#[test]
fn truncated_at_every_structure() {
    let whole = fs::metadata(expert(&ucl_tests::fixture(RUN), 0)).unwrap().len();
    for part in 0..8 {
        after(RUN, |run| {
            edit(&expert(run, 0), |bytes| bytes.truncate((whole * part / 8) as usize));
        });
    }
}
