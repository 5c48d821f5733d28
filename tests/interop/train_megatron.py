"""A small run of Megatron-core on the CPU, started by torchrun: builds the GPT model that a checkpoint's arguments
describe, loads model and optimizer with Megatron-core's own loaders, trains on, and writes the losses and norms of
the steps. Tensor parallel over all ranks."""

import argparse
import contextlib
import json
import os
import pathlib
import sys

import torch
import torch.nn.functional as F

# Megatron-core asks for CUDA where it needs nothing of it.
from torch.overrides import TorchFunctionMode


class OnCpu(TorchFunctionMode):
    """Makes what is asked for on a GPU here."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if "cuda" in str(kwargs.get("device", "")):
            kwargs["device"] = "cpu"
        return function(*args, **kwargs)


def on_cpu():
    torch.set_num_threads(1)
    torch.cuda.current_device = lambda: "cpu"
    torch.cuda.synchronize = lambda *_: None
    torch.cuda.is_initialized = lambda: False
    torch.Tensor.cuda = lambda self, *_, **__: self
    plain, empty = torch.Tensor.type, torch.empty

    def named(self, *args, **kwargs):
        found = plain(self, *args, **kwargs)
        text = isinstance(found, str) and "cuda" not in found
        return found.replace("torch.", "torch.cuda.") if text else found

    torch.Tensor.type = named
    # Newer releases of torch list strides among a tensor's properties, which core 0.16.1 does not know.
    torch.empty = lambda *args, strides=None, **kwargs: empty(*args, **kwargs)
    OnCpu().__enter__()


on_cpu()

from megatron.core import dist_checkpointing, parallel_state  # noqa: E402
from megatron.core.dist_checkpointing.mapping import ShardedObject  # noqa: E402
from megatron.core.dist_checkpointing.validation import StrictHandling  # noqa: E402
from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig  # noqa: E402
from megatron.core.models.gpt import GPTModel  # noqa: E402
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec  # noqa: E402
from megatron.core.optimizer import OptimizerConfig, get_megatron_optimizer  # noqa: E402
from megatron.core.optimizer.distrib_optimizer import DistributedOptimizer  # noqa: E402
from megatron.core.tensor_parallel import random  # noqa: E402
from megatron.core.transformer import TransformerConfig  # noqa: E402
from megatron.core.transformer.moe import moe_utils  # noqa: E402

# Core 0.16.1 asks for it where Transformer Engine is missing too.
moe_utils.te_general_gemm = None
random.CudaRNGStatesTracker.fork = lambda *_, **__: contextlib.nullcontext()

distributed_states = DistributedOptimizer._set_main_param_and_optimizer_states


def without_step(self, param, tensors):
    """Torch's Adam keeps a step with each parameter, which fused ones do not, and core loads states for these: it
    would look for the step among the tensors, and has put one that all parameters count up."""
    group, place = self.model_param_group_index_map[param]
    states = self.optimizer.state[self.optimizer.param_groups[group]["params"][place]]
    step = states.pop("step")
    distributed_states(self, param, tensors)
    states["step"] = step.clone()


DistributedOptimizer._set_main_param_and_optimizer_states = without_step

LENGTH = 16
METADATA = {"singleton_local_shards": False, "chained_optim_avoid_prefix": True}
RESHARDABLE = {
    **METADATA, "distrib_optim_sharding_type": "fully_reshardable", "distrib_optim_fully_reshardable_mem_efficient": False
}


def build(said, ranks, dtype, distributed):
    experts = getattr(said, "num_experts", None)
    mixture = {} if not experts else dict(
        num_moe_experts=experts,
        moe_ffn_hidden_size=said.moe_ffn_hidden_size,
        moe_router_topk=said.moe_router_topk,
        moe_router_load_balancing_type="none",
        moe_token_dispatcher_type="allgather",
        expert_model_parallel_size=parallel_state.get_expert_model_parallel_world_size(),
    )
    config = TransformerConfig(
        num_layers=said.num_layers,
        hidden_size=said.hidden_size,
        ffn_hidden_size=said.ffn_hidden_size,
        num_attention_heads=said.num_attention_heads,
        num_query_groups=said.num_query_groups if said.group_query_attention else None,
        kv_channels=said.kv_channels,
        gated_linear_unit=said.swiglu,
        activation_func=F.silu if said.swiglu else F.gelu,
        add_bias_linear=said.add_bias_linear,
        add_qkv_bias=said.add_qkv_bias,
        normalization=said.normalization,
        layernorm_epsilon=getattr(said, "layernorm_epsilon", 1e-5),
        hidden_dropout=0.0,
        attention_dropout=0.0,
        tensor_model_parallel_size=ranks,
        use_cpu_initialization=True,
        bf16=dtype == torch.bfloat16,
        params_dtype=dtype,
        pipeline_dtype=dtype,
        bias_activation_fusion=False,
        bias_dropout_fusion=False,
        masked_softmax_fusion=False,
        persist_layer_norm=False,
        gradient_accumulation_fusion=False,
        apply_rope_fusion=False,
        **mixture,
    )
    layer = get_gpt_layer_local_spec(num_experts=experts, normalization=said.normalization)
    if experts:
        # Layers of Transformer Engine, which real runs have, keep this name where there are experts.
        layer.submodules.sharded_state_dict_keys_map.pop("pre_mlp_layernorm.")
    model = GPTModel(
        config,
        layer,
        vocab_size=said.padded_vocab_size,
        max_sequence_length=getattr(said, "max_position_embeddings", LENGTH),
        position_embedding_type=said.position_embedding_type,
        rotary_base=getattr(said, "rotary_base", 10000),
        share_embeddings_and_output_weights=not said.untie_embeddings_and_output_weights,
    ).to(dtype)
    data_parallel = DistributedDataParallel(
        config, DistributedDataParallelConfig(use_distributed_optimizer=distributed), model
    )
    optimizer = get_megatron_optimizer(
        OptimizerConfig(
            optimizer="adam", lr=0.01, min_lr=0.0001, weight_decay=0.1, adam_beta1=0.9, adam_beta2=0.95, clip_grad=1.0,
            bf16=dtype == torch.bfloat16, params_dtype=dtype, use_distributed_optimizer=distributed,
        ),
        [data_parallel],
    )
    return model, data_parallel, optimizer


def load_torch(state, model, optimizer):
    model.load_state_dict(state["model"], strict=True)
    if "optimizer" in state:
        optimizer.load_state_dict(state["optimizer"])


def load_sharded(folder, args, model, optimizer):
    """`strict` takes no entry too few and none too many."""
    metadata = {**dist_checkpointing.load_content_metadata(str(folder)), "dp_cp_group": data_ranks()}
    whole = model.sharded_state_dict(metadata=metadata)
    if args.save:
        state = dist_checkpointing.load({"model": whole}, str(folder), strict=StrictHandling.ASSUME_OK_UNEXPECTED)
        model.load_state_dict(state["model"], strict=True)
        optimizer.reload_model_params()
        return
    if args.optimizer == "distributed":
        # Of torch's own Adam, core takes the step from states that there are. All of them are overwritten.
        for one in optimizer.chained_optimizers:
            one._init_optimizer_states_with_dummy_values()
    wanted = {"model": whole, "optimizer": optimizer.sharded_state_dict(whole, is_loading=True, metadata=metadata)}
    if args.strict:
        # Random states are of one mesh.
        wanted["rng_state"] = random_states([])
    strict = StrictHandling.RAISE_ALL if args.strict else StrictHandling.ASSUME_OK_UNEXPECTED
    state = dist_checkpointing.load(wanted, str(folder), strict=strict)
    model.load_state_dict(state["model"], strict=True)
    optimizer.load_state_dict(state["optimizer"])


def data_ranks():
    return parallel_state.get_data_parallel_group(with_context_parallel=True)


def random_states(states):
    ranks, rank = parallel_state.get_tensor_model_parallel_world_size(), parallel_state.get_tensor_model_parallel_rank()
    return ShardedObject("rng_state", states, (1, ranks), (0, rank), replica_id=data_ranks().rank())


def save_sharded(folder, step, said, model, optimizer):
    """As Megatron-LM's `save_checkpoint` does, with the distributed optimizer or without."""
    distributed = said.use_distributed_optimizer
    metadata = {**(RESHARDABLE if distributed else METADATA), "dp_cp_group": data_ranks()}
    whole = model.sharded_state_dict(metadata=metadata)
    said.pipeline_model_parallel_size = said.transformer_pipeline_model_parallel_size = 1
    said.tensor_model_parallel_size = parallel_state.get_tensor_model_parallel_world_size()
    said.data_parallel_size, said.world_size = data_ranks().size(), torch.distributed.get_world_size()
    states = {
        "args": said, "checkpoint_version": 3.0, "iteration": step, "model": whole,
        "optimizer": optimizer.sharded_state_dict(whole, metadata=metadata),
        "rng_state": random_states([{"torch_rng_state": torch.get_rng_state()}]),
    }
    of_step = folder / f"iter_{step:07}"
    of_step.mkdir(parents=True, exist_ok=True)
    torch.distributed.barrier()
    dist_checkpointing.save(states, str(of_step), ("torch_dist", 1), content_metadata=metadata)
    (folder / "latest_checkpointed_iteration.txt").write_text(str(step))


def clear_padding(model, optimizer, vocabulary):
    """Rows that stand for no word become zero, in all that is kept of them."""
    for module in (model.embedding.word_embeddings, model.output_layer):
        first = parallel_state.get_tensor_model_parallel_rank() * module.weight.shape[0]
        main = module.weight.main_param
        moments = [optimizer.chained_optimizers[0].optimizer.state[main][state] for state in ("exp_avg", "exp_avg_sq")]
        for one in (module.weight, main, *moments):
            one.data[max(vocabulary - first, 0) :] = 0


def train(model, optimizer, steps):
    generator = torch.Generator().manual_seed(7)
    position = torch.arange(LENGTH)[None].expand(2, LENGTH)
    mask = torch.triu(torch.ones(LENGTH, LENGTH, dtype=torch.bool), 1)[None, None]
    for _ in range(steps):
        tokens = torch.randint(0, 100, (2, LENGTH + 1), generator=generator)
        model.zero_grad_buffer()
        optimizer.zero_grad()
        inputs, labels = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
        loss = model(inputs, position, mask, labels=labels).float().mean()
        loss.backward()
        model.finish_grad_sync()
        _, norm, _ = optimizer.step()
        yield loss.item(), float(norm)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--load", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--strict", action="store_true")
    parser.add_argument("--tp", type=int, help="tensor ranks, all if not said; the others share the data")
    parser.add_argument("--ep", type=int, default=1, help="expert ranks, among those that share the data")
    parser.add_argument("--optimizer", choices=["plain", "distributed"], default="plain")
    parser.add_argument("--vocabulary", type=int, help="so many rows and no padding")
    parser.add_argument("--clear-padding", action="store_true", help="of the vocabulary, after loading")
    parser.add_argument("--save", type=pathlib.Path, help="begin at the weights, and save here after two more steps")
    parser.add_argument("--logits", action="store_true", help="write the logits of a fixed input and do not train")
    args = parser.parse_args()
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    ranks = args.tp or torch.distributed.get_world_size()
    parallel_state.initialize_model_parallel(
        tensor_model_parallel_size=ranks, expert_model_parallel_size=args.ep, expert_tensor_parallel_size=ranks
    )

    latest = (args.load / "latest_checkpointed_iteration.txt").read_text().strip()
    folder = args.load / (latest if latest == "release" else f"iter_{int(latest):07}")
    sharded = (folder / "common.pt").exists()
    file = folder / "common.pt" if sharded else folder / f"mp_rank_{rank:02}" / "model_optim_rng.pt"
    state = torch.load(file, weights_only=False)
    said = state["args"]
    if args.vocabulary:
        said.vocab_size = args.vocabulary - 1
    # The real run of another mesh says another padding.
    unit = said.make_vocab_size_divisible_by * ranks
    vocabulary = getattr(said, "vocab_size", None)
    if getattr(said, "tokenizer_type", None) == "NullTokenizer":
        said.padded_vocab_size = -(-(vocabulary + 1) // unit) * unit
    model, data_parallel, optimizer = build(said, ranks, said.params_dtype, args.optimizer == "distributed")
    if sharded:
        load_sharded(folder, args, model, optimizer)
    else:
        load_torch(state, model, optimizer)
    if args.clear_padding:
        clear_padding(model, optimizer, said.vocab_size + 1)
    if args.save:
        said.use_distributed_optimizer = args.optimizer == "distributed"
        list(train(data_parallel, optimizer, 2))
        save_sharded(args.save, 2, said, model, optimizer)
    if args.logits:
        tokens = torch.arange(LENGTH)[None] * 5 % 97
        position = torch.arange(LENGTH)[None]
        mask = torch.triu(torch.ones(LENGTH, LENGTH, dtype=torch.bool), 1)[None, None]
        with torch.no_grad():
            found = model(tokens, position, mask).float().tolist()
    else:
        found = list(train(data_parallel, optimizer, args.steps))
    if rank == 0:
        args.out.write_text(json.dumps(found))


if __name__ == "__main__":
    sys.exit(main())
