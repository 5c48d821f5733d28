//! A module's state dict, and the order of its parameters.

use crate::target::{Buffer, Draft, Held, Run, WriteError};
use crate::torch::NodeId;
use std::collections::HashMap;

/// The tensors of a rank in the order of Megatron's modules, which numbers the optimizer's states.
///
/// A view's equations say which names there are, not in which order modules are made: in a layer that is
/// `transformer_layer.py`'s, and the base class of Megatron-core's attention makes the projection before
/// its subclass makes what it takes apart into queries, keys and values.
pub(super) fn in_order(tensors: &[Held]) -> Vec<usize> {
    let mut layers: HashMap<&str, usize> = HashMap::new();
    let mut modules: HashMap<&str, usize> = HashMap::new();
    let keys = tensors.iter().enumerate().map(|(number, held)| {
        let Some((layer, rest)) = layer(&held.name) else {
            return (number, 0, number, false, number);
        };
        let first = *layers.entry(layer).or_insert(number);
        // The halves of a feed-forward, also where every expert has them.
        let halves = ["linear_fc1.", "linear_fc2.", "dense_h_to_4h.", "dense_4h_to_h."];
        let half = halves.iter().position(|half| rest.contains(half));
        let module = half.and_then(|half| Some(rest.find(halves[half])? + layer.len()));
        let module = match module {
            Some(end) => *modules.entry(&held.name[..end]).or_insert(number),
            None => number,
        };
        (first, place(rest), module, half.is_some_and(|half| half % 2 == 1), number)
    });
    let mut keys: Vec<_> = keys.collect();
    keys.sort_unstable();
    keys.into_iter().map(|(.., number)| number).collect()
}

/// A name up to the number of its layer, and behind it.
fn layer(name: &str) -> Option<(&str, &str)> {
    const LAYERS: &str = "layers.";
    let start = name.find(LAYERS)? + LAYERS.len();
    let end = start + name[start..].find('.')? + 1;
    Some(name.split_at(end))
}

/// Where a module of a layer stands; what is not known comes last.
fn place(module: &str) -> usize {
    const MODULES: [&[&str]; 6] = [
        &["input_layernorm.", "input_norm."],
        &["self_attention.linear_proj.", "self_attention.query_key_value."],
        &["self_attention."],
        &["pre_mlp_layernorm.", "post_attention_layernorm.", "post_attention_norm."],
        &["mlp.router."],
        &["mlp."],
    ];
    let known = MODULES.iter().position(|names| names.iter().any(|name| module.starts_with(name)));
    known.unwrap_or(MODULES.len())
}

/// The state dict of a rank.
pub(super) fn state_dict(
    draft: &mut Draft,
    run: &Run<'_>,
    rank: usize,
) -> Result<NodeId, WriteError> {
    let tensors = &run.ranks[rank].tensors;
    let mut root = Branch::default();
    for number in in_order(tensors) {
        let node = draft.tensor(Buffer::whole(run, (rank, number), "param"))?;
        root.insert(&tensors[number].name, node);
    }
    Ok(root.write(draft))
}

/// The modules of before Megatron-core that hand out a dict of their own.
const NESTED: [&str; 8] = [
    "language_model",
    "embedding",
    "word_embeddings",
    "position_embeddings",
    "output_layer",
    "encoder",
    "transformer",
    "word_embeddings_for_head",
];

/// A dict of dicts. Modules of before Megatron-core hand out nested ones.
#[derive(Default)]
struct Branch(Vec<(String, Twig)>);

enum Twig {
    Leaf(NodeId),
    Branch(Branch),
}

impl Branch {
    /// Adds a tensor under its whole name.
    fn insert(&mut self, name: &str, node: NodeId) {
        match name.starts_with("language_model.") || name.starts_with("word_embeddings_for_head.") {
            true => self.nest(name, node),
            false => self.0.push((name.to_owned(), Twig::Leaf(node))),
        }
    }

    fn nest(&mut self, name: &str, node: NodeId) {
        let Some((head, tail)) = name.split_once('.').filter(|(head, _)| NESTED.contains(head))
        else {
            return self.0.push((name.to_owned(), Twig::Leaf(node)));
        };
        let place = self.0.iter().position(|(key, _)| key == head).unwrap_or_else(|| {
            self.0.push((head.to_owned(), Twig::Branch(Branch::default())));
            self.0.len() - 1
        });
        match &mut self.0[place].1 {
            // Layers and the last norm stand flat under it.
            Twig::Branch(inner) if ["encoder", "transformer"].contains(&head) => {
                inner.0.push((tail.to_owned(), Twig::Leaf(node)));
            }
            Twig::Branch(inner) => inner.nest(tail, node),
            Twig::Leaf(_) => {}
        }
    }

    fn write(self, draft: &mut Draft) -> NodeId {
        let entries = self.0.into_iter().map(|(key, twig)| match twig {
            Twig::Leaf(node) => (key, node),
            Twig::Branch(branch) => (key, branch.write(draft)),
        });
        let entries = entries.collect();
        draft.ordered(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::in_order;
    use crate::inventory::Role;
    use crate::target::Held;
    use ucl_tensor::DType;

    fn held(name: &str) -> Held {
        Held {
            name: name.to_owned(),
            shape: vec![],
            dtype: DType::F32,
            role: Role::Trained,
            copy: false,
            place: None,
            states: Default::default(),
            tied_name: None,
            step: None,
        }
    }

    #[test]
    fn modules_come_as_they_are_made() {
        let names = [
            "decoder.layers.0.self_attention.linear_qkv.layer_norm_weight",
            "decoder.layers.0.self_attention.linear_qkv.weight",
            "decoder.layers.0.self_attention.linear_proj.weight",
            "decoder.layers.0.self_attention.linear_proj.bias",
            "decoder.layers.0.mlp.linear_fc1.weight",
            "decoder.layers.1.self_attention.linear_qkv.weight",
            "decoder.layers.1.self_attention.linear_proj.weight",
            "decoder.layers.1.mlp.linear_fc1.layer_norm_weight",
            "decoder.layers.1.mlp.linear_fc2.weight",
            "decoder.layers.1.mlp.linear_fc1.weight",
            "output_layer.weight",
        ];
        let tensors = names.map(held);
        assert_eq!(in_order(&tensors), [2, 3, 0, 1, 4, 6, 5, 7, 9, 8, 10]);
        let grouped = ["linear_fc1.weight0", "linear_fc2.weight0", "linear_fc1.weight1"];
        let tensors = grouped.map(|name| held(&format!("decoder.layers.0.mlp.experts.{name}")));
        assert_eq!(in_order(&tensors), [0, 2, 1]);
    }
}
