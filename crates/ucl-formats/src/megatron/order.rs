//! Which parameter the optimizer's numbers mean.
//!
//! `megatron/core/optimizer/__init__.py`, `_get_param_groups`: chunks are walked in order, each in the
//! order of its module, and a parameter goes into the group of its kind: experts' or not, with weight
//! decay or without (what has one dim, and biases), embedding and head where these have a learning rate of
//! their own. So a group holds its parameters in the order of the module, and only who is in which group
//! is open. Where all tensors of a shape are in one group, nothing is; where they are in several, their
//! kinds decide; where those do not count up, the answer is no.

use indexmap::IndexMap;
use serde_json::Value as Json;
use std::collections::BTreeMap;

/// A parameter of the module, in its order.
pub(super) struct Param<'a> {
    pub(super) name: &'a str,
    pub(super) shape: &'a [u64],
}

/// A group of the optimizer.
pub(super) struct Members<'a> {
    pub(super) hyper: &'a IndexMap<String, Json>,
    /// The shape of each of its parameters.
    pub(super) shapes: Vec<&'a [u64]>,
}

/// For each group the parameters that its slots mean.
///
/// # Errors
/// Says what does not count up or is left open.
pub(super) fn assign(
    params: &[Param<'_>],
    groups: &[Members<'_>],
) -> Result<Vec<Vec<usize>>, String> {
    let kinds = Kinds::of(groups.iter().map(|group| group.hyper));
    let mut by_shape: IndexMap<&[u64], Vec<usize>> = IndexMap::new();
    for (index, param) in params.iter().enumerate() {
        by_shape.entry(param.shape).or_default().push(index);
    }
    let mut slots: IndexMap<&[u64], BTreeMap<usize, Vec<usize>>> = IndexMap::new();
    for (number, group) in groups.iter().enumerate() {
        for (slot, shape) in group.shapes.iter().enumerate() {
            slots.entry(shape).or_default().entry(number).or_default().push(slot);
        }
    }
    let mut assigned: Vec<Vec<usize>> =
        groups.iter().map(|group| vec![usize::MAX; group.shapes.len()]).collect();
    for (shape, by_group) in &slots {
        let all: &[usize] = by_shape.get(shape).map_or(&[], Vec::as_slice);
        let count: usize = by_group.values().map(Vec::len).sum();
        if count > all.len() {
            return Err(format!(
                "the optimizer has states for {count} parameters of shape {shape:?}, the module has {}",
                all.len()
            ));
        }
        let only = by_group.len() == 1 && count == all.len();
        for (group, slots) in by_group {
            let of_group =
                |index: &&usize| only || kinds.of_param(&params[**index]) == Some(*group);
            let members: Vec<usize> = all.iter().filter(of_group).copied().collect();
            if members.len() != slots.len() {
                return Err(open(shape, slots.len(), members.len(), all.len()));
            }
            for (slot, member) in slots.iter().zip(members) {
                assigned[*group][*slot] = member;
            }
        }
    }
    for members in &assigned {
        if let Some(pair) = members.windows(2).find(|pair| pair[0] >= pair[1]) {
            return Err(format!(
                "by their shapes the optimizer's states have `{}` before `{}`, which is not the order \
                 of the module",
                params[pair[0]].name, params[pair[1]].name
            ));
        }
    }
    Ok(assigned)
}

fn open(shape: &[u64], slots: usize, members: usize, all: usize) -> String {
    format!(
        "its groups do not tell whose states are whose: one has {slots} parameters of shape {shape:?}, \
         and of the module's {all} such tensors {members} are of the group's kind"
    )
}

/// What kind of parameters each group takes.
pub(crate) struct Kinds {
    /// Expert, without weight decay, with a learning rate of its own; `None` where the groups do not
    /// differ in it.
    groups: Vec<[Option<bool>; 3]>,
}

impl Kinds {
    pub(crate) fn of<'a>(groups: impl Iterator<Item = &'a IndexMap<String, Json>>) -> Kinds {
        let mut kinds: Vec<[Option<bool>; 3]> = groups
            .map(|hyper| {
                let flag = |key: &str| hyper.get(key).and_then(Json::as_bool);
                let number = |key: &str| hyper.get(key).and_then(Json::as_f64);
                let decay = number("wd_mult").or_else(|| number("weight_decay"));
                let zero = decay.map(|decay| decay == 0.0);
                [flag("is_expert_parallel"), zero, flag("is_decoupled_lr")]
            })
            .collect();
        for place in 0..3 {
            let differ = kinds.iter().any(|kind| kind[place] != kinds[0][place]);
            if !differ {
                kinds.iter_mut().for_each(|kind| kind[place] = None);
            }
        }
        Kinds { groups: kinds }
    }

    /// The one group that takes a parameter.
    pub(super) fn of_param(&self, param: &Param<'_>) -> Option<usize> {
        self.of_name(param.name, is_flat(param.name, param.shape))
    }

    /// The one group that takes a parameter, if its weight decays or not.
    pub(crate) fn of_name(&self, name: &str, flat: bool) -> Option<usize> {
        let own = [
            is_expert(name),
            flat,
            name.ends_with("word_embeddings.weight") || name.ends_with("output_layer.weight"),
        ];
        let fits = |kind: &[Option<bool>; 3]| {
            kind.iter().zip(own).all(|(asked, own)| asked.is_none_or(|asked| asked == own))
        };
        let mut fitting = self.groups.iter().enumerate().filter(|(_, kind)| fits(kind));
        let (first, _) = fitting.next()?;
        fitting.next().is_none().then_some(first)
    }
}

/// Whether a name is that of an expert's parameter; shared experts are everybody's.
pub(crate) fn is_expert(name: &str) -> bool {
    name.split('.').any(|part| matches!(part, "experts" | "local_experts"))
}

/// Whether Megatron lets a parameter's weight decay alone by default: it is a bias, or has one dim in its module.
/// Sharded saves stack layers, and experts, in front: `decoder.layers.mlp…`, `experts.experts.…`.
pub(crate) fn is_flat(name: &str, shape: &[u64]) -> bool {
    let parts: Vec<&str> = name.split('.').collect();
    let pairs = parts.windows(2);
    let stacked = pairs.filter(|pair| match pair[0] {
        "layers" => pair[1].parse::<u64>().is_err(),
        "experts" => pair[1] == "experts",
        _ => false,
    });
    name.ends_with(".bias") || shape.len() == stacked.count() + 1
}

#[cfg(test)]
mod tests {
    use super::{Members, Param, assign, is_flat};
    use indexmap::IndexMap;
    use serde_json::{Value as Json, json};

    type Hyper = IndexMap<String, Json>;

    fn hyper(value: Json) -> Hyper {
        serde_json::from_value(value).unwrap()
    }

    fn assigned(
        params: &[(&str, &[u64])],
        groups: &[(Hyper, Vec<&[u64]>)],
    ) -> Result<Vec<Vec<usize>>, String> {
        let params: Vec<Param<'_>> =
            params.iter().map(|(name, shape)| Param { name, shape }).collect();
        let groups: Vec<Members<'_>> = groups
            .iter()
            .map(|(hyper, shapes)| Members { hyper, shapes: shapes.clone() })
            .collect();
        assign(&params, &groups)
    }

    const PARAMS: [(&str, &[u64]); 5] = [
        ("embedding.word_embeddings.weight", &[4, 4]),
        ("layers.0.norm.weight", &[4]),
        ("layers.0.proj.weight", &[4, 4]),
        ("layers.0.experts.fc.weight", &[4, 4]),
        ("norm.weight", &[4]),
    ];

    #[test]
    fn kinds_decide_where_shapes_do_not() {
        let groups = [
            (hyper(json!({"is_expert_parallel": false, "wd_mult": 1.0})), vec![&[4, 4][..]; 2]),
            (hyper(json!({"is_expert_parallel": false, "wd_mult": 0.0})), vec![&[4][..]; 2]),
            (hyper(json!({"is_expert_parallel": true, "wd_mult": 1.0})), vec![&[4, 4][..]]),
        ];
        assert_eq!(assigned(&PARAMS, &groups), Ok(vec![vec![0, 2], vec![1, 4], vec![3]]));
    }

    #[test]
    fn stacked_layers_and_experts_are_no_dims_of_a_parameter() {
        assert!(is_flat("decoder.final_layernorm.weight", &[8]));
        assert!(is_flat("decoder.layers.mlp.linear_fc1.layer_norm_weight", &[4, 8]));
        assert!(!is_flat("decoder.layers.0.mlp.linear_fc1.weight", &[4, 8]));
        assert!(!is_flat("decoder.layers.mlp.router.weight", &[4, 2, 8]));
        assert!(is_flat("decoder.layers.mlp.experts.experts.linear_fc1.bias", &[4, 2, 8]));
        assert!(!is_flat("decoder.layers.mlp.experts.experts.linear_fc2.weight", &[4, 2, 8, 8]));
    }

    #[test]
    fn what_is_left_open_is_refused() {
        let one = |count: usize| [(hyper(json!({})), vec![&[4, 4][..]; count])];
        assert!(assigned(&PARAMS, &one(3)).is_ok(), "frozen norms");
        let refusal = assigned(&PARAMS, &one(2)).unwrap_err();
        assert!(refusal.contains("do not tell"), "{refusal}");
        let refusal = assigned(&PARAMS, &one(4)).unwrap_err();
        assert!(refusal.contains("the module has 3"), "{refusal}");
        let like = || hyper(json!({"wd_mult": 1.0}));
        let two = [(like(), vec![&[4, 4][..]]), (like(), vec![&[4, 4][..]; 2])];
        assert!(assigned(&PARAMS, &two).is_err(), "groups of one kind");
    }

    #[test]
    fn another_order_than_the_modules_is_refused() {
        let groups = [(hyper(json!({})), vec![&[4][..], &[4][..], &[4, 4], &[4, 4], &[4, 4]])];
        let refusal = assigned(&PARAMS, &groups).unwrap_err();
        assert!(refusal.contains("not the order"), "{refusal}");
    }
}
