//! What is wrong in the values: counting cannot see it, comparing can.

use crate::{names, text, write};
use tempfile::tempdir;
use ucl_tests::command::{Ended, ucl};
use ucl_tests::made::llama::SMALL;
use ucl_tests::made::run::{Piece, Run, Zero};

/// A piece by tensor rank and the end of its name.
fn piece<'r>(run: &'r mut Run, tp: usize, name: &str) -> &'r mut Piece {
    let mut pieces = run.ranks[tp].iter_mut().flatten();
    pieces.find(|piece| piece.name.ends_with(name)).expect("a tensor of that name")
}

/// Converts what must not be converted: exit code 2, and nothing is left.
fn refused(run: &Run, flags: &[&str]) -> Ended {
    let folder = tempdir().unwrap();
    let source = write(folder.path(), "source", run);
    let before = ucl_tests::written::digests(&source);
    let out = folder.path().join("out");
    let mut arguments = vec!["convert", text(&source), text(&out)];
    arguments.extend(flags);
    let ended = ucl(&arguments);
    assert_eq!(ended.code, 2, "{}", ended.text());
    assert_eq!(names(folder.path()), ["source"], "{}", ended.text());
    assert_eq!(ucl_tests::written::digests(&source), before);
    ended
}

#[test]
fn one_element_of_one_shard() {
    let folder = tempdir().unwrap();
    let first = write(folder.path(), "first", &SMALL.run(3, 2, Zero::Stage(1)));
    let cases = [
        (0, 1, "layers.1.self_attention.dense.weight", 5, "l.1.attn.o (exp_avg)"),
        (1, 2, "layers.0.self_attention.query_key_value.weight", 0, "l.0.attn.q (exp_avg_sq)"),
        (1, 1, "layers.0.mlp.dense_h_to_4h.weight", 71, "l.0.mlp.up (exp_avg)"),
        (0, 2, "output_layer.weight", 40, "head (exp_avg_sq)"),
    ];
    for (number, (tp, state, name, element, told)) in cases.into_iter().enumerate() {
        let mut run = SMALL.run(4, 2, Zero::Stage(1));
        piece(&mut run, tp, name).states[state][element] *= 1.5;
        let other = write(folder.path(), &number.to_string(), &run);
        let ended = ucl(&["diff", text(&first), text(&other)]);
        assert_eq!(ended.code, 1, "{}", ended.text());
        assert!(ended.out.contains(told), "{told}\n{}", ended.text());
        let differing = ended.out.lines().filter(|line| line.contains(" of ")).count();
        assert_eq!(differing, 1, "one tensor and no other\n{}", ended.text());
    }
}

#[test]
fn two_tensors_of_one_shape_swapped_in_the_buffer() {
    // Gate and up lie in one tensor: its halves change places.
    let mut run = SMALL.run(3, 2, Zero::Bf16);
    let fused = piece(&mut run, 1, "layers.1.mlp.dense_h_to_4h.weight");
    let half = fused.states[0].len() / 2;
    fused.states[0].rotate_left(half);
    let ended = refused(&run, &[]);
    assert!(
        ended.err.contains("dense_h_to_4h") || ended.err.contains("l.1.mlp.gate"),
        "{}",
        ended.text()
    );

    let mut run = SMALL.run(3, 2, Zero::Bf16);
    for tp in 0..2 {
        let norm = std::mem::take(&mut piece(&mut run, tp, "0.input_layernorm.weight").states[0]);
        let other = &mut piece(&mut run, tp, "1.post_attention_layernorm.weight").states[0];
        let other = std::mem::replace(other, norm);
        piece(&mut run, tp, "0.input_layernorm.weight").states[0] = other;
    }
    for flags in [&[][..], &["--view", "stored"], &["--view", "hf"]] {
        let ended = refused(&run, flags);
        assert!(ended.err.contains("norm"), "{}", ended.text());
    }

    // The same without tensor parallelism, under the names of Hugging Face.
    let mut run = SMALL.hf_run(2, Zero::Bf16);
    let gate = std::mem::take(&mut piece(&mut run, 0, "1.mlp.gate_proj.weight").states[0]);
    let up = std::mem::replace(&mut piece(&mut run, 0, "1.mlp.up_proj.weight").states[0], gate);
    piece(&mut run, 0, "1.mlp.gate_proj.weight").states[0] = up;
    let ended = refused(&run, &[]);
    let names = ["mlp.gate", "mlp.up"];
    assert!(names.iter().any(|name| ended.err.contains(name)), "{}", ended.text());
}

#[test]
fn replicas_that_differ() {
    let norms = ["layers.0.input_layernorm.weight", "encoder.final_layernorm.weight"];
    for (name, state) in norms.into_iter().flat_map(|name| [(name, 0), (name, 1), (name, 2)]) {
        let mut run = SMALL.run(2, 4, Zero::Stage(1));
        let norm = piece(&mut run, 3, name);
        norm.states[state][1] += 1.0;
        let ended = refused(&run, &[]);
        let told = if name.contains("final") { "norm" } else { "l.0.attn.norm" };
        assert!(ended.err.contains(told) || ended.err.contains(name), "{}", ended.text());
    }
    // A weight of the module alone: the masters are the same.
    let mut run = SMALL.run(2, 2, Zero::Stage(1));
    piece(&mut run, 1, norms[0]).weight[0] += 1.0;
    refused(&run, &[]);
}

/// Padding of the vocabulary is dropped: its rows may hold anything.
#[test]
fn noise_below_the_vocabulary_does_not_count() {
    let folder = tempdir().unwrap();
    let first = write(folder.path(), "first", &SMALL.run(1, 2, Zero::Bf16));
    let mut run = SMALL.run(1, 2, Zero::Bf16);
    let table = piece(&mut run, 1, "word_embeddings.weight");
    *table.states[1].last_mut().unwrap() += 1.0;
    let other = write(folder.path(), "other", &run);
    let ended = ucl(&["diff", text(&first), text(&other)]);
    assert_eq!(ended.code, 0, "{}", ended.text());
}
