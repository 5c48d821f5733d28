//! The text of specs: what is read, how it is laid out, and what is said where it is wrong.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use ucl_ir::{Diagnostic, Source};
use ucl_parser::{format, parse};
use ucl_tests::diagnostics::render;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The specs of a folder, by name.
fn specs(folder: &str) -> Vec<(String, String)> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "ucl"));
    paths.sort();
    let read = |path: &PathBuf| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        (name, fs::read_to_string(path).unwrap())
    };
    paths.iter().map(read).collect()
}

fn shown(name: &str, text: &str, found: &[Diagnostic]) -> String {
    render(&[Source { name: format!("{name}.ucl"), text: text.to_owned() }], found)
}

/// The tree of a text without its places.
fn tree(text: &str) -> String {
    let (file, found) = parse(0, text);
    assert_eq!(shown("text", text, &found), "");
    // A file's text shows every field; spans are the only numbers with these names.
    format!("{file:?}")
        .split("Span { ")
        .map(|part| part.split_once('}').map_or(part, |(_, rest)| rest))
        .collect()
}

/// Formatting keeps the tree and the comments, and changes nothing the second time.
fn formats(name: &str, text: &str) -> String {
    let once = format(text).unwrap_or_else(|found| panic!("{}", shown(name, text, &found)));
    assert_eq!(format(&once).unwrap(), once, "{name}: formatting twice differs");
    assert_eq!(tree(&once), tree(text), "{name}: formatting changes the meaning");
    let comments = |text: &str| {
        let mut all: Vec<String> = text
            .lines()
            .filter_map(|line| Some(line.split_once('#')?.1.trim().to_owned()))
            .collect();
        all.sort();
        all
    };
    // Only where `#` is never inside a quoted name.
    if !text.contains("{#") {
        assert_eq!(comments(&once), comments(text), "{name}: a comment is lost");
    }
    once
}

#[test]
fn right_specs() {
    for (name, text) in specs("tests/corpus/syntax/ok") {
        insta::assert_snapshot!(format!("ok-{name}"), formats(&name, &text));
    }
}

#[test]
fn wrong_specs() {
    let specs = specs("tests/corpus/syntax/err");
    assert!(specs.len() >= 25);
    for (name, text) in specs {
        let (_, found) = parse(0, &text);
        assert!(!found.is_empty(), "{name} has no mistake");
        assert_eq!(format(&text).unwrap_err(), found);
        insta::assert_snapshot!(format!("err-{name}"), shown(&name, &text, &found));
    }
}

#[test]
fn specs_of_the_library() {
    for (name, text) in specs("specs") {
        let (_, found) = parse(0, &text);
        assert_eq!(shown(&name, &text, &found), "");
        formats(&name, &text);
    }
}

/// Every place of every tree lies on token borders and in its parent's file.
#[test]
fn places_are_exact() {
    for (name, text) in [specs("specs"), specs("tests/corpus/syntax/ok")].concat() {
        let (file, _) = parse(7, &text);
        let shown = format!("{file:?}");
        for place in shown.split("Span { source: 7, start: ").skip(1) {
            let (start, rest) = place.split_once(", end: ").unwrap();
            let end = rest.split_once(" }").unwrap().0;
            let (start, end): (usize, usize) = (start.parse().unwrap(), end.parse().unwrap());
            let part = &text[start..end];
            assert_eq!(part.trim(), part, "{name}: blanks around {part:?}");
            assert!(!part.trim_end().ends_with('\n'), "{name}: {part:?}");
        }
    }
}

/// Unfinished and damaged texts are read without a panic, soon, and not without a word.
#[test]
fn damaged_specs() {
    let start = Instant::now();
    let mut slowest = Duration::ZERO;
    let mut count = 0;
    let mut read = |text: &str| {
        let begin = Instant::now();
        let (_, found) = parse(0, text);
        slowest = slowest.max(begin.elapsed());
        count += 1;
        for place in found.iter().flat_map(|one| &one.labels).map(|label| label.span) {
            assert!(place.start <= place.end && place.end as usize <= text.len());
            assert!(text.is_char_boundary(place.start as usize));
            assert!(text.is_char_boundary(place.end as usize));
        }
        found
    };
    for (name, text) in specs("specs") {
        // The first expected numbers stand for all: these make half of a spec.
        let end = text.find("\n  expect").map_or(text.len(), |at| (at + 600).min(text.len()));
        let text = text.chars().take(end).collect::<String>();
        // Every length would take minutes for nothing: what changes is at the ends of words.
        let ends = (1..text.len()).filter(|&at| text.is_char_boundary(at));
        let step = if name == "llama" { 3 } else { 31 };
        for end in ends.step_by(step) {
            read(&text[..end]);
        }
        for word in words(&text).into_iter().filter(|_| name == "llama") {
            read(&[&text[..word.0], &text[word.1..]].concat());
            read(&[&text[..word.1], " ", &text[word.0..]].concat());
        }
    }
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    assert!(start.elapsed() < Duration::from_secs(300), "{count} in {:?}", start.elapsed());
}

/// Where the words and signs of a text begin and end.
fn words(text: &str) -> Vec<(usize, usize)> {
    let mut words = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let first = rest.chars().next().unwrap();
        let length = match first {
            '"' => rest[1..].find('"').map_or(1, |end| end + 2),
            '#' => rest.find('\n').unwrap_or(rest.len()),
            c if c.is_ascii_alphanumeric() => rest
                .find(|c: char| !(c.is_ascii_alphanumeric() || "_.-".contains(c)))
                .unwrap_or(rest.len()),
            c => c.len_utf8(),
        };
        if !first.is_whitespace() && first != '#' {
            words.push((at, at + length));
        }
        at += length;
    }
    words
}

#[test]
fn deep_and_long_texts() {
    let view =
        |inside: &str| format!("ucl 1\nmodel m {{ dims h  norm : h }}\nview v {{ {inside} }}\n");
    let many = |what: &str| what.repeat(20_000);
    for text in [
        view(&format!("\"a\" : {}", many("("))),
        view(&format!("\"a\" : {}h{} = norm", many("("), many(")"))),
        view(&many("under \"a\" { ")),
        view(&format!("shift norm by {}1", many("-"))),
        view(&format!("shift norm by {}1", many("not "))),
        view(&format!("shift norm by 1{}", many(" + 1"))),
        view(&format!("shift norm by 1{}", many(" if 1 else 1"))),
        many("}"),
        many("\""),
        many("\u{201c}a "),
        view(&many("\"a\" ")),
    ] {
        let begin = Instant::now();
        let (_, found) = parse(0, &text);
        assert!(!found.is_empty());
        let start = &text[..text.len().min(70)];
        assert!(begin.elapsed() < Duration::from_secs(60), "{:?}: {start}", begin.elapsed());
    }
}

/// The examples of the reference: `ucl` is a whole file, `ucl-part KIND` a piece of what is named.
#[test]
fn examples_of_the_reference() {
    let reference = fs::read_to_string(root().join("grammar/README.md")).unwrap();
    let mut count = 0;
    for block in reference.split("\n```ucl").skip(1) {
        let (fence, rest) = block.split_once('\n').unwrap();
        let example = rest.split_once("```").unwrap().0;
        let lines = |before: &str, after: &str| -> String {
            example.lines().map(|line| format!("{before}{line}{after}\n")).collect()
        };
        let model = "ucl 1\nmodel m { dims h }\n";
        let text = match fence.trim() {
            "" => example.to_owned(),
            "-part file" if example.starts_with("model") => format!("ucl 1\n{example}"),
            "-part file" => format!("{model}{example}"),
            "-part model" => format!("ucl 1\nmodel m {{\n{example}}}\n"),
            "-part view" => format!("{model}view v {{\n{example}}}\n"),
            "-part layout" => format!("{model}layout l {{\n{example}}}\n"),
            "-part test" => format!("{model}test {{\n{example}}}\n"),
            "-part expr" => {
                format!("{model}view v {{\nfrom config {{\n{}}} }}\n", lines("x = ", ""))
            }
            "-part cond" => format!("{model}layout l {{\n{}}}\n", lines("require ", "")),
            kind => panic!("an example of the kind {kind:?}:\n{example}"),
        };
        let (file, found) = parse(0, &text);
        assert_eq!(shown("README", &text, &found), "");
        assert_eq!(tree(&formats("README", &text)), tree(&text));
        if fence.trim().is_empty() {
            let name = file.model.unwrap().name.value;
            let mut library = ucl_parser::Library::new();
            library.add("README.ucl", &text);
            if let Err(found) = library.compile(&name) {
                panic!("{name}:\n{}", render(library.sources(), &found));
            }
        }
        count += 1;
    }
    assert!(count > 20, "{count} examples");
}
