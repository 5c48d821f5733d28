//! The library that loads: any rank's slices of any checkpoint, without writing anything.

use indexmap::IndexMap;
use std::collections::BTreeMap;
use ucl_load::{Checkpoint, Options, Ranks, Source, States, Unbound, Wanted};
use ucl_tests::command::convert;
use ucl_tests::written::sha256;
use ucl_tests::{fixture, oracle};

fn mesh(axes: &[(&str, u64)]) -> IndexMap<String, u64> {
    axes.iter().map(|(axis, size)| ((*axis).to_owned(), *size)).collect()
}

fn wanted(view: Option<&str>, axes: &[(&str, u64)], states: States) -> Wanted {
    Wanted { view: view.map(str::to_owned), mesh: mesh(axes), dtype: None, states }
}

fn open(name: &str) -> Checkpoint {
    Checkpoint::open(&fixture(name), &Source::default()).unwrap_or_else(|wrong| panic!("{wrong}"))
}

fn ranks<'a>(checkpoint: &'a Checkpoint, wanted: Wanted) -> Ranks<'a> {
    checkpoint.ranks(wanted).unwrap_or_else(|wrong| panic!("{wrong}"))
}

/// A rank's slices by state and name: shape, bytes.
fn read(ranks: &Ranks<'_>, rank: usize) -> BTreeMap<(String, String), (Vec<u64>, Vec<u8>)> {
    let slices = ranks.slices(rank).map(|slice| {
        let bytes = ranks.read(&slice).expect("a slice");
        let key = (slice.state.to_owned(), slice.name.to_owned());
        (key, (slice.shape.to_vec(), bytes))
    });
    slices.collect()
}

#[test]
fn one_rank_of_everything_is_what_the_training_held() {
    for name in ["z1-llama-bf16opt-dp2-groups2", "z3-llama-bf16-dp4-groups2"] {
        let checkpoint = open(name);
        let ranks = ranks(&checkpoint, wanted(None, &[], States::All));
        let held = read(&ranks, 0);
        let sets = oracle::sets(&fixture(name).join("oracle/oracle.json"));
        let mut compared = 0;
        for state in ["fp32", "exp_avg", "exp_avg_sq"] {
            for (tensor, known) in &sets[&format!("live.{state}")] {
                let (shape, bytes) = &held[&(state.to_owned(), tensor.clone())];
                assert_eq!(*shape, known.shape, "{name}: {tensor} ({state})");
                assert_eq!(sha256(bytes), known.sha256, "{name}: {tensor} ({state})");
                compared += 1;
            }
        }
        assert_eq!(compared, 90, "{name}");
    }
}

#[test]
fn ranks_of_a_mesh_hold_the_cuts_of_the_whole() {
    // Rows of q and gate, columns of o and down; norms and the table on every rank.
    let checkpoint = open("hf-llama-fp32/hf");
    let whole = ranks(&checkpoint, wanted(Some("hf"), &[], States::Weights));
    let whole = read(&whole, 0);
    let two = ranks(&checkpoint, wanted(Some("hf"), &[("tp", 2)], States::Weights));
    assert_eq!(two.coordinates(), [mesh(&[("tp", 0)]), mesh(&[("tp", 1)])]);
    let (left, right) = (read(&two, 0), read(&two, 1));
    let mut kinds = BTreeMap::new();
    for (key, (shape, bytes)) in &whole {
        let ((_, a), (_, b)) = (&left[key], &right[key]);
        let kind = if a == bytes && b == bytes {
            "copied"
        } else if [&a[..], b].concat() == *bytes {
            "rows"
        } else {
            let row = shape[1] as usize * 4;
            let (of_a, of_b) = (a.len() / shape[0] as usize, b.len() / shape[0] as usize);
            let rows = a.chunks(of_a).zip(b.chunks(of_b));
            let joined: Vec<u8> = rows.flat_map(|(a, b)| [a, b].concat()).collect();
            assert_eq!((of_a + of_b, &joined), (row, bytes), "{key:?}");
            "columns"
        };
        *kinds.entry(kind).or_insert(0) += 1;
    }
    // Three layers: q, k, v, gate, up and the head; o and down; two norms each, one more, and the table.
    assert_eq!(kinds, BTreeMap::from([("columns", 6), ("copied", 8), ("rows", 16)]));
}

#[test]
fn slices_are_those_that_convert_writes() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("cut");
    let source = fixture("megds-llama-tp2-pp2-dp1-bf16");
    convert(&source, &folder, &["--to", "deepspeed", "--mesh", "tp=4,pp=2"]);
    let axes = [("tp", 4), ("pp", 2)];
    let all = || wanted(None, &axes, States::All);
    let (before, after) = (open("megds-llama-tp2-pp2-dp1-bf16"), {
        let source = Source::default();
        Checkpoint::open(&folder, &source).unwrap_or_else(|wrong| panic!("{wrong}"))
    });
    let (before, after) = (ranks(&before, all()), ranks(&after, all()));
    let mut compared = 0;
    for rank in 0..8 {
        assert_eq!(before.coordinates()[rank], after.coordinates()[rank]);
        let (before, after) = (read(&before, rank), read(&after, rank));
        compared += before.len();
        assert_eq!(before, after, "rank {rank}");
    }
    assert!(compared > 200, "{compared}");
}

#[test]
fn a_rank_reads_its_own_bytes_alone() {
    let checkpoint = open("megds-llama-tp2-pp2-dp1-bf16");
    let ranks = ranks(&checkpoint, wanted(Some("mcore"), &[("tp", 2)], States::Weights));
    let reader = ranks.reader(&Options::default());
    let mut bytes = 0;
    for slice in ranks.slices(1).filter(|slice| slice.name.ends_with("linear_qkv.weight")) {
        let mut window = vec![0; slice.bytes() as usize];
        reader.read(slice.number, 0..slice.elements(), &mut window).unwrap();
        bytes += slice.bytes();
    }
    assert_eq!(reader.bytes_read(), bytes);
    assert!(bytes > 0);
    // Windows of a slice are parts of it.
    let slice = ranks.slices(1).find(|slice| slice.name.ends_with("linear_fc1.weight")).unwrap();
    let whole = ranks.read(&slice).unwrap();
    let mut window = vec![0; 2 * 33];
    reader.read(slice.number, 7..40, &mut window).unwrap();
    assert_eq!(window, whole[2 * 7..2 * 40]);
    for (elements, len) in [(7..40, 4), (0..slice.elements() + 1, 4), (9..9, 4)] {
        assert!(reader.read(slice.number, elements, &mut vec![0; len]).is_err());
    }
}

#[test]
fn what_cannot_be_had_is_refused_before_anything_is_read() {
    let said = |wanted: Wanted| match open("hf-llama-fp32/hf").ranks(wanted).map(|_| ()) {
        Err(Unbound::Wrong(failure)) => failure.to_string(),
        other => panic!("{other:?}"),
    };
    let cut = said(wanted(Some("mcore"), &[("tp", 3)], States::Weights));
    assert!(cut.contains("tp"), "{cut}");
    let view = said(wanted(Some("mcor"), &[], States::Weights));
    assert!(view.contains("no model has a view `mcor`"), "{view}");
}
