//! AutoEP's stacks of experts, and what a run says of them (`ds_autoep_layers`).

use super::{Experts, Mixtures, Seat, expert_ranks};
use crate::deepspeed::experts::Stacked;
use crate::deepspeed::write::partitioned::SubGroups;
use crate::deepspeed::write::{Place, Zero, size};
use crate::target::{Draft, Run};
use crate::torch::{NodeId, Value};
use indexmap::IndexMap;
use serde_json::{Value as Json, json};

/// Where a model file has it, and where once.
const LAYERS: [&str; 2] = ["ds_autoep_layers", "autoep_layers"];

/// What a run says of itself to the converters.
const INFO: &str = "universal_checkpoint_info";

impl Mixtures {
    /// Puts them in the order in which the source numbers its stacks.
    pub(super) fn in_order_of(&mut self, stacks: &[Stacked]) {
        let place = |name: &str| stacks.iter().position(|stack| stack.mixture == name);
        let mut order: Vec<usize> = (0..self.mixtures.len()).collect();
        order.sort_by_key(|number| place(&self.mixtures[*number].name));
        let mut new = vec![0; order.len()];
        for (at, number) in order.into_iter().enumerate() {
            new[number] = at;
        }
        let mut at = 0..;
        self.mixtures.sort_by_cached_key(|_| at.next().map(|at: usize| new[at]));
        for seated in self.experts.values_mut() {
            seated.mixture = new[seated.mixture];
        }
    }
}

impl Experts {
    /// Makes what a model file says of AutoEP's layers true of the rank that it is of.
    pub(in crate::deepspeed::write) fn tell(
        &self,
        draft: &mut Draft,
        (run, place, dp, zero): (&Run<'_>, &Place<'_>, u64, Zero),
        entries: &mut IndexMap<String, NodeId>,
    ) {
        if !self.stacked {
            return;
        }
        let known = LAYERS.iter().find_map(|key| {
            let node = *entries.get(*key)?;
            draft.pickle.value(node).items().is_some().then_some(node)
        });
        let Some(known) = known else { return };
        let told = draft.pickle.value(known).items();
        let layers: Vec<NodeId> = told.into_iter().flatten().map(Value::id).collect();
        let mut kept = Vec::new();
        for layer in layers {
            let name = draft.pickle.value(layer).get("expert_key_prefix");
            let name = name.and_then(|name| name.as_str().map(str::to_owned));
            let mixtures = self.ranks.get(place.at).into_iter().flat_map(|rank| &rank.mixtures);
            let here = mixtures.enumerate().find(|(_, m)| Some(&m.name) == name.as_ref());
            let Some((number, mixture)) = here else { continue };
            let seat = self.seat(run, place, dp, mixture.ranks);
            let own = Layer { number, count: mixture.count, seat, zero };
            own.tell(draft, layer, self.shapes(run, place, number));
            kept.push(layer);
        }
        let layers = draft.pickle.list(kept);
        entries.shift_remove(LAYERS[1]);
        entries.insert(LAYERS[0].to_owned(), layers);
        let info = entries.get(INFO).copied();
        if let Some(info) = info.filter(|info| draft.pickle.value(*info).get(LAYERS[0]).is_some()) {
            draft.attribute(info, LAYERS[0], layers);
        }
        if let Some(config) = entries.get("ds_config").copied() {
            let config = draft.pickle.value(config).get("expert_parallel").map(Value::id);
            let said = json!({"autoep_size": size(run, "ep")});
            if let (Some(config), Json::Object(said)) = (config, said) {
                draft.set(config, &said);
            }
        }
    }

    /// The names and shapes of a mixture's stacks, over all ranks.
    fn shapes(&self, run: &Run<'_>, place: &Place<'_>, mixture: usize) -> Vec<(String, Vec<u64>)> {
        let of = self.ranks[place.at].experts.iter().filter(|(_, s)| s.mixture == mixture);
        let held = of.map(|(tensor, _)| &run.ranks[place.at].tensors[*tensor]);
        held.map(|held| (held.name.clone(), held.shape.clone())).collect()
    }

    /// Which ranks share each sub-group of ZeRO-3 (`ds_zero_partition_groups`).
    pub(in crate::deepspeed::write) fn sharing_of(
        &self,
        (run, place): (&Run<'_>, &Place<'_>),
        laid: &SubGroups,
    ) -> Option<Json> {
        let shares = laid.shares().iter().enumerate().map(|(number, share)| {
            let group = laid.group(number);
            let ep = expert_ranks(&run.groups[group]);
            let ranks: Vec<u64> = (0..size(run, "dp"))
                .filter(|dp| {
                    let seat = |dp| ep.map(|ep| self.seat(run, place, dp, ep).expert_rank);
                    seat(*dp) == share.expert_rank
                })
                .collect();
            let (family, name) = match ep {
                Some(ep) => ("autoep_expert", format!("{}{ep}", super::NAME)),
                None => ("replicated", "replicated".to_owned()),
            };
            json!({
                "sub_group": number, "partition_count": share.parts, "partition_rank": share.part,
                "partition_ranks": ranks, "families": [family], "group_names": [name],
            })
        });
        self.stacked.then(|| shares.collect())
    }
}

/// A layer of AutoEP on a rank.
struct Layer {
    number: usize,
    count: u64,
    seat: Seat,
    zero: Zero,
}

impl Layer {
    fn tell(&self, draft: &mut Draft, entry: NodeId, stacks: Vec<(String, Vec<u64>)>) {
        let Seat { expert_rank, expert_ranks: ep, part, parts } = self.seat;
        let each = self.count / ep;
        let ranks = (0..ep).map(|rank| {
            let experts: Vec<u64> = (rank * each..(rank + 1) * each).collect();
            json!({"rank": rank, "experts": experts})
        });
        let ranks: Vec<Json> = ranks.collect();
        let (format, version) = match self.zero {
            Zero::Three { .. } => ("zero3_partitioned", json!(1)),
            _ => ("per_expert_files", Json::Null),
        };
        let said = json!({
            "moe_layer_id": self.number, "num_local_experts": each, "ep_size": ep,
            "expert_placement": {
                "version": 1, "num_experts": self.count, "ep_size": ep, "ranks": ranks,
            },
            "checkpoint_format": format, "checkpoint_format_version": version,
            "ep_group_name": format!("{}{ep}", super::NAME), "ep_rank": expert_rank,
            "expert_data_parallel_rank": part, "expert_data_parallel_world_size": parts,
            "global_expert_start": expert_rank * each, "global_expert_end": (expert_rank + 1) * each,
        });
        for (key, value) in said.as_object().into_iter().flatten() {
            let value = draft.json(value);
            draft.attribute(entry, key, value);
        }
        // Later releases say where in the stack each rank's rows are, too.
        if draft.pickle.value(entry).get("affine_maps").is_some() {
            let maps = self.maps(draft, stacks);
            draft.attribute(entry, "affine_maps", maps);
        }
    }

    /// `affine_maps`: of each stack, the rows that each rank has.
    fn maps(&self, draft: &mut Draft, stacks: Vec<(String, Vec<u64>)>) -> NodeId {
        let ep = self.seat.expert_ranks;
        let mut params = Vec::with_capacity(stacks.len());
        for (name, shape) in stacks {
            let own = [&[shape[0] / ep], &shape[1..]].concat();
            let strides = crate::inventory::row_major(&own);
            let mut ranks = Vec::new();
            for rank in 0..ep {
                let first = rank * own.iter().product::<u64>();
                let piece = json!({
                    "shape": own, "source": [first, strides], "dest": [0, strides], "locations": [rank],
                });
                let map = draft.json(&json!({"shard_shape": own, "pieces": [piece]}));
                ranks.push((draft.json(&rank.into()), map));
            }
            let (shape, ranks) = (draft.json(&shape.into()), draft.pickle.dict(ranks));
            let map = vec![("logical_shape".to_owned(), shape), ("ranks".to_owned(), ranks)];
            params.push((name, draft.dict(map)));
        }
        let (version, params) = (draft.pickle.int(1), draft.dict(params));
        draft.dict(vec![("version".to_owned(), version), ("params".to_owned(), params)])
    }
}
