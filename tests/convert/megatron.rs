//! Megatron-LM's `torch` format on meshes that no run here has, of elements that can all be told apart.

use serde_json::json;
use std::path::Path;
use ucl_tests::made::megatron::{Mlm, Names};
use ucl_tests::{command::convert, command::ucl, written};

/// Converts a made run and compares everything with the row formulas.
fn check(what: &str, run: &Mlm) {
    let folder = tempfile::tempdir().expect("a folder");
    let (source, out) = (folder.path().join("iter_0000007"), folder.path().join("out"));
    run.write(&source);
    let flags: &[&str] = if run.gpt { &[] } else { &["--view", "hf"] };
    convert(&source, &out, flags);
    let (found, expected) = (written::states(&out), run.expected());
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{what}");
    for (state, tensors) in &expected {
        let names: Vec<_> = tensors.keys().collect();
        assert_eq!(found[state].keys().collect::<Vec<_>>(), names, "{what} {state}");
        for (tensor, known) in tensors {
            assert_eq!(&found[state][tensor], known, "{what}: {tensor} ({state})");
        }
    }
}

/// What a run is refused for.
fn refused(folder: &Path, flags: &[&str]) -> String {
    let out = folder.join("out");
    let (source, target) = (folder.join("run"), out.to_string_lossy());
    let source = source.to_string_lossy();
    let ended = ucl(&[&["convert", &source, &target], flags].concat());
    assert_eq!(ended.code, 2, "{}", ended.text());
    assert!(!out.exists());
    ended.err.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn stages_are_even_uneven_empty_and_interleaved() {
    let spread: [&[&[usize]]; 6] = [
        &[&[3]],
        &[&[2, 2]],
        &[&[1, 3, 2]],
        &[&[0, 3, 0]],
        &[&[1, 1], &[1, 1]],
        &[&[2, 1, 1], &[1, 2, 0]],
    ];
    for layers in spread {
        let layers: Vec<Vec<usize>> = layers.iter().map(|chunk| chunk.to_vec()).collect();
        for tp in [1, 2] {
            // What the arguments would say of a spread that nothing says is not known.
            let args = json!({"pipeline_model_parallel_layout": layout(&layers)});
            let run = Mlm { layers: layers.clone(), tp, etp: tp, args, ..Mlm::default() };
            check(&format!("{layers:?} tp {tp}"), &run);
        }
    }
}

/// Megatron's own text for a spread of layers.
fn layout(layers: &[Vec<usize>]) -> String {
    let parts: Vec<String> =
        layers.iter().flatten().map(|count| format!("t*{count}").replace("t*0", "")).collect();
    format!("E{}L", parts.join("|"))
}

#[test]
fn arguments_of_uneven_stages_agree_with_the_files() {
    let first = json!({"decoder_first_pipeline_num_layers": 1});
    let both =
        json!({"decoder_first_pipeline_num_layers": 1, "decoder_last_pipeline_num_layers": 2});
    let edges = json!({
        "account_for_embedding_in_pipeline_split": true,
        "account_for_loss_in_pipeline_split": true,
    });
    let cases = [
        (vec![vec![1, 3, 3]], first),
        (vec![vec![1, 3, 2]], both),
        (vec![vec![1, 2, 1]], edges.clone()),
        (vec![vec![0, 1], vec![1, 0]], edges),
    ];
    for (layers, args) in cases {
        check(&format!("{layers:?} {args}"), &Mlm { layers, args, ..Mlm::default() });
    }
    let folder = tempfile::tempdir().expect("a folder");
    let args = json!({"decoder_first_pipeline_num_layers": 2});
    let wrong = Mlm { layers: vec![vec![1, 3]], args, ..Mlm::default() };
    wrong.write(&folder.path().join("run"));
    insta::assert_snapshot!(
        refused(folder.path(), &[]).replace(&*folder.path().to_string_lossy(), "TMP")
    );
}

#[test]
fn experts_on_ranks_of_their_own() {
    let experts = 4;
    for names in [Names::Local, Names::Engine, Names::Grouped, Names::Gemm] {
        for (tp, ep, etp) in [(1, 1, 1), (1, 2, 1), (2, 2, 2), (2, 2, 1), (2, 4, 1), (1, 4, 1)] {
            let run = Mlm { names, tp, ep, etp, experts, ..Mlm::default() };
            check(&format!("{names:?} tp {tp} ep {ep} etp {etp}"), &run);
        }
    }
    let layers = vec![vec![1, 1], vec![1, 2]];
    let run = Mlm { layers, tp: 2, ep: 2, etp: 2, experts, ..Mlm::default() };
    check(
        "experts, tensor ranks, stages in turn",
        &Mlm {
            args: json!({"num_layers_per_virtual_pipeline_stage": 1, "num_layers": null}),
            ..run
        },
    );
}

#[test]
fn fp32_has_no_masters() {
    check("fp32", &Mlm { half: false, layers: vec![vec![1, 1]], ..Mlm::default() });
    check("fp32 experts", &Mlm { half: false, experts: 4, ep: 2, ..Mlm::default() });
}

/// Two groups of one kind: the shapes of what each has allow one assignment, and the masters agree.
#[test]
fn groups_that_nothing_but_shapes_tell_apart() {
    check("groups", &Mlm { foreign: true, ..Mlm::default() });
}

#[test]
fn a_gpt_of_either_age() {
    for names in [Names::Local, Names::Engine, Names::Legacy] {
        for (tp, layers) in [(1, vec![vec![2]]), (2, vec![vec![1, 1]]), (1, vec![vec![1, 1]; 2])] {
            let run = Mlm { names, gpt: true, tp, etp: tp, layers, ..Mlm::default() };
            check(&format!("{names:?} tp {tp} {:?}", run.layers), &run);
        }
    }
}

/// Before `self_attention` and `encoder` there were `attention` and `transformer`.
#[test]
fn the_oldest_names() {
    for (tp, layers) in [(1, vec![vec![2]]), (2, vec![vec![1, 1]])] {
        let run = Mlm { names: Names::Oldest, gpt: true, tp, etp: tp, layers, ..Mlm::default() };
        check(&format!("tp {tp} {:?}", run.layers), &run);
    }
}

/// `--rotary-interleaved`: the two rows of a pair are neighbours.
#[test]
fn rotary_pairs_of_neighbours() {
    for names in [Names::Local, Names::Engine, Names::Legacy] {
        for (tp, layers) in [(1, vec![vec![2]]), (2, vec![vec![1, 1]])] {
            let run = Mlm { names, interleaved: true, tp, etp: tp, layers, ..Mlm::default() };
            check(&format!("{names:?} tp {tp} {:?}", run.layers), &run);
        }
    }
    for names in [Names::Local, Names::Engine, Names::Grouped, Names::Gemm] {
        let run = Mlm { names, interleaved: true, experts: 4, ep: 2, ..Mlm::default() };
        check(&format!("{names:?} with experts"), &run);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let args = json!({"rotary_percent": 0.5});
    let part = Mlm { interleaved: true, args, ..Mlm::default() };
    part.write(&folder.path().join("run"));
    let said = refused(folder.path(), &[]);
    assert!(said.contains("`rotary_interleaved`") && said.contains("`rotary_percent`"), "{said}");
}

/// Where no argument says whether the head is tied, a copy on the last stage may be one or not.
#[test]
fn a_head_of_which_no_argument_says_what_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let (source, out) = (folder.path().join("run"), folder.path().join("out"));
    let args = json!({"untie_embeddings_and_output_weights": null});
    let run = Mlm { gpt: true, layers: vec![vec![1, 1]], args, ..Mlm::default() };
    run.write(&source);
    let told = convert(&source, &out, &[]);
    assert!(told.out.contains("`--set tied=1` compares the two"), "{}", told.out);
    assert!(written::states(&out)["fp32"].contains_key("head"));
    let out = folder.path().join("tied");
    let told = convert(&source, &out, &["--set", "tied=1"]);
    assert!(!told.out.contains("tied=1"), "{}", told.out);
    assert_eq!(written::states(&out), run.expected());
    // On one stage nobody keeps a copy.
    let untied = Mlm { layers: vec![vec![2]], gpt: false, ..run };
    untied.write(&folder.path().join("one"));
    let told = convert(&folder.path().join("one"), &folder.path().join("whole"), &[]);
    assert!(!told.out.contains("tied=1"), "{}", told.out);
}

#[test]
fn dense_tensors_of_all_expert_ranks_are_compared() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = Mlm { ep: 2, experts: 4, drift: true, ..Mlm::default() };
    run.write(&folder.path().join("run"));
    let said = refused(folder.path(), &[]);
    assert!(said.contains("decoder.final_layernorm.weight"), "{said}");
}

#[test]
fn a_version_that_is_not_recorded_is_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = Mlm { names: Names::Legacy, gpt: true, version: None, ..Mlm::default() };
    run.write(&folder.path().join("run"));
    let said = refused(folder.path(), &[]);
    for view in ["--from-view megatron ", "--from-view megatron-v0"] {
        assert!(format!("{said} ").contains(view), "{said}");
    }
    let out = folder.path().join("told");
    convert(&folder.path().join("run"), &out, &["--from-view", "megatron"]);
    assert_eq!(written::states(&out), run.expected());
}

#[test]
fn flat_buffers_of_the_distributed_optimizer() {
    let run = || Mlm { distributed: true, ..Mlm::default() };
    check("one rank", &run());
    check(
        "stages and tensor ranks",
        &Mlm {
            layers: vec![vec![1, 2]],
            tp: 2,
            etp: 2,
            args: json!({
                "num_layers": null,
            }),
            ..run()
        },
    );
    check("in turn", &Mlm { layers: vec![vec![1, 1], vec![1, 1]], ..run() });
    check("a table on two stages", &Mlm { gpt: true, layers: vec![vec![1, 1]], ..run() });
    check("experts", &Mlm { experts: 4, ep: 2, ..run() });
    check("experts on fewer tensor ranks", &Mlm { experts: 4, tp: 2, ep: 2, ..run() });
}

/// An order that comes to the same length is seen in the values.
#[test]
fn an_order_of_flat_buffers_that_is_another_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = Mlm { distributed: true, swapped: true, ..Mlm::default() };
    run.write(&folder.path().join("run"));
    let said = refused(folder.path(), &[]);
    assert!(said.contains("contradicts itself"), "{said}");
}

#[test]
fn flat_buffers_of_another_length_leave_the_weights() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    Mlm { distributed: true, ..Mlm::default() }.write(&at("run"));
    Mlm { distributed: true, layers: vec![vec![1]], ..Mlm::default() }.write(&at("other"));
    let file = "mp_rank_00/distrib_optim.pt";
    std::fs::copy(at("other").join(file), at("run").join(file)).expect("a copy");
    let said = refused(folder.path(), &[]);
    assert!(said.contains("by Megatron's rules") && said.contains("--states weights"), "{said}");
    std::fs::remove_file(at("run").join(file)).expect("removed");
    let said = refused(folder.path(), &[]);
    assert!(said.contains("which is not here"), "{said}");
    convert(&at("run"), &at("out"), &["--states", "weights"]);
}
