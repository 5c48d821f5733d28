//! A module's state dict, and the order of its parameters.

use crate::target::{Buffer, Draft, Held, Run, WriteError};
use crate::torch::NodeId;

/// The tensors of a rank in the order of Megatron's modules, which numbers the optimizer's states: the
/// base class of Megatron-core's attention makes the projection before its subclass makes what it takes
/// apart into queries, keys and values.
pub(super) fn in_order(tensors: &[Held]) -> Vec<usize> {
    const ATTENTION: &str = ".self_attention.";
    let mut order: Vec<(usize, bool, usize)> = Vec::with_capacity(tensors.len());
    let mut block: Option<(usize, &str)> = None;
    for (number, held) in tensors.iter().enumerate() {
        let Some(at) = held.name.find(ATTENTION) else {
            block = None;
            order.push((number, false, number));
            continue;
        };
        let (layer, rest) = held.name.split_at(at + ATTENTION.len());
        let first = match block {
            Some((first, known)) if known == layer => first,
            _ => number,
        };
        block = Some((first, layer));
        order.push((first, !rest.starts_with("linear_proj."), number));
    }
    order.sort_unstable();
    order.into_iter().map(|(.., number)| number).collect()
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
            step: None,
        }
    }

    #[test]
    fn the_projection_comes_first() {
        let names = [
            "decoder.layers.0.self_attention.linear_qkv.layer_norm_weight",
            "decoder.layers.0.self_attention.linear_qkv.weight",
            "decoder.layers.0.self_attention.linear_proj.weight",
            "decoder.layers.0.self_attention.linear_proj.bias",
            "decoder.layers.0.mlp.linear_fc1.weight",
            "decoder.layers.1.self_attention.linear_qkv.weight",
            "decoder.layers.1.self_attention.linear_proj.weight",
        ];
        let tensors = names.map(held);
        assert_eq!(in_order(&tensors), [2, 3, 0, 1, 4, 6, 5]);
    }
}
