//! The optimizer's groups, and whose they are.
//!
//! `megatron/core/optimizer/optimizer.py`: a group is known by `wd_mult`, `lr_mult`, `is_expert_parallel` and
//! `is_decoupled_lr`, and no file says which parameters are in it: as it loads, the run that goes on has put
//! them into groups by itself. So that rule, `_get_param_groups`, is applied, and it is said; where it
//! leaves one parameter open, none is put anywhere.

use crate::inventory::{Group, Inventory, Optimizer};
use crate::megatron::{Kinds, is_flat};
use indexmap::{IndexMap, IndexSet};
use serde_json::Value as Json;

/// Puts what the common state says of the optimizers into an inventory whose tensors are known.
pub(super) fn tell(optimizer: &Json, inventory: &mut Inventory) {
    let mut groups = Vec::new();
    of(optimizer, &mut groups);
    // Several optimizers are numbered.
    let numbered = optimizer.as_object().into_iter().flatten();
    let numbered = numbered.filter(|(key, _)| key.parse::<u32>().is_ok()).map(|(_, one)| one);
    numbered.chain(optimizer.as_array().into_iter().flatten()).for_each(|one| of(one, &mut groups));
    if groups.is_empty() {
        return;
    }
    let several = groups.len() > 1;
    let assigned = assign(&mut groups, inventory);
    if several {
        inventory.notes.push(match assigned {
            Ok(()) => "The files do not say which parameters are in which group of the optimizer. They are put there by Megatron's own rule: biases and what has one dim are in the group whose weights do not decay (`wd_mult` 0), experts and embeddings by themselves where a group is for them.".to_owned(),
            Err(name) => format!(
                "The files do not say which parameters are in which of the optimizer's {} groups, and Megatron's own rule leaves it open for `{name}`: hyper-parameters are kept, and no group names its parameters.",
                groups.len()
            ),
        });
    }
    inventory.optimizer = Some(Optimizer { name: None, groups, unordered: true });
}

fn of(one: &Json, groups: &mut Vec<Group>) {
    let inner = one.get("optimizer").unwrap_or(one);
    let step = inner.get("state").and_then(|state| state.get("common_step"));
    let listed = inner.get("param_groups").and_then(Json::as_array);
    for group in listed.into_iter().flatten().filter_map(Json::as_object) {
        let mut hyper: IndexMap<String, Json> =
            group.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        hyper.shift_remove("params");
        let own = hyper.shift_remove("step").filter(|step| !step.is_null());
        let step = step.cloned().or(own);
        groups.push(Group { hyper, step, ..Group::default() });
    }
}

/// Names the parameters of each group.
///
/// # Errors
/// A parameter of which the rule does not say where it is; no group has any then.
fn assign(groups: &mut [Group], inventory: &Inventory) -> Result<(), String> {
    let states = inventory.tensors.iter().filter(|tensor| tensor.state != "param");
    let trained: IndexMap<&str, &[u64]> =
        states.map(|tensor| (tensor.name.as_str(), tensor.shape.as_slice())).collect();
    let said = |key: &str| inventory.documents.get("args").and_then(|args| args.get(key));
    // Learning rates of their own are told by the flag, since core 0.16 by their number alone.
    let own_rate = said("decoupled_lr").filter(|rate| rate.is_number());
    let hyper = groups.iter().map(|group| {
        let mut hyper = group.hyper.clone();
        let flag = hyper.get("is_decoupled_lr").is_some_and(|flag| *flag == Json::Bool(true));
        if own_rate.is_some() {
            let own = flag || hyper.get("max_lr") == own_rate;
            hyper.insert("is_decoupled_lr".to_owned(), Json::Bool(own));
        }
        hyper
    });
    let hyper: Vec<_> = hyper.collect();
    let kinds = Kinds::of(hyper.iter());
    let norms_decay = said("apply_wd_to_qk_layernorm") == Some(&Json::Bool(true));
    let of_heads = |name: &str| name.contains("q_layernorm.") || name.contains("k_layernorm.");
    // Groups that differ in what the rule does not know could each have any parameter.
    let open = groups.iter().map(|group| group.hyper.get("lr_mult")).collect::<IndexSet<_>>();
    let mut members: Vec<Vec<String>> = vec![Vec::new(); groups.len()];
    for (name, shape) in trained {
        let flat = is_flat(name, shape) && !(norms_decay && of_heads(name));
        let known = kinds.of_name(name, flat).filter(|_| open.len() == 1);
        members[known.ok_or_else(|| name.to_owned())?].push(name.to_owned());
    }
    for (group, members) in groups.iter_mut().zip(members) {
        group.params = members;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::tell;
    use crate::inventory::{Data, Inventory, Mesh, Role, Stored};
    use serde_json::{Value as Json, json};
    use ucl_tensor::DType;

    fn inventory(args: Json) -> Inventory {
        let mut inventory = Inventory::default();
        let tensors: [(&str, &[u64]); 5] = [
            ("embedding.word_embeddings.weight", &[8, 4]),
            ("decoder.layers.self_attention.q_layernorm.weight", &[2, 4]),
            ("decoder.layers.self_attention.linear_qkv.weight", &[2, 4, 4]),
            ("decoder.layers.mlp.experts.experts.linear_fc2.weight", &[2, 2, 4, 4]),
            ("decoder.final_layernorm.weight", &[4]),
        ];
        for (name, shape) in tensors {
            inventory.tensors.push(Stored {
                name: name.to_owned(),
                state: "exp_avg".to_owned(),
                dtype: DType::F32,
                shape: shape.to_vec(),
                at: Mesh::new(),
                role: Role::Trained,
                data: Data::Strided { file: 0, offset: 0, strides: vec![] },
            });
        }
        inventory.documents.insert("args".to_owned(), args.as_object().unwrap().clone());
        inventory
    }

    /// The tensors of each group, by their numbers.
    fn told(optimizer: &Json, args: Json) -> (Vec<Vec<usize>>, Vec<String>) {
        let mut inventory = inventory(args);
        tell(optimizer, &mut inventory);
        let number = |name: &String| inventory.tensors.iter().position(|t| t.name == *name);
        let groups = &inventory.optimizer.as_ref().unwrap().groups;
        let members = groups.iter().map(|group| group.params.iter().filter_map(number).collect());
        (members.collect(), inventory.notes.clone())
    }

    fn optimizer(groups: Json) -> Json {
        json!({"optimizer": {"param_groups": groups}})
    }

    #[test]
    fn vectors_do_not_decay_whatever_is_stacked_in_front() {
        let of = optimizer(json!([{"wd_mult": 1.0}, {"wd_mult": 0.0}]));
        let (members, notes) = told(&of, json!({}));
        assert_eq!(members, [vec![0, 2, 3], vec![1, 4]]);
        assert!(notes[0].contains("Megatron's own rule"), "{notes:?}");
        let decays = json!({"apply_wd_to_qk_layernorm": true});
        assert_eq!(told(&of, decays).0, [vec![0, 1, 2, 3], vec![4]]);
    }

    #[test]
    fn experts_and_learning_rates_of_their_own_are_told_apart() {
        let dense = json!([
            {"wd_mult": 1.0, "is_expert_parallel": false, "max_lr": 0.1},
            {"wd_mult": 0.0, "is_expert_parallel": false, "max_lr": 0.1},
            {"wd_mult": 1.0, "is_expert_parallel": false, "max_lr": 0.2},
        ]);
        let experts = json!([{"wd_mult": 1.0, "is_expert_parallel": true, "max_lr": 0.1}]);
        let chained = json!({"0": optimizer(dense), "1": optimizer(experts)});
        let (members, _) = told(&chained, json!({"decoupled_lr": 0.2}));
        assert_eq!(members, [vec![2], vec![1, 4], vec![0], vec![3]]);
        // No argument tells what the third group is for.
        let (members, notes) = told(&chained, json!({}));
        assert!(members.iter().all(Vec::is_empty), "{members:?}");
        assert!(notes[0].contains("leaves it open"), "{notes:?}");
    }

    #[test]
    fn what_the_rule_does_not_know_is_left_open() {
        let of =
            optimizer(json!([{"wd_mult": 1.0, "lr_mult": 1.0}, {"wd_mult": 0.0, "lr_mult": 2.0}]));
        assert!(told(&of, json!({})).0.iter().all(Vec::is_empty));
        let one = optimizer(json!([{"wd_mult": 1.0}]));
        assert_eq!(told(&one, json!({})), (vec![vec![0, 1, 2, 3, 4]], vec![]));
    }
}
