//! Megatron-LM's steps as targets: whichever way they are made they are the same, and they hold what
//! their sources held.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use ucl_tests::command::{convert, ucl};
use ucl_tests::{fixture, written};

/// A checkpoint, the mesh that wrote it, and others.
struct Case {
    source: &'static str,
    flags: &'static [&'static str],
    to: &'static str,
    own: &'static str,
    meshes: &'static [&'static str],
}

const CASES: [Case; 9] = [
    Case {
        source: "mlm-llama-tp2-pp2-bf16-torch",
        flags: &[],
        to: "megatron",
        own: "tp=2,pp=2",
        meshes: &["tp=1", "tp=4,pp=1", "tp=2,pp=2,vpp=2", "pp=4", "tp=2,pp=1,dp=3"],
    },
    Case {
        source: "mlm-llama-tp2-pp2-bf16-torchdist",
        flags: &[],
        to: "megatron",
        own: "tp=2,pp=2",
        meshes: &["tp=1", "tp=2,pp=2,vpp=2"],
    },
    Case {
        source: "mlm-gpt-tp1-pp2-bf16-torch-tied",
        flags: &[],
        to: "megatron",
        own: "pp=2",
        meshes: &["tp=1", "tp=2,pp=4", "tp=4,pp=2,vpp=2"],
    },
    Case {
        source: "mlm-mixtral-tp1-pp1-ep2-bf16-torch",
        flags: &[],
        to: "megatron",
        own: "ep=2",
        meshes: &["tp=1", "tp=2,pp=2,ep=4", "tp=2,ep=2", "pp=2"],
    },
    Case {
        source: "megds-llama-tp2-pp2-dp1-bf16",
        flags: &["--from-view", "deepspeed-pipe"],
        to: "megatron",
        own: "tp=2,pp=2",
        meshes: &["tp=1", "tp=2,pp=2,vpp=2"],
    },
    Case {
        source: "hf-llama-bf16-sharded/hf",
        flags: &[],
        to: "megatron",
        own: "tp=1",
        meshes: &["pp=3"],
    },
    Case {
        source: "mlm-llama-tp2-pp2-bf16-torchdist",
        flags: &[],
        to: "torch-dist",
        own: "tp=2,pp=2",
        meshes: &["tp=1", "dp=3", "tp=4,pp=2"],
    },
    Case {
        source: "mlm-gpt-tp1-pp2-bf16-torch-tied",
        flags: &[],
        to: "torch-dist",
        own: "pp=2",
        meshes: &["tp=1", "tp=2,pp=2"],
    },
    Case {
        source: "mlm-mixtral-tp1-pp1-ep2-bf16-torch",
        flags: &[],
        to: "torch-dist",
        own: "ep=2",
        meshes: &["ep=4", "tp=2"],
    },
];

/// Converts with flags that are not for a universal folder.
fn made(source: &Path, out: PathBuf, flags: &[&str]) -> PathBuf {
    convert(source, &out, flags);
    out
}

fn equal(a: &Path, b: &Path, flags: &[&str]) {
    let (a, b) = (a.to_string_lossy(), b.to_string_lossy());
    let arguments = [&["diff", &*a, &*b][..], flags].concat();
    let ended = ucl(&arguments);
    assert_eq!(ended.code, 0, "{arguments:?}\n{}", ended.text());
}

fn sound(folder: &Path) {
    let ended = ucl(&["verify", &folder.to_string_lossy()]);
    assert_eq!(ended.code, 0, "{}", ended.text());
}

#[test]
fn directly_and_through_a_universal_folder_it_is_the_same() {
    for Case { source, flags, to, meshes, .. } in &CASES {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let source = fixture(source);
        let universal = made(&source, at("universal"), flags);
        for mesh in *meshes {
            let target = ["--to", *to, "--mesh", *mesh];
            let direct = made(&source, at("direct"), &[&target[..], *flags].concat());
            let through = made(&universal, at("through"), &target);
            let digests: [BTreeMap<_, _>; 2] =
                [&direct, &through].map(|folder| written::digests(folder).into_iter().collect());
            assert_eq!(digests[0], digests[1], "{} to {mesh}", source.display());
            sound(&direct);
            for folder in [direct, through] {
                std::fs::remove_dir_all(folder).expect("a folder");
            }
        }
    }
}

#[test]
fn there_and_back_again() {
    for Case { source, flags, to, own, meshes } in &CASES {
        let folder = tempfile::tempdir().expect("a folder");
        let source = fixture(source);
        for (number, mesh) in meshes.iter().enumerate() {
            let at = |name: &str| folder.path().join(format!("{name}{number}"));
            let there =
                made(&source, at("there"), &[&["--to", *to, "--mesh", *mesh][..], *flags].concat());
            equal(&source, &there, flags);
            let back = made(&there, at("back"), &["--to", to, "--mesh", own]);
            equal(&source, &back, flags);
        }
    }
}

/// Stages of unequal numbers of layers are told to whoever reads them.
#[test]
fn stages_may_be_uneven() {
    for (name, to, mesh, stages) in [
        ("mlm-llama-tp2-pp2-bf16-torch", "megatron", "tp=2,pp=2", "1,3"),
        ("mlm-llama-tp2-pp2-bf16-torch", "megatron", "pp=3", "1,1,2"),
        ("mlm-llama-tp2-pp2-bf16-torch", "megatron", "pp=4", "1,0,2,1"),
        ("mlm-llama-tp2-pp2-bf16-torch", "megatron", "pp=2,vpp=2", "2,1,0,1"),
        ("mlm-gpt-tp1-pp2-bf16-torch-tied", "megatron", "pp=2", "3,1"),
        ("megds-llama-tp2-pp2-dp1-bf16", "deepspeed", "tp=2,pp=2", "3,1"),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let source = fixture(name);
        let target = ["--to", to, "--mesh", mesh, "--stages", stages];
        let there = made(&source, at("there"), &target);
        equal(&source, &there, &[]);
        sound(&there);
        let universal = made(&source, at("universal"), &[]);
        let through = made(&universal, at("through"), &target);
        let digests: [BTreeMap<_, _>; 2] =
            [&there, &through].map(|folder| written::digests(folder).into_iter().collect());
        assert_eq!(digests[0], digests[1], "{name} to {stages}");
        // Four layers are no equal stages of three.
        if mesh != "pp=3" {
            let even = made(&source, at("even"), &target[..4]);
            let other = written::digests(&even).into_iter().collect::<BTreeMap<_, _>>();
            assert_ne!(other, digests[0], "{name} to {stages}");
        }
    }
}

/// Every value follows from its address, so what lies elsewhere than it should is another.
#[test]
fn addresses_come_through() {
    let sizes = ["l=4", "k=4", "q=2", "i=4", "h=32", "f=48", "v=100", "m=16"];
    let models = [("llama", "deepspeed", "tp=2"), ("llama", "deepspeed-pipe", "tp=2,pp=2")];
    for (model, view, mesh) in models {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let source = at("source");
        let path = source.to_string_lossy();
        let mut arguments =
            vec!["synth", model, &path, "--to", "deepspeed", "--view", view, "--mesh", mesh];
        arguments.extend(sizes.iter().flat_map(|size| ["--set", size]));
        let ended = ucl(&arguments);
        assert_eq!(ended.code, 0, "{}", ended.text());
        let flags = ["--from-view", view];
        for (to, mesh) in
            [("megatron", "tp=1,pp=2,vpp=2"), ("megatron", "tp=4,pp=4"), ("torch-dist", "dp=3")]
        {
            let there = at(&format!("{to}-{mesh}"));
            convert(&source, &there, &[&["--to", to, "--mesh", mesh][..], &flags].concat());
            equal(&source, &there, &flags);
        }
    }
}

#[test]
fn a_mesh_that_does_not_fit_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    let cases = [
        ("mlm-llama-tp2-pp2-bf16-torch", "megatron", "tp=3"),
        ("mlm-llama-tp2-pp2-bf16-torch", "megatron", "pp=3"),
        ("mlm-llama-tp2-pp2-bf16-torch", "megatron", "vpp=2"),
        ("mlm-llama-tp2-pp2-bf16-torch", "megatron", "ep=2"),
        ("mlm-mixtral-tp1-pp1-ep2-bf16-torch", "megatron", "ep=3"),
        ("mlm-mixtral-tp1-pp1-ep2-bf16-torch", "megatron", "tp=2,etp=1,ep=2"),
        ("mlm-llama-tp2-pp2-bf16-torch", "torch-dist", "dp=100000"),
    ];
    let mut said = String::new();
    let stages = [
        ("mlm-llama-tp2-pp2-bf16-torch", "megatron", "pp=2 --stages 1,2"),
        ("mlm-llama-tp2-pp2-bf16-torch", "megatron", "pp=2 --stages 1,2,1"),
        ("mlm-llama-tp2-pp2-bf16-torch", "torch-dist", "pp=2 --stages 1,3"),
        ("z1-llama-fp32-dp2", "deepspeed", "dp=2 --stages 1,2"),
    ];
    for (source, to, mesh) in cases.into_iter().chain(stages) {
        let source = fixture(source);
        let (source, out) = (source.to_string_lossy(), out.to_string_lossy());
        let flags: Vec<&str> = mesh.split(' ').collect();
        let arguments = ["convert", &source, &out, "--to", to, "--mesh"];
        let ended = ucl(&[&arguments, &flags[..]].concat());
        assert_ne!(ended.code, 0, "{to} {mesh}");
        assert!(!Path::new(&*out).exists(), "{to} {mesh}");
        said += &format!("{to} {mesh}\n{}\n", ended.err);
    }
    insta::assert_snapshot!(said);
}
