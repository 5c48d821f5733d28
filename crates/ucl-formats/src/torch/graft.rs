//! Copying values from one pickle to another, with replacements on the way.

use std::collections::HashMap;
use std::sync::Arc;

use super::node::{Made, Node, NodeId, Object, Pair};
use super::pickle::Pickle;
use super::value::Value;

impl Pickle {
    /// Copies a value of another pickle into this one and returns its number here.
    ///
    /// `replace` sees each value once before it is copied and may return the number of one of this
    /// pickle's to stand in its place, together with all that it holds. Shared values stay shared,
    /// cycles stay cycles. A copied tensor keeps its storage key and its call, unless its parts are
    /// replaced through the tensor itself.
    pub fn graft(
        &mut self,
        value: Value<'_>,
        mut replace: impl FnMut(&mut Pickle, Value<'_>) -> Option<NodeId>,
    ) -> NodeId {
        let source = value.pickle();
        let mut copies: HashMap<NodeId, NodeId> = HashMap::new();
        let mut copied = Vec::new();
        let mut open = vec![value.id()];
        while let Some(id) = open.pop() {
            if copies.contains_key(&id) {
                continue;
            }
            if let Some(stand_in) = replace(self, source.value(id)) {
                copies.insert(id, stand_in);
                continue;
            }
            let node = source.node(id);
            let copy = self.push(node.clone());
            copies.insert(id, copy);
            copied.push(copy);
            node.for_each_child(|child| open.push(child));
        }
        for copy in copied {
            renumber(self.node_mut(copy), &copies);
        }
        copies[&value.id()]
    }

    /// Gives the storages of all nodes from number `first` on other keys.
    pub(crate) fn rename_storages(&mut self, first: usize, name: &mut dyn FnMut(&str) -> String) {
        for node in &mut self.nodes[first..] {
            let storage = match node {
                Node::Storage(storage) => storage,
                Node::Tensor(tensor) => &mut tensor.storage,
                _ => continue,
            };
            Arc::make_mut(storage).key = name(&storage.key).into();
        }
    }
}

/// Replaces the numbers of the source in a copied node.
fn renumber(node: &mut Node, copies: &HashMap<NodeId, NodeId>) {
    let id = |id: &mut NodeId| *id = copies[id];
    let pair = |pair: &mut Pair| *pair = (copies[&pair.0], copies[&pair.1]);
    let object = |object: &mut Object| {
        id(&mut object.class);
        id(&mut object.args);
        if let Made::NewKeywords(keywords) = &mut object.made {
            id(keywords);
        }
        object.state.iter_mut().for_each(id);
        object.items.iter_mut().for_each(id);
        object.pairs.iter_mut().for_each(pair);
    };
    match node {
        Node::List(items) => items.iter_mut().for_each(id),
        Node::Tuple(items) => items.iter_mut().for_each(id),
        Node::Set(set) => set.items.iter_mut().for_each(id),
        Node::Dict(dict) => {
            dict.pairs.iter_mut().for_each(pair);
            dict.state.iter_mut().for_each(id);
        }
        Node::Tensor(tensor) => object(&mut tensor.made),
        Node::Object(boxed) => object(boxed),
        _ => {}
    }
}
