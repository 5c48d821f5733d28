//! One run in all stages of ZeRO, by other engines, in other formats: what is stored otherwise is the same.

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

/// FSDP2 against ZeRO-1, Megatron-LM's older format against its newer one.
#[test]
fn one_run_by_two_engines() {
    let pairs = [
        ("same-z1-llama-fp32-dp2", "same-fsdp2-llama-fp32-dp2", &["fp32", "exp_avg", "exp_avg_sq"]),
        (
            "mlm-llama-tp2-pp2-bf16-torch",
            "mlm-llama-tp2-pp2-bf16-torchdist",
            &["fp32", "exp_avg", "exp_avg_sq"],
        ),
    ];
    for (one, other, states) in pairs {
        let oracle = |name: &str| sets(&fixture(name).join("oracle/oracle.json"));
        for state in states {
            let set = format!("live.{state}");
            assert_eq!(oracle(one)[&set], oracle(other)[&set], "{one} and {other}: {state}");
        }
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
