//! The benchmark: a synthetic Megatron-DeepSpeed run of a few GB becomes a universal checkpoint, beside
//! `cp -r` and `sync` of the same files, in turn, several times.
//!
//! `cargo run --release -p ucl-tests --bin bench -- [FOLDER] [ROUNDS] [LAYERS]`
//!
//! `LAYERS` has to be even: the run has two pipeline stages. Prints ratios to `cp`, since only those mean something on another machine.

#![allow(clippy::print_stdout, reason = "it prints its report")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What one run of a command used.
#[derive(Clone, Copy, Default)]
struct Usage {
    seconds: f64,
    peak_kib: u64,
    read: u64,
    written: u64,
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder =
        arguments.next().map_or_else(|| std::env::temp_dir().join("ucl-bench"), PathBuf::from);
    let rounds: usize = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(5);
    let layers: u64 = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(8);
    let ucl = build();
    fs::create_dir_all(&folder).expect("the benchmark's folder");
    let source = folder.join("source");
    if !source.exists() {
        synthesise(&ucl, &source, layers);
    }
    let bytes = size_of(&source);
    println!("source: {} files, {:.2} GB", count(&source), bytes as f64 / 1e9);
    let copy = folder.join("copy");
    let out = folder.join("universal");
    let mut copied = Vec::new();
    let mut converted = Vec::new();
    for round in 0..=rounds {
        // The first round warms up and is not counted.
        for turn in 0..2 {
            warm(&source);
            let ours = turn == round % 2;
            let target = if ours { &out } else { &copy };
            remove(target);
            let usage = if ours {
                measure(Command::new(&ucl).args(["convert", "--overwrite"]).arg(&source).arg(&out))
            } else {
                measure(Command::new("sh").arg("-c").arg(format!(
                    "cp -r '{}' '{}' && sync",
                    source.display(),
                    copy.display()
                )))
            };
            if round > 0 {
                if ours { &mut converted } else { &mut copied }.push(usage);
            }
        }
    }
    let written = size_of(&out);
    report(bytes, written, &copied, &converted);
    remove(&copy);
    remove(&out);
}

/// The release build of the command.
fn build() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo).args(["build", "--release", "-p", "ucl-cli"]).status();
    assert!(built.expect("cargo").success(), "the command builds");
    let this = std::env::current_exe().expect("the benchmark's own path");
    this.parent().expect("a folder").join("ucl")
}

fn synthesise(ucl: &Path, source: &Path, layers: u64) {
    let sizes = ["k=4", "q=4", "i=64", "h=2048", "f=5504", "v=32000", "m=128"];
    let mut command = Command::new(ucl);
    command.args(["synth", "llama"]).arg(source).args([
        "--to",
        "deepspeed",
        "--view",
        "deepspeed-pipe",
    ]);
    command.args(["--mesh", "tp=2,pp=2,dp=2", "--set", &format!("l={layers}")]);
    for size in sizes {
        command.args(["--set", size]);
    }
    assert!(command.status().expect("ucl synth").success(), "ucl synth makes the source");
}

/// Runs a command to its end.
fn measure(command: &mut Command) -> Usage {
    let start = Instant::now();
    let mut child = command.stdout(Stdio::null()).spawn().expect("the command starts");
    let mut usage = Usage::default();
    loop {
        sample(&child, &mut usage);
        if let Some(status) = child.try_wait().expect("the command is waited for") {
            assert!(status.success(), "{command:?} succeeds");
            break;
        }
        sleep(Duration::from_millis(5));
    }
    usage.seconds = start.elapsed().as_secs_f64();
    usage
}

/// Peak memory and bytes so far; both only grow, so the last sample counts.
fn sample(child: &Child, usage: &mut Usage) {
    let field = |file: &str, name: &str| {
        let text = fs::read_to_string(format!("/proc/{}/{file}", child.id())).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(name))?.trim_start_matches(':');
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    usage.peak_kib = field("status", "VmHWM").unwrap_or(usage.peak_kib);
    usage.read = field("io", "rchar").unwrap_or(usage.read);
    usage.written = field("io", "wchar").unwrap_or(usage.written);
}

fn report(source: u64, written: u64, copied: &[Usage], converted: &[Usage]) {
    let mut ratios: Vec<f64> =
        converted.iter().zip(copied).map(|(ours, cp)| ours.seconds / cp.seconds).collect();
    ratios.sort_by(f64::total_cmp);
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let seconds = |runs: &[Usage]| median(runs.iter().map(|run| run.seconds).collect());
    println!(
        "rounds: {} (after one that is not counted), cp -r && sync in turn with ucl convert",
        ratios.len()
    );
    println!("cp -r && sync:  median {:.2} s", seconds(copied));
    println!("ucl convert:    median {:.2} s, durable", seconds(converted));
    println!(
        "time / cp:      min {:.2}  median {:.2}  max {:.2}",
        ratios[0],
        ratios[ratios.len() / 2],
        ratios[ratios.len() - 1]
    );
    let of = |get: &dyn Fn(&Usage) -> u64| converted.iter().map(get).max().unwrap_or(0);
    println!("peak memory:    {} MiB", of(&|run| run.peak_kib) / 1024);
    println!(
        "bytes read / bytes of the source:     {:.3}",
        of(&|run| run.read) as f64 / source as f64
    );
    println!(
        "bytes written / bytes of the output:  {:.3}",
        of(&|run| run.written) as f64 / written as f64
    );
}

/// Reads everything once, so that every run starts with the same cache.
fn warm(folder: &Path) {
    for file in files(folder) {
        let mut file = fs::File::open(file).expect("a source file");
        std::io::copy(&mut file, &mut std::io::sink()).expect("a source file is read");
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| {
            let path = entry.path();
            if path.is_dir() { files(&path) } else { vec![path] }
        })
        .collect()
}

fn count(folder: &Path) -> usize {
    files(folder).len()
}

fn size_of(folder: &Path) -> u64 {
    files(folder).iter().filter_map(|file| fs::metadata(file).ok()).map(|file| file.len()).sum()
}

fn remove(folder: &Path) {
    if folder.exists() {
        fs::remove_dir_all(folder).expect("an old result is removed");
    }
}
