//! One run in all stages of ZeRO: what is stored otherwise is the same.

use ucl_tests::command::ucl;
use ucl_tests::fixture;
use ucl_tests::oracle::sets;

const RUNS: [&str; 3] = ["ds-z1-adamw-dp2-fp32", "ds-z2-adamw-dp2-fp32", "ds-z3-adamw-dp2-fp32"];

#[test]
fn one_run_in_three_stages() {
    let oracle = |name: &str| {
        let mut sets = sets(&fixture(name).join("oracle/oracle.json"));
        sets.remove("live.model");
        sets
    };
    for (one, other) in [(0, 1), (0, 2), (1, 2)].map(|(a, b)| (RUNS[a], RUNS[b])) {
        assert_eq!(oracle(one), oracle(other), "{one} and {other} held the same in memory");
        let [source, target] = [one, other].map(|name| fixture(name).to_str().unwrap().to_owned());
        let ended = ucl(&["diff", &source, &target]);
        assert_eq!(ended.code, 0, "{one} and {other}\n{}", ended.text());
    }
}

/// Another optimizer: the same names and shapes, other values.
#[test]
fn another_run_differs() {
    let [source, target] = ["ds-z1-adamw-dp2-fp32", "ds-z3-lion-dp2-fp32"]
        .map(|name| fixture(name).to_str().unwrap().to_owned());
    let ended = ucl(&["diff", &source, &target]);
    assert_eq!(ended.code, 1, "{}", ended.text());
}
