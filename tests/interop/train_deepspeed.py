"""A small run of DeepSpeed on the CPU, started by torchrun: trains from a seed or from a checkpoint, saves, and
writes the loss of every step. All ranks see one global batch, so that runs on other numbers of ranks agree."""

import argparse
import json
import os
import sys

import torch
import torch.distributed as dist
from torch import nn

HIDDEN, VOCABULARY, GLOBAL_BATCH, LENGTH = 24, 61, 8, 12


class Model(nn.Module):
    """A tied embedding, a frozen layer, a buffer, and sizes that do not divide. `plain` has neither of the two
    in the middle."""

    def __init__(self, plain=False):
        super().__init__()
        self.plain = plain
        self.embed = nn.Embedding(VOCABULARY, HIDDEN)
        if not plain:
            self.frozen = nn.Linear(HIDDEN, HIDDEN)
            self.frozen.requires_grad_(False)
            self.register_buffer("scale", torch.tensor([1.5, 0.5, 2.0]))
        self.up = nn.Linear(HIDDEN, 53)
        self.down = nn.Linear(53, HIDDEN)
        self.norm = nn.LayerNorm(HIDDEN)
        self.head = nn.Linear(HIDDEN, VOCABULARY, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens):
        hidden = self.embed(tokens[:, :-1])
        if not self.plain:
            hidden = hidden + self.frozen(hidden) * self.scale[0].to(hidden.dtype)
        hidden = self.norm(hidden + self.down(torch.nn.functional.gelu(self.up(hidden))))
        logits = self.head(hidden)
        return nn.functional.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten())


class Mixture(nn.Module):
    """Experts of DeepSpeed's own, a token to one of them; none is dropped, so that a batch may be shared out anyhow.
    Each begins by its number over all ranks."""

    def __init__(self, experts, ranks):
        super().__init__()
        from deepspeed.moe.layer import MoE

        expert = nn.Sequential(nn.Linear(HIDDEN, 19), nn.GELU(), nn.Linear(19, HIDDEN))
        self.norm = nn.LayerNorm(HIDDEN)
        self.moe = MoE(HIDDEN, expert, num_experts=experts, ep_size=ranks, k=1, use_rts=False, drop_tokens=False)
        first = dist.get_rank() % ranks * (experts // ranks)
        for number, expert in enumerate(self.moe.deepspeed_moe.experts.deepspeed_experts):
            draw = torch.Generator().manual_seed(first + number)
            for value in expert.parameters():
                value.data = torch.randn(value.shape, generator=draw) * 0.3

    def forward(self, hidden):
        return hidden + self.moe(self.norm(hidden))[0]


class MixedModel(nn.Module):
    """Two mixtures of different sizes between an embedding and a head."""

    def __init__(self, ranks):
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, HIDDEN)
        self.layers = nn.ModuleList([Mixture(4, ranks), Mixture(8, ranks)])
        self.head = nn.Linear(HIDDEN, VOCABULARY)

    def forward(self, tokens):
        hidden = self.embed(tokens[:, :-1])
        for layer in self.layers:
            hidden = layer(hidden)
        return nn.functional.cross_entropy(self.head(hidden).flatten(0, 1).float(), tokens[:, 1:].flatten())


class CutModel(nn.Module):
    """A Llama of transformers, which DeepSpeed's AutoTP cuts: it knows its layers by name."""

    def __new__(cls):
        import transformers

        made = transformers.LlamaConfig(
            vocab_size=VOCABULARY, hidden_size=HIDDEN, intermediate_size=53, num_hidden_layers=2,
            num_attention_heads=6, num_key_value_heads=2, tie_word_embeddings=False, use_cache=False,
        )
        return transformers.LlamaForCausalLM(made)


class StackedModel(nn.Module):
    """A Mixtral of transformers, whose experts DeepSpeed's AutoEP puts into stacks."""

    def __new__(cls):
        import transformers
        import transformers.utils.output_capturing as capturing

        registry = getattr(capturing, "_CanRecordRegistry", None)
        if registry is not None:  # AutoEP gives it a default, which some releases do not take
            ask = registry.get
            registry.get = lambda self, model, default=None: ask(self, model)
        made = transformers.MixtralConfig(
            vocab_size=VOCABULARY, hidden_size=HIDDEN, intermediate_size=19, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2,
            max_position_embeddings=LENGTH, use_cache=False,
        )
        return transformers.MixtralForCausalLM(made).float()


def config(args, ranks):
    """`ranks` are those that share a batch."""
    made = {
        "train_micro_batch_size_per_gpu": GLOBAL_BATCH // ranks,
        # The norm of experts' gradients is not the same over other ranks.
        "gradient_clipping": 0.0 if args.expert_ranks or args.stack_ranks else 1.0,
        "steps_per_print": 10**9,
        "zero_force_ds_cpu_optimizer": False,
        "zero_optimization": {
            "stage": args.stage,
            "reduce_bucket_size": 4096,
            "allgather_bucket_size": 4096,
            "stage3_param_persistence_threshold": 10,
            "sub_group_size": args.sub_group_size,
        },
    }
    if args.dtype == "bf16":
        made["bf16"] = {"enabled": True}
    if args.bf16_optimizer:
        made["data_types"] = {"grad_accum_dtype": "fp32"}
    if args.tensor_parallel:
        made["tensor_parallel"] = {"autotp_size": args.tensor_parallel}
    if args.stack_ranks:
        stacks = {"enabled": True, "autoep_size": args.stack_ranks, "preset_model": "mixtral"}
        made["expert_parallel"] = {**stacks, "use_grouped_mm": False}
    if args.tensor_parallel or args.stack_ranks:  # they replace parameters, so the engine has to make the optimizer
        adam = {"lr": 3e-3, "betas": [0.9, 0.95], "weight_decay": 0.1, "torch_adam": True}
        made["optimizer"] = {"type": "AdamW", "params": adam}
    if args.universal:
        made["checkpoint"] = {"load_universal": True}
    return made


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--stage", type=int, required=True)
    parser.add_argument("--dtype", default="fp32")
    parser.add_argument("--bf16-optimizer", action="store_true")
    parser.add_argument("--sub-group-size", type=int, default=10**9)
    parser.add_argument("--universal", action="store_true")
    parser.add_argument("--plain", action="store_true", help="nothing is frozen, and all weights decay")
    parser.add_argument("--tensor-parallel", type=int, help="a Llama, cut by AutoTP over so many ranks")
    parser.add_argument("--expert-ranks", type=int, help="mixtures of experts, shared out over so many ranks")
    parser.add_argument("--stack-ranks", type=int, help="a Mixtral with AutoEP's stacks of experts over so many ranks")
    parser.add_argument("--load")
    parser.add_argument("--save")
    parser.add_argument("--save-at", type=int, default=3)
    parser.add_argument("--steps", type=int, required=True, help="the step to train up to")
    parser.add_argument("--losses", required=True)
    args = parser.parse_args()

    import deepspeed

    deepspeed.init_distributed("gloo")
    rank, ranks = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(7)
    if args.expert_ranks:
        model = MixedModel(args.expert_ranks)
    elif args.stack_ranks:
        model = StackedModel()
    else:
        model = CutModel() if args.tensor_parallel else Model(args.plain)
    of_transformers = args.tensor_parallel or args.stack_ranks
    if args.load:  # nothing may be left of how it starts
        for value in list(model.parameters()) + ([] if of_transformers else list(model.buffers())):
            value.data.fill_(0.125)
    trained = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
    groups = [
        {"params": [value for _, value in trained if value.dim() > 1], "weight_decay": 0.1},
        {"params": [value for _, value in trained if value.dim() < 2], "weight_decay": 0.0},
    ]
    if args.expert_ranks:
        from deepspeed.moe.utils import split_params_into_different_moe_groups_for_optimizer as split

        groups = split([{**group, "name": name} for group, name in zip(groups, ("matrices", "vectors"))])
    if args.plain:
        groups = [{"params": [value for _, value in trained], "weight_decay": 0.1}]
    falling = lambda optimizer: torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    cut = args.tensor_parallel or 1
    if of_transformers:
        given = {"model_parameters": list(model.parameters()), "lr_scheduler": falling}
    else:
        optimizer = torch.optim.AdamW(groups, lr=3e-3, betas=(0.9, 0.95))
        given = {"optimizer": optimizer, "lr_scheduler": falling(optimizer)}
    engine, _, _, _ = deepspeed.initialize(model=model, config=config(args, ranks // cut), **given)
    done = 0
    if args.load:
        path, state = engine.load_checkpoint(args.load)
        assert path is not None, f"nothing was loaded from {args.load}"
        assert state["note"] == "as it was", state
        done = engine.global_steps
    losses = {}
    share = GLOBAL_BATCH * cut // ranks
    for step in range(done, args.steps):
        if args.save and step == args.save_at:
            engine.save_checkpoint(args.save, client_state={"note": "as it was"})
        draw = torch.Generator().manual_seed(100 + step)
        tokens = torch.randint(VOCABULARY, (GLOBAL_BATCH, LENGTH), generator=draw)
        own = tokens[rank // cut * share : (rank // cut + 1) * share]
        loss = engine(input_ids=own, labels=own).loss if of_transformers else engine(own)
        mean = loss.detach().clone().float()
        dist.all_reduce(mean)
        losses[step] = mean.item() / ranks
        engine.backward(loss)
        engine.step()
    if rank == 0:
        with open(args.losses, "w") as file:
            json.dump({"losses": losses, "lr": engine.get_lr()}, file)


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)
