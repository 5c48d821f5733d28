//! Megatron's arguments: the source's own made to fit, or those that the dims tell.

use super::size;
use crate::dcp::torch_dist::Optimizer;
use crate::target::{Draft, Run};
use crate::torch::NodeId;
use serde_json::{Map, Value, json};
use ucl_tensor::DType;

/// In which format they stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `torch`.
    Torch,
    /// `torch_dist`, and the optimizer that goes on.
    TorchDist(Optimizer),
}

/// The arguments of a rank of a run; nothing where no reader would know what they say.
pub(crate) fn fit(
    draft: &mut Draft,
    run: &Run<'_>,
    carried: Option<NodeId>,
    (tp, pp, ep): (u64, u64, u64),
    kind: Kind,
) -> Option<NodeId> {
    let (mut said, dtype) = (mesh(run, kind), own_type(run));
    // Tensor ranks count fastest, stages slowest.
    let rank = tp + size(run, "tp") * (ep + pp * data_ranks(run));
    said.insert("rank".to_owned(), rank.into());
    let half = |wanted: DType| Value::from(dtype == Some(wanted));
    said.insert("bf16".to_owned(), half(DType::BF16));
    said.insert("fp16".to_owned(), half(DType::F16));
    let layers = |args: Option<&Value>| args.and_then(Value::as_u64);
    let node = match (carried, &run.args) {
        (Some(args), _) => {
            let state = draft.pickle.value(args).state();
            let count = state.and_then(|state| state.get("num_layers")?.as_u64());
            let other = state.is_none_or(|state| state.get(EXPERTS).is_none());
            said.insert(PER_STAGE.to_owned(), per_stage(run, count));
            draft.set(args, &said);
            if other {
                lacking(draft, args, [run.args.as_ref(), Some(&said)]);
            }
            args
        }
        (None, Some(made)) => {
            said.insert(PER_STAGE.to_owned(), per_stage(run, layers(made.get("num_layers"))));
            let mut args = made.clone();
            args.extend(said);
            let attributes: Vec<(String, NodeId)> =
                args.iter().map(|(key, value)| (key.clone(), draft.json(value))).collect();
            draft.namespace(attributes)
        }
        (None, None) => return None,
    };
    if let Some(dtype) = dtype.and_then(|dtype| draft.pickle.dtype(dtype)) {
        draft.attribute(node, "params_dtype", dtype);
    }
    Some(node)
}

/// What Megatron-core's arguments say, and others do not.
const EXPERTS: &str = "expert_model_parallel_size";

/// Adds what another framework's arguments do not say to Megatron's reader.
fn lacking<'a>(
    draft: &mut Draft,
    args: NodeId,
    said: impl IntoIterator<Item = Option<&'a Map<String, Value>>>,
) {
    for (key, value) in said.into_iter().flatten().flatten().filter(|(_, value)| !value.is_null()) {
        if draft.held(args, key).is_none() {
            let value = draft.json(value);
            draft.attribute(args, key, value);
        }
    }
}

/// The layers of a virtual stage, where there are any.
const PER_STAGE: &str = "num_layers_per_virtual_pipeline_stage";

fn per_stage(run: &Run<'_>, layers: Option<u64>) -> Value {
    let (pp, vpp) = (size(run, "pp"), size(run, "vpp"));
    match layers {
        Some(layers) if vpp > 1 => Value::from(layers / (pp * vpp)),
        _ => Value::Null,
    }
}

/// How Megatron is told the layers of stages that are not even: by those of the first and the last where
/// that tells all, else by a layout of the pipeline.
fn uneven(run: &Run<'_>) -> Map<String, Value> {
    let [first, between @ .., last] = run.stages.as_slice() else { return Map::new() };
    let even = between.windows(2).all(|two| two[0] == two[1]);
    let said = if !even || size(run, "vpp") > 1 {
        let stage = |(number, layers): (usize, &u64)| {
            let embedding = if number == 0 { "E" } else { "" };
            let loss = if number + 1 == run.stages.len() { "L" } else { "" };
            format!("{embedding}{}{loss}", "t".repeat(usize::try_from(*layers).unwrap_or(0)))
        };
        let stages: Vec<String> = run.stages.iter().enumerate().map(stage).collect();
        json!({"pipeline_model_parallel_layout": stages.join("|")})
    } else {
        let last = between.first().map(|_| last);
        json!({"decoder_first_pipeline_num_layers": first, "decoder_last_pipeline_num_layers": last})
    };
    said.as_object().cloned().unwrap_or_default()
}

/// What follows from the mesh. What the source said of its stages says nothing.
fn mesh(run: &Run<'_>, kind: Kind) -> Map<String, Value> {
    let (tp, pp, ep, vpp) = (size(run, "tp"), size(run, "pp"), size(run, "ep"), size(run, "vpp"));
    let dp = data_ranks(run);
    let dist = matches!(kind, Kind::TorchDist(_));
    let distributed = kind == Kind::TorchDist(Optimizer::Distributed);
    let said = json!({
        "tensor_model_parallel_size": tp,
        "pipeline_model_parallel_size": pp,
        "transformer_pipeline_model_parallel_size": pp,
        "expert_model_parallel_size": ep,
        "expert_tensor_parallel_size": run.mesh.get("etp").copied().unwrap_or(tp),
        "virtual_pipeline_model_parallel_size": (vpp > 1).then_some(vpp),
        "num_virtual_stages_per_pipeline_rank": null,
        "pipeline_model_parallel_layout": null,
        "decoder_first_pipeline_num_layers": null,
        "decoder_last_pipeline_num_layers": null,
        "num_layers_in_first_pipeline_stage": null,
        "num_layers_in_last_pipeline_stage": null,
        "account_for_embedding_in_pipeline_split": false,
        "account_for_loss_in_pipeline_split": false,
        "context_parallel_size": 1,
        "data_parallel_size": dp,
        "world_size": tp * pp * dp,
        "use_distributed_optimizer": distributed,
        "dist_ckpt_optim_fully_reshardable": distributed,
        "use_dist_ckpt": dist,
        "ckpt_format": if dist { "torch_dist" } else { "torch" },
    });
    let mut said = said.as_object().cloned().unwrap_or_default();
    said.extend(uneven(run));
    said.extend(run.padded_vocab.map(|size| ("padded_vocab_size".to_owned(), size.into())));
    said
}

/// The ranks that share data out; expert ranks are among them.
fn data_ranks(run: &Run<'_>) -> u64 {
    size(run, "dp").max(size(run, "ep"))
}

/// The type of the weights: that of the first matrix.
fn own_type(run: &Run<'_>) -> Option<DType> {
    let mut held = run.ranks.iter().flat_map(|rank| &rank.tensors);
    held.find(|held| held.shape.len() > 1 && held.dtype.is_float()).map(|held| held.dtype)
}
