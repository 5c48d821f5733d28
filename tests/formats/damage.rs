//! Checkpoints that are not as they were written: each mistake has to be named.

use crate::copy;
use std::fs;
use std::path::Path;
use ucl_formats::{Problem, survey};

/// A part of a file of torch's: where the pickle lies, and where its checksum stands.
struct Zip {
    pickle: std::ops::Range<usize>,
    crcs: [usize; 2],
}

const MODEL: &str = "global_step3/mp_rank_00_model_states.pt";
const SHARD: &str = "global_step3/zero_pp_rank_1_mp_rank_00_optim_states.pt";

/// Problems as text, with the run's own folder as `<run>`.
fn told(run: &Path) -> String {
    let problems = survey(run).problems;
    let line = |problem: &Problem| {
        let help = problem.help.as_deref().unwrap_or("-");
        format!("{problem}\n    help: {help}")
    };
    let text = problems.iter().map(line).collect::<Vec<_>>().join("\n");
    text.replace(&run.display().to_string(), "<run>")
}

/// Damages a copy of a fixture and says what is told of it.
pub(crate) fn after(fixture: &str, damage: impl FnOnce(&Path)) -> String {
    let (_folder, run) = copy(fixture);
    damage(&run);
    let told = told(&run);
    assert!(!told.is_empty(), "nothing was found wrong");
    told
}

pub(crate) fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn find(bytes: &[u8], what: &[u8]) -> usize {
    bytes.windows(what.len()).position(|window| window == what).expect("it is there")
}

fn zip(bytes: &[u8]) -> Zip {
    let name = b"data.pkl";
    let last = bytes.windows(name.len()).rposition(|window| window == name).unwrap();
    let central = bytes[..last].windows(4).rposition(|window| window == b"PK\x01\x02").unwrap();
    let crc = &bytes[central + 16..central + 20];
    let size = u32::from_le_bytes(bytes[central + 20..central + 24].try_into().unwrap()) as usize;
    let start = find(bytes, b"\x80\x02");
    let descriptor = start + size + find(&bytes[start + size..], crc);
    Zip { pickle: start..start + size, crcs: [descriptor, central + 16] }
}

/// CRC-32 as zip has it, a bit at a time.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

/// Sets the small number after a key of the pickle, as if the file had been saved with it.
pub(crate) fn set(bytes: &mut [u8], key: &str, number: u8) {
    in_pickle(bytes, |pickle| {
        let key = find(pickle, key.as_bytes()) + key.len();
        let value = key + find(&pickle[key..], b"K") + 1;
        pickle[value] = number;
    });
}

/// Puts other bytes in the place of the first that are these.
pub(crate) fn replace(bytes: &mut [u8], these: &[u8], others: &[u8]) {
    in_pickle(bytes, |pickle| {
        let place = find(pickle, these);
        pickle[place..place + others.len()].copy_from_slice(others);
    });
}

/// Changes the pickle, and its checksum with it.
fn in_pickle(bytes: &mut [u8], change: impl FnOnce(&mut [u8])) {
    let zip = zip(bytes);
    change(&mut bytes[zip.pickle.clone()]);
    let crc = crc32(&bytes[zip.pickle]).to_le_bytes();
    for place in zip.crcs {
        bytes[place..place + 4].copy_from_slice(&crc);
    }
}

#[test]
fn missing_data_rank() {
    insta::assert_snapshot!(
        after("z1-llama-fp32-dp2", |run| fs::remove_file(run.join(SHARD)).unwrap())
    );
}

#[test]
fn missing_ranks_of_all_kinds() {
    insta::assert_snapshot!(after("megds-llama-tp2-pp2-dp1-bf16", |run| {
        let step = run.join("global_step4");
        for name in [
            "mp_rank_02_model_states.pt",
            "layer_03-model_01-model_states.pt",
            "layer_05-model_00-model_states.pt",
            "layer_05-model_01-model_states.pt",
            "bf16_zero_pp_rank_0_mp_rank_01_optim_states.pt",
        ] {
            fs::remove_file(step.join(name)).unwrap();
        }
    }));
}

/// Weights alone are what people pass on: the states can't be read, the weights can.
#[test]
fn all_shards_missing() {
    let (_folder, run) = copy("ds-z1-tp2-dp2-bf16");
    for entry in fs::read_dir(run.join("global_step3")).unwrap() {
        let path = entry.unwrap().path();
        if path.display().to_string().contains("optim") {
            fs::remove_file(path).unwrap();
        }
    }
    let survey = survey(&run);
    assert_eq!(survey.problems, []);
    let unread: Vec<_> = survey.inventory.unread.iter().map(|one| one.message.as_str()).collect();
    assert_eq!(unread, ["its shards (`*_optim_states.pt`) are missing: only the weights are here"]);
    assert!(survey.inventory.tensors.iter().all(|tensor| tensor.state == "param"));
}

#[test]
fn surplus_ranks() {
    insta::assert_snapshot!(after("z1-llama-fp32-dp2", |run| {
        let step = run.join("global_step3");
        fs::copy(run.join(SHARD), step.join("zero_pp_rank_2_mp_rank_00_optim_states.pt")).unwrap();
        fs::copy(run.join(SHARD), step.join("zero_pp_rank_0_mp_rank_01_optim_states.pt")).unwrap();
        fs::copy(run.join(MODEL), step.join("mp_rank_01_model_states.pt")).unwrap();
    }));
}

#[test]
fn one_rank_twice() {
    insta::assert_snapshot!(after("z1-llama-fp32-dp2", |run| {
        let step = run.join("global_step3");
        fs::copy(run.join(SHARD), step.join("bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt"))
            .unwrap();
    }));
}

#[test]
fn truncated() {
    insta::assert_snapshot!(after("z1-llama-fp32-dp2", |run| {
        edit(&run.join(SHARD), |bytes| bytes.truncate(bytes.len() - 1000));
        edit(&run.join(MODEL), |bytes| bytes.truncate(0));
    }));
}

#[test]
fn a_flipped_byte_in_the_pickle() {
    insta::assert_snapshot!(after("z1-llama-fp32-dp2", |run| {
        edit(&run.join(MODEL), |bytes| {
            let place = find(bytes, b"ds_version");
            bytes[place] ^= 1;
        });
    }));
}

#[test]
fn weights_of_another_step() {
    insta::assert_snapshot!(after("ds-z1-tp2-dp2-bf16", |run| {
        edit(&run.join("global_step3/mp_rank_01_model_states.pt"), |bytes| {
            set(bytes, "global_steps", 2);
        });
    }));
}

#[test]
fn the_only_weights_of_another_step() {
    insta::assert_snapshot!(after("z1-llama-fp32-dp2", |run| {
        edit(&run.join(MODEL), |bytes| set(bytes, "global_steps", 2));
    }));
}

#[test]
fn a_shard_of_another_step() {
    insta::assert_snapshot!(after("z1-gpt2-fp32-dp4-groups3", |run| {
        // The step of group 0 is the first storage of the file.
        edit(&run.join(SHARD), |bytes| {
            let name = find(bytes, b"/data/0");
            let place = name + find(&bytes[name..], &3f32.to_le_bytes());
            bytes[place..place + 4].copy_from_slice(&2f32.to_le_bytes());
        });
    }));
}

#[test]
fn a_shard_of_another_rank() {
    insta::assert_snapshot!(after("z1-gpt2-fp32-dp4-groups3", |run| {
        let step = run.join("global_step3");
        let last = step.join("zero_pp_rank_3_mp_rank_00_optim_states.pt");
        fs::copy(last, step.join("zero_pp_rank_0_mp_rank_00_optim_states.pt")).unwrap();
    }));
}

#[test]
fn two_shards_swapped() {
    insta::assert_snapshot!(after("z1-llama-fp32-dp2", |run| {
        let first = run.join("global_step3/zero_pp_rank_0_mp_rank_00_optim_states.pt");
        let (one, other) = (fs::read(&first).unwrap(), fs::read(run.join(SHARD)).unwrap());
        fs::write(first, other).unwrap();
        fs::write(run.join(SHARD), one).unwrap();
    }));
}

#[test]
fn a_shard_of_another_run() {
    insta::assert_snapshot!(after("ds-z1-sgd-dp2-fp32", |run| {
        let other = ucl_tests::fixture("z1-llama-fp32-dp2");
        fs::copy(other.join(SHARD), run.join(SHARD)).unwrap();
    }));
}

#[test]
fn a_model_file_of_another_run() {
    insta::assert_snapshot!(after("ds-z1-lion-dp2-fp32", |run| {
        let other = ucl_tests::fixture("z1-gpt2-fp32-dp4-groups3");
        fs::copy(other.join(MODEL), run.join(MODEL)).unwrap();
    }));
}

#[test]
fn latest_points_nowhere() {
    insta::assert_snapshot!(after("z1-llama-fp32-dp2", |run| {
        fs::write(run.join("latest"), "global_step9\n").unwrap();
    }));
}

#[test]
fn latest_points_outside() {
    insta::assert_snapshot!(after("z1-llama-fp32-dp2", |run| {
        fs::create_dir(run.with_file_name("x")).unwrap();
        fs::write(run.join("latest"), "../x").unwrap();
    }));
}

#[test]
fn latest_points_at_the_root() {
    insta::assert_snapshot!(after("z1-llama-fp32-dp2", |run| fs::write(
        run.join("latest"),
        "/etc"
    )
    .unwrap()));
}

#[test]
fn latest_is_empty() {
    insta::assert_snapshot!(
        after("z1-llama-fp32-dp2", |run| fs::write(run.join("latest"), " \n").unwrap())
    );
}

#[test]
fn nothing_there() {
    insta::assert_snapshot!(after("z1-llama-fp32-dp2", |run| {
        fs::remove_dir_all(run.join("global_step3")).unwrap();
        fs::remove_dir_all(run.join("oracle")).unwrap();
        fs::remove_file(run.join("latest")).unwrap();
        fs::write(run.join("train.log"), "").unwrap();
    }));
}

#[test]
fn layouts_that_are_not_read() {
    insta::assert_snapshot!(after("z1-llama-fp32-dp2", |run| {
        let step = run.join("global_step3");
        fs::copy(run.join(MODEL), step.join("zero_pp_rank_0_mp_rank_00_model_states.pt")).unwrap();
        fs::create_dir(step.join("offloaded_tensors")).unwrap();
    }));
}

#[test]
fn one_rank_alone() {
    let (_folder, run) = copy("z1-llama-fp32-dp2");
    let problems = survey(&run.join(SHARD)).problems;
    assert_eq!(problems.len(), 1);
    assert!(problems[0].help.as_deref().unwrap().ends_with("run/global_step3."));
}

#[test]
fn a_run_is_found_in_all_the_ways_that_people_keep_one() {
    let read = |path: &Path| {
        let found = survey(path);
        assert_eq!(found.problems, [], "{}", path.display());
        assert_eq!(found.inventory.tensors.len(), 120);
        assert!(found.inventory.root.ends_with("global_step3"));
        found.inventory
    };
    let (_folder, run) = copy("z1-llama-fp32-dp2");
    read(&run);
    read(&run.join("global_step3"));
    // A converter's folder beside it is passed over, with `latest` and without.
    fs::create_dir_all(run.join("global_step3_universal/zero")).unwrap();
    fs::copy(run.join(MODEL), run.join("global_step3_universal/mp_rank_00_model_states.pt"))
        .unwrap();
    fs::remove_dir_all(run.join("oracle")).unwrap();
    fs::remove_file(run.join("latest")).unwrap();
    read(&run);
    fs::write(run.join("latest_checkpointed_iteration.txt"), "3").unwrap();
    read(&run);
    // A Trainer's folder, in the run's own; its config is the model's.
    fs::write(run.join("latest"), "global_step3").unwrap();
    fs::write(run.join("config.json"), r#"{"model_type": "llama"}"#).unwrap();
    let trainer = run.with_file_name("out");
    fs::create_dir(&trainer).unwrap();
    fs::rename(&run, trainer.join("checkpoint-3")).unwrap();
    let inventory = read(&trainer);
    assert_eq!(inventory.documents["config"]["model_type"], "llama");
}

/// Of several runs in a folder none is taken; the folders that hold one are named.
#[test]
fn a_folder_of_many_runs() {
    let (_folder, run) = copy("ds-z1-lion-dp2-fp32");
    let all = run.with_file_name("all");
    fs::create_dir(&all).unwrap();
    fs::create_dir(all.join("logs")).unwrap();
    fs::write(all.join("logs/train.txt"), "loss").unwrap();
    fs::write(all.join("notes.txt"), "ours").unwrap();
    fs::rename(&run, all.join("first")).unwrap();
    let alone = survey(&all);
    assert_eq!(alone.problems, []);
    assert!(alone.inventory.root.ends_with("first/global_step3"));
    let (_second, run) = copy("mfsdp-llama-w2");
    fs::rename(&run, all.join("second")).unwrap();
    let (_third, run) = copy("ds-z3-lion-dp2-fp32");
    fs::rename(&run, all.join("third")).unwrap();
    fs::remove_file(all.join("third/latest")).unwrap();
    let many = told(&all);
    fs::remove_file(all.join("first/latest")).unwrap();
    fs::create_dir(all.join("first/global_step4")).unwrap();
    for entry in fs::read_dir(all.join("first/global_step3")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, all.join("first/global_step4").join(path.file_name().unwrap())).unwrap();
    }
    let steps = told(&all.join("first"));
    insta::assert_snapshot!(
        format!("{many}\n\n{steps}").replace(&all.display().to_string(), "<all>")
    );
}

/// Muon's buffers are as long as the matrices that a part meets.
#[test]
fn muons_momentum_of_another_rank() {
    insta::assert_snapshot!(after("ds-z2-muon-dp3-bf16", |run| {
        let shard = |rank: u32| {
            run.join(format!("global_step3/bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt"))
        };
        fs::copy(shard(2), shard(0)).unwrap();
    }));
}
