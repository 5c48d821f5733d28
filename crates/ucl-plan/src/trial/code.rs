//! Numbers that tell where they come from: every element of every state has one of its own.

use crate::bind::is_weight;
use crate::params::Param;
use ucl_ir::Program;

/// The states that a trial has: a master, its rounded copy, two moments.
pub(super) const STATES: [&str; 4] = ["param", "fp32", "exp_avg", "exp_avg_sq"];

/// No parameter of a trial has more elements.
const ADDRESSES: u64 = 1 << 24;

/// What stands in stored padding: no element's number.
pub(super) const PADDING: f64 = -1.0;

/// The number of the first element of a parameter in a state; the others follow in the row-major order
/// of all its dims, those of its name included. A master and its copy are equal.
pub(super) fn first(program: &Program, param: &str, state: &str) -> u64 {
    let at = program.model.params.iter().position(|known| known.path == param).unwrap_or(0) as u64;
    let moment = match state {
        state if is_weight(state) => 0,
        "exp_avg" => 1,
        _ => 2,
    };
    (at * 4 + moment) * ADDRESSES + 1
}

/// A number as a value.
#[expect(clippy::cast_precision_loss, reason = "it stays below 2^53")]
pub(super) fn value(number: u64) -> f64 {
    number as f64
}

/// Whether two numbers are the same element's, up to what arithmetic does to them.
pub(super) fn same(a: f64, b: f64) -> bool {
    (a - b).abs() < 0.25
}

/// What a number is, for a person.
pub(super) fn told(program: &Program, params: &[Param], number: f64) -> String {
    if number.is_nan() {
        return "nothing".to_owned();
    }
    if same(number, PADDING) {
        return "padding".to_owned();
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "as it was made")]
    let code = (number.round() as u64).saturating_sub(1);
    let (param, address) = (code / ADDRESSES / 4, code % ADDRESSES);
    let path = usize::try_from(param).ok().and_then(|at| program.model.params.get(at));
    let param = path.and_then(|path| params.iter().find(|param| param.path == path.path));
    match param {
        Some(param) => element(param, &coordinates(param, address)),
        None => format!("the number {number}"),
    }
}

/// `attn.q [l=0 k=1 q=0 r=0 i=1 h=3]`
pub(super) fn element(param: &Param, at: &[u64]) -> String {
    let at: Vec<String> =
        param.dims.iter().zip(at).map(|(dim, at)| format!("{}={at}", dim.name)).collect();
    format!("{} [{}]", param.path, at.join(" "))
}

fn coordinates(param: &Param, mut address: u64) -> Vec<u64> {
    let mut at = vec![0; param.dims.len()];
    for (place, dim) in at.iter_mut().zip(&param.dims).rev() {
        *place = address % dim.extent.max(1);
        address /= dim.extent.max(1);
    }
    at
}
