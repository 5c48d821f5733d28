//! Every element of every state, against what the training held.

use crate::gather::sha256;
use crate::{CUT, WHOLE};
use std::collections::BTreeMap;
use ucl_formats::inventory::{Data, Framework, Inventory, Role};
use ucl_formats::{Survey, survey};
use ucl_tests::oracle::sets;

fn clean(name: &str) -> Inventory {
    let Survey { inventory, problems } = survey(&ucl_tests::fixture(name));
    assert_eq!(problems, [], "{name}");
    inventory
}

/// The oracle's sets by the states' names.
fn oracle(name: &str) -> BTreeMap<String, ucl_tests::oracle::Tensors> {
    let path = ucl_tests::fixture(name).join("oracle").join("oracle.json");
    let state = |set: &str| match set.strip_prefix("live.")? {
        "model" => Some("param".to_owned()),
        state => Some(state.to_owned()),
    };
    sets(&path).into_iter().filter_map(|(set, tensors)| Some((state(&set)?, tensors))).collect()
}

#[test]
fn every_tensor_of_every_state_is_what_the_training_held() {
    for name in WHOLE {
        let inventory = clean(name);
        let oracle = oracle(name);
        for (state, known) in &oracle {
            let stored: Vec<_> = inventory.tensors.iter().filter(|t| t.state == *state).collect();
            for tensor in &stored {
                let known =
                    known.get(&tensor.name).unwrap_or_else(|| panic!("{name}: {}", tensor.name));
                assert_eq!(tensor.shape, known.shape, "{name}: {state} of {}", tensor.name);
                assert_eq!(tensor.dtype.name(), known.dtype, "{name}: {state} of {}", tensor.name);
                assert_eq!(
                    sha256(&inventory, tensor),
                    known.sha256,
                    "{name}: {state} of {}",
                    tensor.name
                );
            }
            // What is an alias in the oracle is one here, and holds the same.
            for (missing, value) in
                known.iter().filter(|(n, _)| stored.iter().all(|t| t.name != **n))
            {
                match inventory.aliases.get(missing) {
                    Some(original) => {
                        assert_eq!(known[original].sha256, value.sha256, "{name}: {missing}");
                    }
                    // ZeRO-3 saves no weights that are trained, and says their types.
                    None if state == "param" && name.contains("z3-") => {
                        let own = inventory.own_types[missing];
                        assert_eq!(own.name(), value.dtype, "{name}: {missing}");
                    }
                    None => {
                        assert!(name.ends_with("frozen-excl"), "{name}: no {state} of {missing}");
                    }
                }
            }
        }
        let states = inventory.tensors.iter().filter(|tensor| !oracle.contains_key(&tensor.state));
        assert_eq!(states.count(), 0, "{name} has states that the oracle does not know");
    }
}

#[test]
fn what_no_rank_cuts_is_whole_on_every_rank() {
    for name in CUT {
        let inventory = clean(name);
        for (state, known) in oracle(name) {
            let mut whole = 0;
            for tensor in inventory.tensors.iter().filter(|tensor| tensor.state == state) {
                let known = &known[&tensor.name];
                let cut: Vec<_> =
                    known.shape.iter().zip(&tensor.shape).filter(|(a, b)| a != b).collect();
                assert!(
                    cut.len() <= 1,
                    "{name}: {} is {:?} of {:?}",
                    tensor.name,
                    tensor.shape,
                    known.shape
                );
                // The last stage has positions of its own, which it does not use.
                let unused =
                    tensor.name.ends_with("position_embeddings.weight") && tensor.at["pp"] == 1;
                if cut.is_empty() && !unused {
                    whole += 1;
                    assert_eq!(
                        sha256(&inventory, tensor),
                        known.sha256,
                        "{name}: {state} of {}",
                        tensor.name
                    );
                }
            }
            assert!(whole > 0, "{name}: {state}");
        }
    }
}

#[test]
fn runs_and_padding_tile_every_buffer() {
    for name in WHOLE.iter().chain(&CUT) {
        let inventory = clean(name);
        for buffer in &inventory.buffers {
            let size = buffer.dtype.size_bytes();
            let end = buffer.offset + buffer.len * size;
            let padding = buffer
                .padding
                .iter()
                .map(|(start, len)| (buffer.offset + start * size, len * size));
            let runs = inventory.tensors.iter().filter_map(|tensor| match &tensor.data {
                Data::Runs(runs) => Some(runs),
                Data::Strided { .. } | Data::Boxes(_) => None,
            });
            let within = runs.flatten().filter(|run| {
                run.file == buffer.file && (buffer.offset..end).contains(&run.offset)
            });
            let mut spans: Vec<_> =
                within.map(|run| (run.offset, run.len * size)).chain(padding).collect();
            spans.sort_unstable();
            let mut next = buffer.offset;
            for (start, len) in spans {
                assert_eq!(start, next, "{name}: {}", buffer.label);
                next += len;
            }
            assert_eq!(next, end, "{name}: {}", buffer.label);
        }
    }
}

#[test]
fn roles_aliases_and_steps_are_told() {
    let tied = clean("ds-z1-buffer-tied-dp2-bf16");
    let of = |role| {
        let params = tied.tensors.iter().filter(|t| t.state == "param" && t.role == role);
        params.map(|tensor| tensor.name.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(of(Role::Buffer), ["seen", "mean"]);
    assert_eq!(of(Role::Frozen), ["fixed.weight"]);
    assert_eq!(tied.aliases["out.weight"], "emb.weight");

    // The original was left out when it was saved: its alias is the name that there is.
    let excluded = clean("z2-qwen2-fp32-dp2-frozen-excl");
    assert!(excluded.aliases.is_empty());
    assert!(excluded.tensors.iter().any(|t| t.name == "lm_head.weight" && t.role == Role::Frozen));

    let sgd = clean("ds-z1-sgd-dp2-fp32").optimizer.unwrap();
    assert_eq!(sgd.groups.iter().map(|group| group.params.len()).collect::<Vec<_>>(), [7, 4, 1]);
    assert_eq!(sgd.groups[0].step, None);
    assert_eq!(sgd.groups[0].hyper["lr"], 0.014580000000000003);
    let adam = clean("z1-llama-fp32-dp2").optimizer.unwrap();
    assert_eq!(adam.groups[0].step, Some(3.0.into()));
    assert_eq!(adam.groups[0].hyper["betas"], serde_json::json!([0.9, 0.95]));
}

#[test]
fn inventories_in_a_line() {
    let mut lines = String::new();
    for name in WHOLE.iter().chain(&CUT) {
        let inventory = clean(name);
        let mesh: Vec<_> =
            inventory.mesh.iter().map(|(axis, size)| format!("{axis} {size}")).collect();
        lines += &format!(
            "{name}: {}, step {}, {}, {} tensors, {} buffers, {} carried\n",
            inventory.kind,
            inventory.step.unwrap(),
            mesh.join(" "),
            inventory.tensors.len(),
            inventory.buffers.len(),
            inventory.carried.len()
        );
        for note in inventory.notes.iter().filter(|note| !note.starts_with("`latest`")) {
            lines += &format!("    {note}\n");
        }
    }
    insta::assert_snapshot!(lines);
}

#[test]
fn megatron_is_told_by_its_arguments() {
    for name in CUT {
        let inventory = clean(name);
        assert_eq!(inventory.framework, Framework::MegatronDeepSpeed, "{name}");
        let args = &inventory.documents["args"];
        assert_eq!(args["original_vocab_size"], if name.starts_with("ds") { 21 } else { 101 });
        assert!(args.contains_key("num_layers"), "{name}");
    }
    assert_eq!(clean("z1-llama-fp32-dp2").framework, Framework::DeepSpeed);
}

#[test]
fn what_is_carried_opens_again_without_what_was_converted() {
    for name in WHOLE.iter().chain(&CUT) {
        for carried in &clean(name).carried {
            let bytes = ucl_formats::carry::carried_bytes(carried).unwrap();
            assert_eq!(bytes, ucl_formats::carry::carried_bytes(carried).unwrap());
            let file = ucl_formats::torch::TorchFile::from_bytes(&carried.source, &bytes).unwrap();
            let root = file.value.root();
            assert!(root.get("ds_version").is_some(), "{name}: {}", carried.name);
            assert!(root.get("module").is_none());
            assert!(root.get("frozen_param_fragments").is_none());
            for masters in ["single_partition_of_fp32_groups", "fp32_flat_groups"] {
                assert!(root.at(&["optimizer_state_dict", masters]).is_none());
            }
            assert!(root.at(&["optimizer_state_dict", "optimizer_state_dict", "state"]).is_none());
            // Random states stay, four or five of 5056 bytes.
            let kept: u64 = file.storages.values().map(|storage| storage.len).sum();
            assert!(kept < 30_000, "{name}: {} keeps {kept} bytes", carried.name);
            if name.starts_with("megds") && carried.name.starts_with("mp_rank") {
                assert!(kept >= 3 * 5056, "{name}: {} lost its random states", carried.name);
            }
        }
    }
}
