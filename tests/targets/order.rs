//! In which order parameters stand in flat buffers. DeepSpeed's load goes by it alone: where two of one size
//! change places, nothing says so.

use crate::text;
use std::path::{Path, PathBuf};
use ucl_formats::torch::TorchFile;
use ucl_tests::command::convert;
use ucl_tests::fixture;

/// The names of the parameters in each buffer, as the first rank's model file lists them.
fn buffers(run: &Path) -> Vec<Vec<String>> {
    let step = std::fs::read_to_string(run.join("latest")).unwrap();
    let step = run.join(step.trim());
    let is_model = |path: &PathBuf| text(path).ends_with("mp_rank_00_model_states.pt");
    let mut models: Vec<PathBuf> =
        std::fs::read_dir(step).unwrap().map(|e| e.unwrap().path()).filter(is_model).collect();
    models.sort();
    let file = TorchFile::open(&models[0]).unwrap();
    let lists = file.value.root().get("param_shapes").unwrap().items().unwrap();
    let names = |list: ucl_formats::torch::Value<'_>| {
        list.pairs().unwrap().map(|(name, _)| name.as_str().unwrap().to_owned()).collect()
    };
    lists.map(names).collect()
}

/// The order of the optimizer's groups, as it is read.
fn groups(run: &Path) -> Vec<Vec<String>> {
    let found = ucl_formats::survey(run);
    found.inventory.optimizer.unwrap().groups.into_iter().map(|group| group.params).collect()
}

const RUNS: [(&str, &str, &str); 11] = [
    ("z1-mixtral-bf16-dp2", "1", "dp=2"),
    ("z1-llama-fp32-dp2", "1", "dp=2"),
    ("z1-gpt2-fp32-dp4-groups3", "1", "dp=4"),
    ("z1-llama-bf16opt-dp2-groups2", "bf16-optimizer", "dp=2"),
    ("z2-llama-bf16-dp2-frozen", "2", "dp=2"),
    ("z3-phi3-fp32-dp2-frozen", "3", "dp=2"),
    ("ds-z1-roundrobin-dp2-fp32", "1", "dp=2"),
    ("ds-z2-roundrobin-dp3-bf16", "2", "dp=3"),
    ("ds-z2-muon-dp3-bf16", "2", "dp=3"),
    ("megds-llama-tp2-pp2-dp1-bf16", "bf16-optimizer", "tp=2,pp=2"),
    ("megds-llama-tp2-pp1-dp1-z1-nopipe-fp32", "1", "tp=2"),
];

#[test]
fn on_its_own_mesh_a_run_has_the_frameworks_own_order() {
    for (name, zero, mesh) in RUNS {
        let folder = tempfile::tempdir().unwrap();
        let [universal, direct, through] =
            ["universal", "direct", "through"].map(|f| folder.path().join(f));
        let source = fixture(name);
        let to = ["--to", "deepspeed", "--zero", zero, "--mesh", mesh];
        convert(&source, &direct, &to);
        assert_eq!(buffers(&direct), buffers(&source), "{name}");
        convert(&source, &universal, &[]);
        convert(&universal, &through, &to);
        assert_eq!(buffers(&through), buffers(&source), "{name} through a universal folder");
    }
}

#[test]
fn on_other_ranks_the_order_stays() {
    for (name, ..) in RUNS.iter().filter(|(name, ..)| !name.starts_with("megds")) {
        let folder = tempfile::tempdir().unwrap();
        let source = fixture(name);
        for (stage, mesh) in [("1", "dp=1"), ("3", "dp=3")] {
            let out = folder.path().join(stage);
            convert(&source, &out, &["--to", "deepspeed", "--zero", stage, "--mesh", mesh]);
            assert_eq!(groups(&out), groups(&source), "{name} to stage {stage}");
        }
    }
}

/// `round_robin_gradients` deals parameters out over the ranks, for each number of ranks in another way.
#[test]
fn what_is_dealt_out_is_dealt_anew() {
    let name = "ds-z1-roundrobin-dp2-fp32";
    // The same training without it.
    assert_eq!(groups(&fixture(name)), groups(&fixture("ds-z1-adamw-dp2-fp32")));
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let said = convert(&fixture(name), &out, &["--to", "deepspeed", "--mesh", "dp=3"]);
    assert!(said.out.contains("go on with `round_robin_gradients`"), "{}", said.out);
    let first = [
        "emb.weight",
        "s1.weight",
        "out.weight",
        "l1.weight",
        "s2.weight",
        "l2.weight",
        "up.weight",
    ];
    assert_eq!(buffers(&out)[0], first);
    let three = folder.path().join("three");
    convert(&fixture(name), &three, &["--to", "deepspeed", "--mesh", "dp=3", "--zero", "3"]);
    assert_eq!(buffers(&three), groups(&fixture(name)));
}
