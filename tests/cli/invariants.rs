//! What must be absent: see "Invariants" in `crates/README.md`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Which crates of ours a crate may build on.
const FLOORS: [(&str, &[&str]); 9] = [
    ("ucl-tensor", &[]),
    ("ucl-ir", &[]),
    ("ucl-formats", &["ucl-tensor"]),
    ("ucl-parser", &["ucl-ir"]),
    ("ucl-specs", &["ucl-ir", "ucl-parser"]),
    ("ucl-plan", &["ucl-tensor", "ucl-ir", "ucl-formats"]),
    ("ucl-exec", &["ucl-tensor", "ucl-plan"]),
    (
        "ucl-load",
        &["ucl-tensor", "ucl-ir", "ucl-formats", "ucl-parser", "ucl-specs", "ucl-plan", "ucl-exec"],
    ),
    (
        "ucl-cli",
        &[
            "ucl-tensor",
            "ucl-ir",
            "ucl-formats",
            "ucl-parser",
            "ucl-specs",
            "ucl-plan",
            "ucl-exec",
            "ucl-load",
        ],
    ),
];

/// Files above that read or write specs.
const FILES_WITH_SPECS: [&str; 2] = ["ucl-cli/src/command/fmt.rs", "ucl-load/src/specs.rs"];

/// Files that may hold `unsafe`.
const UNSAFE_FILES: [&str; 0] = [];

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates")
}

/// The code of every file of the crates, by path, without comments, strings and tests.
fn code() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![crates()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(crates()).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                let is_code = !name.ends_with("/tests") && !name.ends_with("/target");
                folders.extend(is_code.then_some(path));
            } else if name.contains("/src/") && name.ends_with(".rs") && !name.ends_with("tests.rs")
            {
                found.insert(name, stripped(&fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(found.len() > 50, "the crates are not where they were");
    found
}

/// Without comments, texts, and everything from the tests on.
fn stripped(text: &str) -> String {
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    let mut out = String::new();
    for line in lines {
        let parts = line.split('"').step_by(2);
        out.push_str(&parts.collect::<Vec<_>>().join("\"\""));
        out.push('\n');
    }
    out
}

/// Lines with any of these words, in files that `allowed` does not name.
fn offenders(words: &[&str], allowed: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for (name, code) in code().iter().filter(|(name, _)| !allowed(name)) {
        for (number, line) in code.lines().enumerate() {
            if words.iter().any(|word| has_word(line, word)) {
                found.push(format!("{name}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    found
}

/// Whether the word stands in the line, and not as the end of a longer one.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

#[test]
fn floors_build_on_lower_ones_alone() {
    let mut crates: Vec<String> = fs::read_dir(crates())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    crates.sort();
    let mut known: Vec<&str> = FLOORS.iter().map(|(name, _)| *name).collect();
    known.sort_unstable();
    assert_eq!(crates, known);
    for (name, allowed) in FLOORS {
        let manifest = fs::read_to_string(self::crates().join(name).join("Cargo.toml")).unwrap();
        let manifest = manifest.split("[dev-dependencies]").next().unwrap();
        for line in manifest.lines().filter(|line| line.starts_with("ucl-")) {
            let used = line.split(['.', ' ', '=']).next().unwrap();
            assert!(allowed.contains(&used), "{name} builds on {used}");
        }
    }
}

#[test]
fn only_formats_and_executor_touch_files() {
    let words = ["std::fs", "fs::", "File::", "OpenOptions", "read_dir", "memmap2", "rustix"];
    let found = offenders(&words, |name| {
        name.starts_with("ucl-formats/")
            || name.starts_with("ucl-exec/")
            || FILES_WITH_SPECS.contains(&name)
    });
    // A type called `File` of the language is no file.
    let found: Vec<_> = found.iter().filter(|line| !line.contains("ast::File")).collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn only_the_command_prints_exits_or_reads_the_environment() {
    let words = [
        "print!",
        "println!",
        "eprint!",
        "eprintln!",
        "dbg!",
        "stdout()",
        "stderr()",
        "stdin()",
        "process::exit",
        "process::abort",
        "env::var",
        "env::vars",
        "env::args",
        "env::current_dir",
        "env::temp_dir",
    ];
    let found = offenders(&words, |name| name.starts_with("ucl-cli/"));
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_command_prints_through_its_terminal_alone() {
    let words = [
        "print!",
        "println!",
        "eprint!",
        "eprintln!",
        "dbg!",
        "process::exit",
        "env::var",
        "env::args",
    ];
    let allowed = ["ucl-cli/src/main.rs", "ucl-cli/src/terminal.rs"];
    let found = offenders(&words, |name| allowed.contains(&name));
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn unsafe_lives_in_named_files() {
    let found =
        offenders(&["unsafe {", "unsafe fn", "unsafe impl"], |name| UNSAFE_FILES.contains(&name));
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn nothing_starts_another_program() {
    let found = offenders(&["process::Command", "Command::new", "libloading", "dlopen"], |_| false);
    assert!(found.is_empty(), "{found:#?}");
}
