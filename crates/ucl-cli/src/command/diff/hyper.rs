//! Steps and hyper-parameters of two checkpoints.

use indexmap::IndexMap;
use serde_json::Value;
use ucl_formats::inventory::Optimizer;
use ucl_formats::universal::Manifest;
use ucl_plan::Plan;

/// What Megatron says of a group whose parameters expert ranks share: that follows from the mesh.
const WHOSE: &str = "is_expert_parallel";

/// The same in a run of DeepSpeed's: the name of such a group says how many ranks have its experts.
const EXPERTS: (&str, &str) = ("moe", "name");

/// What differs, a sentence each.
///
/// Groups are compared parameter by parameter: two frameworks seldom group them alike.
pub(super) fn differences(a: &Plan<'_>, b: &Plan<'_>) -> Vec<String> {
    let manifest = |plan: &Plan<'_>| plan.manifest(&[], None, Vec::new());
    of(&manifest(a), &manifest(b))
}

fn of(a: &Manifest, b: &Manifest) -> Vec<String> {
    let mut lines = Vec::new();
    if let (Some(a), Some(b)) = (a.step, b.step)
        && a != b
    {
        lines.push(format!("the step is {a} in a, {b} in b"));
    }
    let (Some(a), Some(b)) = (&a.optimizer, &b.optimizer) else { return lines };
    let (a, b) = (by_param(a), by_param(b));
    let mut counts: IndexMap<String, u64> = IndexMap::new();
    for (name, a) in &a {
        let Some(b) = b.get(name) else { continue };
        for (key, a) in a {
            let Some(b) = b.get(key) else { continue };
            if !equal(a, b) {
                *counts.entry(format!("{key} is {a} in a, {b} in b")).or_default() += 1;
            }
        }
    }
    lines.extend(counts.iter().map(|(line, count)| format!("{line}, for {count} parameters")));
    lines
}

/// Hyper-parameters and steps by parameter.
fn by_param(optimizer: &Optimizer) -> IndexMap<&str, IndexMap<&str, &Value>> {
    let mut params = IndexMap::new();
    for group in &optimizer.groups {
        let of_experts = group.hyper.get(EXPERTS.0) == Some(&Value::Bool(true));
        let of_mesh = |key: &String| key == WHOSE || of_experts && key == EXPERTS.1;
        for name in &group.params {
            let hyper = group.hyper.iter().filter(|(key, _)| !of_mesh(key));
            let mut known: IndexMap<&str, &Value> =
                hyper.map(|(key, value)| (key.as_str(), value)).collect();
            known.extend(group.steps.get(name).or(group.step.as_ref()).map(|step| ("step", step)));
            params.insert(name.as_str(), known);
        }
    }
    params
}

/// 1 and 1.0 are one number.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b))
        }
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}
