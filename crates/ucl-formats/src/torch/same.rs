//! Whether two values are the same tree.

use std::collections::HashSet;

use super::node::{Node, NodeId};
use super::value::Value;

/// Whether two values, of one pickle or two, are equal: types, content, order, calls. Floats by
/// their bits. What is shared is not compared, cycles are.
pub fn same(left: Value<'_>, right: Value<'_>) -> bool {
    let (a, b) = (left.pickle(), right.pickle());
    let mut seen: HashSet<(NodeId, NodeId)> = HashSet::new();
    let mut open = vec![(left.id(), right.id())];
    while let Some(pair) = open.pop() {
        if !seen.insert(pair) {
            continue;
        }
        let (left, right) = (a.node(pair.0), b.node(pair.1));
        if !same_alone(left, right) {
            return false;
        }
        let (mut lefts, mut rights) = (Vec::new(), Vec::new());
        left.for_each_child(|id| lefts.push(id));
        right.for_each_child(|id| rights.push(id));
        if lefts.len() != rights.len() {
            return false;
        }
        open.extend(lefts.into_iter().zip(rights));
    }
    true
}

/// Whether two nodes are equal but for what they refer to.
fn same_alone(left: &Node, right: &Node) -> bool {
    match (left, right) {
        (Node::None, Node::None) => true,
        (Node::Bool(a), Node::Bool(b)) => a == b,
        (Node::Int(a), Node::Int(b)) => a == b,
        (Node::BigInt(a), Node::BigInt(b)) => a == b,
        (Node::Float(a), Node::Float(b)) => a.to_bits() == b.to_bits(),
        (Node::Str(a), Node::Str(b)) => a == b,
        (Node::RawStr(a), Node::RawStr(b)) => a == b,
        (Node::Bytes(a), Node::Bytes(b)) => a == b,
        (Node::List(a), Node::List(b)) => a.len() == b.len(),
        (Node::Tuple(a), Node::Tuple(b)) => a.len() == b.len(),
        (Node::Dict(a), Node::Dict(b)) => {
            a.ordered == b.ordered
                && a.pairs.len() == b.pairs.len()
                && a.state.is_some() == b.state.is_some()
        }
        (Node::Set(a), Node::Set(b)) => a.frozen == b.frozen && a.items.len() == b.items.len(),
        (Node::Global(a), Node::Global(b)) => a == b,
        (Node::Storage(a), Node::Storage(b)) => a == b,
        (Node::Tensor(a), Node::Tensor(b)) => {
            a.storage == b.storage
                && a.dtype == b.dtype
                && a.offset == b.offset
                && a.size == b.size
                && a.stride == b.stride
                && a.requires_grad == b.requires_grad
                && a.made.same_alone(&b.made)
        }
        (Node::Object(a), Node::Object(b)) => a.same_alone(b),
        _ => false,
    }
}
