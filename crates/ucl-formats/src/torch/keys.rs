//! No key twice: a reader that takes the first and one that takes the last would disagree.

use std::collections::HashSet;

use super::error::PickleProblem;
use super::node::{Node, Pair};
use super::pickle::Pickle;

/// Refuses string and integer keys that are in a dict twice. Python never writes such a dict.
pub(super) fn check(pickle: &Pickle) -> Result<(), PickleProblem> {
    let mut strings: HashSet<&str> = HashSet::new();
    let mut numbers: HashSet<i64> = HashSet::new();
    for node in pickle.nodes() {
        let pairs: &[Pair] = match node {
            Node::Dict(dict) => &dict.pairs,
            Node::Object(object) => &object.pairs,
            _ => continue,
        };
        strings.clear();
        numbers.clear();
        for (key, _) in pairs {
            let twice = match pickle.node(*key) {
                Node::Str(text) if !strings.insert(text) => format!("{:.100?}", &**text),
                Node::Int(number) if !numbers.insert(*number) => number.to_string(),
                _ => continue,
            };
            return Err(PickleProblem::DuplicateKey(twice));
        }
    }
    Ok(())
}
