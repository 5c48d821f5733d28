//! The parameters of a model in forward order, with the blocks that they stand in.

use crate::ast;
use ucl_ir::Param;

/// A parameter, or what an `each` holds.
pub(super) enum Node {
    Param(Param),
    Each(String, Vec<Node>),
}

pub(super) fn flatten(node: &Node, before_each: bool, params: &mut Vec<Param>) {
    match node {
        Node::Param(param) => params.push(Param { before_each, ..param.clone() }),
        Node::Each(_, nodes) => nodes.iter().for_each(|node| flatten(node, before_each, params)),
    }
}

pub(super) fn is_each(node: &Node, each: &ast::Each) -> bool {
    matches!(node, Node::Each(dim, _) if *dim == each.dim.value)
}

/// Adds what `more` holds to a block; blocks in it for the same dim are extended in turn.
pub(super) fn extend(block: &mut Node, more: Node) {
    let (Node::Each(_, nodes), Node::Each(_, new)) = (block, more) else { return };
    for node in new {
        let same = nodes.iter().position(|known| match (known, &node) {
            (Node::Each(a, _), Node::Each(b, _)) => a == b,
            _ => false,
        });
        match same {
            Some(at) => extend(&mut nodes[at], node),
            None => nodes.push(node),
        }
    }
}

/// Removes everything under a path; whether there was anything.
pub(super) fn remove(nodes: &mut Vec<Node>, path: &str) -> bool {
    let mut met = false;
    nodes.retain_mut(|node| match node {
        Node::Param(param) => {
            let under = param.is_under(path);
            met |= under;
            !under
        }
        Node::Each(_, inner) => {
            met |= remove(inner, path);
            !inner.is_empty()
        }
    });
    met
}

pub(super) fn visit(nodes: &mut [Node], with: &mut dyn FnMut(&mut Param)) {
    for node in nodes {
        match node {
            Node::Param(param) => with(param),
            Node::Each(_, inner) => visit(inner, with),
        }
    }
}

pub(super) fn find<'a>(nodes: &'a [Node], path: &str) -> Option<&'a Param> {
    nodes.iter().find_map(|node| match node {
        Node::Param(param) => (param.path == path).then_some(param),
        Node::Each(_, inner) => find(inner, path),
    })
}

pub(super) fn paths_in(nodes: &[Node]) -> Vec<String> {
    let paths = nodes.iter().flat_map(|node| match node {
        Node::Param(param) => vec![param.path.clone()],
        Node::Each(_, inner) => paths_in(inner),
    });
    paths.collect()
}
