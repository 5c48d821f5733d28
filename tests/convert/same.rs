//! The same bytes, whatever the machine.

use ucl_tests::{command::convert, fixture, written};

#[test]
fn threads_and_memory_do_not_show() {
    let runs = ["megds-llama-tp2-pp2-dp1-bf16", "z1-gpt2-fp32-dp4-groups3"];
    let ways: [&[&str]; 4] = [
        &["--jobs", "1"],
        &["--jobs", "2"],
        &["--jobs", "8"],
        &["--jobs", "2", "--memory", "16MiB"],
    ];
    for name in runs {
        let folder = tempfile::tempdir().expect("a folder");
        let digests = ways.iter().enumerate().map(|(number, way)| {
            let out = folder.path().join(number.to_string());
            convert(&fixture(name), &out, way);
            written::digests(&out)
        });
        let digests: Vec<_> = digests.collect();
        for other in &digests[1..] {
            assert_eq!(&digests[0], other, "{name}");
        }
    }
}
