//! Data ranks alone: boundaries inside rows, many ranks, empty groups.

use crate::check;
use tempfile::tempdir;
use ucl_tests::made::llama::{Llama, SMALL, as_they_are};
use ucl_tests::made::run::Zero;
use ucl_tests::made::whole::{Cut, Whole, groups};

#[test]
fn boundaries_inside_rows() {
    let folder = tempdir().unwrap();
    // Odd sizes: a group of 2 * (4 * 7 * 10 + 3 * 7 * 11) + 2 * 13 * 7 elements over four ranks.
    let odd = Llama { hidden: 7, heads: 5, kv: 5, head: 2, ffn: 11, vocab: 13, ..SMALL };
    let expected = odd.hf_names();
    for dp in 1..=4 {
        for zero in [Zero::Bf16, Zero::Stage(1), Zero::Stage(2)] {
            let name = format!("dp{dp}-{zero:?}");
            let run = odd.hf_run(dp, zero);
            let view = if dp % 2 == 0 { "stored" } else { "hf" };
            check(folder.path(), &name, &run, &["--view", view], &expected);
        }
    }
}

#[test]
fn stage_2_with_tensor_ranks() {
    let folder = tempdir().unwrap();
    check(folder.path(), "z2", &SMALL.run(3, 2, Zero::Stage(2)), &[], &SMALL.universal());
}

/// Ranks from 100 on sort before 11 as text, and most hold nothing but padding.
#[test]
fn a_hundred_and_one_ranks() {
    let folder = tempdir().unwrap();
    let tiny =
        Llama { layers: 1, hidden: 3, heads: 2, kv: 1, head: 2, ffn: 2, vocab: 3, multiple: 1 };
    for zero in [Zero::Bf16, Zero::Stage(1)] {
        let run = tiny.run(101, 1, zero);
        check(folder.path(), &format!("{zero:?}"), &run, &[], &tiny.universal());
    }
    let wide = Llama { hidden: 16, ffn: 24, vocab: 50, ..tiny };
    for zero in [Zero::Bf16, Zero::Stage(1)] {
        let run = wide.run(101, 1, zero);
        check(folder.path(), &format!("wide-{zero:?}"), &run, &[], &wide.universal());
    }
}

/// The engine takes all of a group's padding off the last rank's master, also what lies in the parts
/// of the ranks before it. If that is more than the part has, Python counts from the end: of 6
/// elements that are all padding, 7 taken off leave 5.
#[test]
fn padding_longer_than_a_part() {
    let folder = tempdir().unwrap();
    for elements in [1, 3, 4, 7, 8, 9, 12, 16, 17, 23] {
        let vector = |name: &str, rows, seed| Whole {
            name: name.to_owned(),
            rows,
            columns: None,
            cut: Cut::Nowhere,
            seed,
        };
        let mut run = SMALL.hf_run(4, Zero::Stage(1));
        let tensors = [vector("a", elements, 1), vector("b", 1, 2)];
        run.ranks = vec![groups(&tensors, 0, 1)];
        let expected = as_they_are(&tensors);
        check(folder.path(), &elements.to_string(), &run, &["--view", "stored"], &expected);
    }
}

#[test]
fn a_group_without_parameters() {
    let folder = tempdir().unwrap();
    let mut run = SMALL.run(3, 2, Zero::Stage(1));
    for groups in &mut run.ranks {
        groups.insert(1, Vec::new());
    }
    check(folder.path(), "middle", &run, &[], &SMALL.universal());
    let mut run = SMALL.run(2, 1, Zero::Bf16);
    run.ranks[0].push(Vec::new());
    check(folder.path(), "last", &run, &[], &SMALL.universal());
}
