//! The reference's examples compile, and `ucl fmt` would not change what they mean.

use ucl_tests::diagnostics::render;

#[test]
fn every_example_of_the_reference_compiles() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../grammar/README.md");
    let text = std::fs::read_to_string(path).expect("the reference");
    let examples: Vec<&str> = text
        .split("\n```ucl\n")
        .skip(1)
        .map(|rest| rest.split("\n```").next().expect("an example"))
        .collect();
    assert!(examples.len() > 1, "the reference has examples");
    for example in examples {
        let mut library = ucl_specs::library();
        library.add("example.ucl", example);
        let wrong = library.diagnostics();
        assert!(wrong.is_empty(), "{example}\n{}", render(library.sources(), &wrong));
    }
}
