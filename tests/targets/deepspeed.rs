//! Steps of DeepSpeed's engine, and its universal folders, for other ranks and stages.

use crate::{Source, commutes, equal, files, same, sound, text};
use std::path::Path;
use ucl_formats::torch::TorchFile;
use ucl_tests::command::{convert, ucl};
use ucl_tests::fixture;

const PIPE: &[&str] = &["--from-view", "deepspeed-pipe"];

/// Runs whose weights are whole on every rank: any stage takes them.
const WHOLE: [Source; 13] = [
    ("z1-llama-fp32-dp2", &[]),
    ("z1-llama-fp16-dp2", &[]),
    ("z1-gpt2-fp32-dp4-groups3", &[]),
    ("z2-llama-bf16-dp2-frozen", &[]),
    ("z3-llama-bf16-dp4-groups2", &[]),
    ("z3-phi3-fp32-dp2-frozen", &[]),
    ("fsdp2-llama-fp32-w2", &[]),
    ("ds-z1-sgd-dp2-fp32", &[]),
    ("ds-z1-lion-dp2-fp32", &[]),
    ("ds-z2-adagrad-dp2-fp32", &[]),
    ("ds-z1-roundrobin-dp2-fp32", &[]),
    ("ds-z1-align-dp2-bf16", &[]),
    ("ds-z1-buffer-tied-dp2-bf16", &[]),
];

/// Runs with tensor and pipeline ranks, and meshes for them.
const CUT: [(Source, &[&str]); 3] = [
    (("megds-llama-tp2-pp2-dp1-bf16", &[]), &["tp=1", "tp=4,pp=2", "tp=2,pp=4,dp=3"]),
    (("megds-gpt-tp2-pp2-dp1-bf16", PIPE), &["tp=1", "tp=4,dp=2", "tp=2,pp=4"]),
    (("megds-llama-tp2-pp1-dp1-z1-nopipe-fp32", &[]), &["tp=1", "tp=4,dp=2"]),
];

/// What a run is written as.
const STAGES: [&[&str]; 4] = [
    &["--to", "deepspeed", "--zero", "1", "--mesh", "dp=3"],
    &["--to", "deepspeed", "--zero", "2", "--mesh", "dp=1"],
    &["--to", "deepspeed", "--zero", "3", "--mesh", "dp=3"],
    &["--to", "deepspeed-universal", "--mesh", "dp=2"],
];

#[test]
fn every_stage_directly_and_through_a_universal_folder() {
    for source in WHOLE {
        for to in STAGES {
            commutes(source, to);
        }
    }
    for source in ["z1-llama-bf16opt-dp2-groups2", "z3-llama-bf16-dp4-groups2"] {
        commutes(
            (source, &[]),
            &["--to", "deepspeed", "--zero", "bf16-optimizer", "--mesh", "dp=3"],
        );
    }
}

#[test]
fn every_mesh_directly_and_through_a_universal_folder() {
    for (source, meshes) in CUT {
        for mesh in meshes {
            for to in ["deepspeed", "deepspeed-universal"] {
                commutes(source, &["--to", to, "--mesh", mesh]);
            }
        }
    }
}

#[test]
fn there_and_back_through_every_stage() {
    for (name, flags) in WHOLE {
        let source = fixture(name);
        let folder = tempfile::tempdir().unwrap();
        let first = folder.path().join("first");
        convert(&source, &first, &[STAGES[0], flags].concat());
        equal(&source, &first, flags);
        let mut last = first.clone();
        for (number, to) in STAGES.iter().enumerate().skip(1) {
            let next = folder.path().join(number.to_string());
            convert(&last, &next, to);
            equal(&source, &next, flags);
            sound(&next);
            last = next;
        }
        // Stages 1 and 2 keep the same, ZeRO-3 has no place for `clip_grad`.
        let again = folder.path().join("again");
        convert(&folder.path().join("1"), &again, STAGES[0]);
        same(&first, &again, name);
    }
}

#[test]
fn there_and_back_over_other_meshes() {
    for ((name, flags), meshes) in CUT {
        let source = fixture(name);
        for mesh in meshes {
            let folder = tempfile::tempdir().unwrap();
            let [there, back, own] = ["there", "back", "own"].map(|f| folder.path().join(f));
            convert(&source, &there, &[&["--to", "deepspeed", "--mesh", *mesh], flags].concat());
            equal(&source, &there, flags);
            sound(&there);
            let to_own = ["--to", "deepspeed", "--mesh", own_mesh(name)];
            convert(&there, &back, &[&to_own, flags].concat());
            equal(&source, &back, flags);
            convert(&source, &own, &[&to_own, flags].concat());
            assert_eq!(
                files(&own).keys().collect::<Vec<_>>(),
                files(&back).keys().collect::<Vec<_>>()
            );
        }
    }
}

fn own_mesh(name: &str) -> &'static str {
    if name.contains("pp2") { "tp=2,pp=2" } else { "tp=2" }
}

/// Layers are numbered over all stages: no spec is needed to share them out anew.
#[test]
fn a_pipeline_of_any_model() {
    let name = "ds-pipe-pp2-dp1-fp32";
    let meshes: [&[&str]; 4] = [
        &["--mesh", "pp=1,dp=2"],
        &["--mesh", "pp=2,dp=3"],
        &["--mesh", "pp=2", "--stages", "1,6"],
        &["--mesh", "pp=3,dp=2", "--stages", "2,3,2"],
    ];
    for mesh in meshes {
        for to in ["deepspeed", "deepspeed-universal"] {
            commutes((name, &[]), &[&["--to", to], mesh].concat());
        }
        let folder = tempfile::tempdir().unwrap();
        let [there, back, own] = ["there", "back", "own"].map(|f| folder.path().join(f));
        convert(&fixture(name), &there, &[&["--to", "deepspeed"], mesh].concat());
        equal(&fixture(name), &there, &[]);
        sound(&there);
        let to_own = ["--to", "deepspeed", "--mesh", "pp=2", "--stages", "4,3"];
        convert(&there, &back, &to_own);
        convert(&fixture(name), &own, &["--to", "deepspeed"]);
        same(&own, &back, &mesh.join(" "));
        // What stages share is in their buffers as the framework has it: the second comes to the square first.
        for stage in 0..2 {
            let file = format!("global_step3/mp_rank_{stage:02}_model_states.pt");
            let (ours, theirs) = (back.join(&file), fixture(name).join(&file));
            assert_eq!(trained(&ours), trained(&theirs), "{}", mesh.join(" "));
        }
    }
}

/// The names in a model file's record of the optimizer, in order.
fn trained(file: &Path) -> Vec<String> {
    let file = TorchFile::open(file).unwrap();
    let shapes = file.value.root().get("param_shapes").unwrap().items().unwrap();
    let names = shapes.flat_map(|group| group.pairs().unwrap());
    names.map(|(name, _)| name.as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_same_bytes_for_any_jobs() {
    for (name, flags, mesh) in [
        ("z1-llama-bf16opt-dp2-groups2", &[][..], "dp=3"),
        ("megds-gpt-tp2-pp2-dp1-bf16", PIPE, "tp=4,dp=2"),
    ] {
        for to in ["deepspeed", "deepspeed-universal"] {
            let folder = tempfile::tempdir().unwrap();
            let (one, eight) = (folder.path().join("one"), folder.path().join("eight"));
            let target = ["--to", to, "--mesh", mesh];
            let few = ["--jobs", "1", "--memory", "4MiB"];
            convert(&fixture(name), &one, &[&target[..], &few, flags].concat());
            convert(&fixture(name), &eight, &[&target[..], &["--jobs", "8"], flags].concat());
            same(&one, &eight, to);
        }
    }
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut said = String::new();
    let (pipe, flat) = ("megds-llama-tp2-pp2-dp1-bf16", "z1-llama-bf16opt-dp2-groups2");
    for (source, to, flags) in [
        (pipe, "deepspeed", &["--mesh", "tp=3"][..]),
        (pipe, "deepspeed", &["--mesh", "pp=3"]),
        (pipe, "deepspeed", &["--mesh", "ep=2"]),
        (pipe, "deepspeed", &["--zero", "3"]),
        (pipe, "deepspeed-universal", &["--mesh", "tp=3"]),
        (flat, "deepspeed", &["--mesh", "dp=0"]),
        (flat, "deepspeed", &["--mesh", "pp=2"]),
        (flat, "deepspeed", &["--zero", "3", "--states", "weights"]),
        (flat, "deepspeed-universal", &["--states", "weights"]),
        ("ds-pipe-pp2-dp1-fp32", "deepspeed", &["--mesh", "pp=3"]),
        ("ds-pipe-pp2-dp1-fp32", "deepspeed", &["--mesh", "pp=2", "--stages", "1,2,4"]),
        ("ds-pipe-pp2-dp1-fp32", "deepspeed", &["--mesh", "pp=2", "--stages", "2,3"]),
        ("z1-llama-fp32-dp2", "deepspeed", &["--mesh", "dp=2", "--stages", "2"]),
        ("z1-llama-fp32-dp2", "deepspeed", &["--zero", "bf16-optimizer"]),
        ("z2-qwen2-fp32-dp2-frozen-excl", "deepspeed", &["--mesh", "dp=1"]),
        ("hf-llama-fp32/hf", "deepspeed-universal", &[]),
    ] {
        let (source, out) = (fixture(source), folder.path().join("out"));
        let arguments = ["convert", text(&source), text(&out), "--to", to];
        let ended = ucl(&[&arguments, flags].concat());
        assert_ne!(ended.code, 0, "{to} {flags:?}: {}", ended.text());
        assert!(!out.exists(), "{flags:?}");
        let shown = ended.err.replace(text(&fixture("")), "FIXTURES/");
        said += &format!("=== {to} {}\n{shown}\n", flags.join(" "));
    }
    insta::assert_snapshot!(said);
}

/// What a checkpoint says of its own cuts goes through a universal folder too.
#[test]
fn a_run_that_describes_itself_directly_and_through_a_universal_folder() {
    for mesh in ["tp=1", "tp=2,dp=3", "tp=4"] {
        for to in ["deepspeed", "deepspeed-universal"] {
            commutes(("autotp-llama-tp2-dp2-z1-fp32", &[]), &["--to", to, "--mesh", mesh]);
        }
    }
}

/// Ranks that the source had none of get the random states of the first, which is told.
#[test]
fn random_states_that_are_repeated_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let (pipe, none) = (folder.path().join("pipe"), fixture("ds-pipe-pp2-dp1-fp32"));
    for (name, mut bytes) in files(&none) {
        if name.contains("mp_rank_") && name.ends_with("model_states.pt") {
            renamed(&mut bytes, b"X\x05\0\0\0epoch", b"X\x05\0\0\0a_rng");
        }
        let path = pipe.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    let told = |source: &Path, to: &[&str]| {
        let out = folder.path().join("out");
        let ended = convert(source, &out, &[to, &["--overwrite"]].concat());
        let notes = ended.out.lines().filter(|line| line.contains("random states"));
        notes.map(|line| line.trim().to_owned()).collect::<Vec<_>>()
    };
    let megatron = fixture("mlm-llama-tp2-pp2-bf16-torch");
    let of = |known: u64, written: u64, repeated: u64| {
        format!(
            "The source has the random states of {known} of its ranks: of the {written} that are written, {repeated} go on"
        )
    };
    let three = ["--mesh", "pp=3", "--stages", "2,3,2"];
    for (source, to, mesh, told_of) in [
        (&pipe, "deepspeed", &["--mesh", "pp=2,dp=2"][..], None),
        (&pipe, "deepspeed", &["--mesh", "pp=1"], None),
        (&pipe, "deepspeed", &three, Some(of(2, 3, 1))),
        (&pipe, "deepspeed-universal", &three, Some(of(2, 3, 1))),
        (&none, "deepspeed", &three, None),
        (&megatron, "megatron", &["--mesh", "tp=2,pp=2,dp=2"], None),
        (&megatron, "megatron", &["--mesh", "tp=4,pp=2"], Some(of(4, 8, 4))),
        (&megatron, "torch-dist", &["--mesh", "tp=4,pp=1"], Some(of(4, 4, 2))),
    ] {
        let found = told(source, &[&["--to", to], mesh].concat());
        match told_of {
            None => assert_eq!(found, Vec::<String>::new(), "{to} {mesh:?}"),
            Some(of) => assert!(found.iter().any(|line| line.contains(&of)), "{of}: {found:?}"),
        }
    }
}

/// Gives a key in the pickle of a torch file another name of the same length.
fn renamed(bytes: &mut [u8], was: &[u8], is: &[u8]) {
    let find = |bytes: &[u8], what: &[u8]| {
        bytes.windows(what.len()).position(|window| window == what).unwrap()
    };
    let name = bytes.windows(8).rposition(|window| window == b"data.pkl").unwrap();
    let listed = bytes[..name].windows(4).rposition(|window| window == b"PK\x01\x02").unwrap();
    let number = |bytes: &[u8], at: usize| {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
    };
    let (start, len) = (find(bytes, b"\x80\x02"), number(bytes, listed + 20));
    let sum = bytes[listed + 16..listed + 20].to_vec();
    let key = start + find(&bytes[start..start + len], was);
    bytes[key..key + is.len()].copy_from_slice(is);
    let new = crc32fast::hash(&bytes[start..start + len]).to_le_bytes();
    let behind = start + len + find(&bytes[start + len..], &sum);
    for at in [behind, listed + 16] {
        bytes[at..at + 4].copy_from_slice(&new);
    }
}

/// A flag that a format has no use for is refused.
#[test]
fn flags_of_other_formats_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut said = String::new();
    for flags in [
        &["--to", "hf", "--zero", "1"][..],
        &["--to", "deepspeed-universal", "--zero", "3"],
        &["--to", "dcp", "--optimizer", "plain"],
        &["--to", "megatron", "--sub-group-size", "7"],
        &["--to", "deepspeed", "--zero", "1", "--sub-group-size", "7"],
        &["--to", "universal", "--stages", "1,2"],
        &["--to", "torch-dist", "--stages", "1,2"],
        &["--to", "fastgen", "--stages", "1,2"],
        &["--to", "deepspeed", "--max-file-size", "1MB"],
    ] {
        let (source, out) = (fixture("z1-llama-fp32-dp2"), folder.path().join("out"));
        let ended = ucl(&[&["convert", text(&source), text(&out)], flags].concat());
        assert_ne!(ended.code, 0, "{flags:?}: {}", ended.text());
        assert!(!out.exists(), "{flags:?}");
        said += &format!("=== {}\n{}\n", flags.join(" "), ended.err);
    }
    insta::assert_snapshot!(said);
}

/// A cut that nothing in the checkpoint vouches for is told.
#[test]
fn a_cut_beyond_what_the_checkpoint_describes_is_told() {
    let run = fixture("autotp-llama-tp2-dp2-z1-fp32");
    let told = |mesh: &str| {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let ended = convert(&run, &out, &["--to", "deepspeed", "--mesh", mesh]);
        ended.out.contains("not where a head ends")
    };
    assert!(told("tp=4"));
    assert!(!told("tp=2,dp=4"));
    assert!(!told("tp=1"));
}

/// What an optimizer keeps beside the states of parameters goes through DeepSpeed's universal folder too.
#[test]
fn a_loss_scaler_goes_along() {
    let folder = tempfile::tempdir().unwrap();
    let [theirs, ours, again] = ["theirs", "ours", "again"].map(|f| folder.path().join(f));
    convert(&fixture("z1-llama-fp16-dp2"), &theirs, &["--to", "deepspeed-universal"]);
    convert(&theirs, &ours, &[]);
    for source in [&theirs, &ours] {
        convert(source, &again, &["--to", "deepspeed", "--mesh", "dp=2", "--overwrite"]);
        let made = files(&again);
        let holds =
            |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|w| w == text.as_bytes());
        let shards = made.iter().filter(|(name, _)| name.ends_with("optim_states.pt"));
        let scaled: Vec<bool> = shards.map(|(_, b)| holds(b, "DynamicLossScaler")).collect();
        assert_eq!(scaled, [true, true]);
    }
}
