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


class CutModel(nn.Module):
    """A Llama of transformers, which DeepSpeed's AutoTP cuts: it knows its layers by name."""

    def __new__(cls):
        import transformers

        made = transformers.LlamaConfig(
            vocab_size=VOCABULARY, hidden_size=HIDDEN, intermediate_size=53, num_hidden_layers=2,
            num_attention_heads=6, num_key_value_heads=2, tie_word_embeddings=False, use_cache=False,
        )
        return transformers.LlamaForCausalLM(made)


def config(args, ranks):
    """`ranks` are those that share a batch."""
    made = {
        "train_micro_batch_size_per_gpu": GLOBAL_BATCH // ranks,
        "gradient_clipping": 1.0,
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
    if args.tensor_parallel:  # it replaces parameters, so the engine has to make the optimizer
        made["tensor_parallel"] = {"autotp_size": args.tensor_parallel}
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
    model = CutModel() if args.tensor_parallel else Model(args.plain)
    if args.load:  # nothing may be left of how it starts
        for value in list(model.parameters()) + ([] if args.tensor_parallel else list(model.buffers())):
            value.data.fill_(0.125)
    trained = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
    groups = [
        {"params": [value for _, value in trained if value.dim() > 1], "weight_decay": 0.1},
        {"params": [value for _, value in trained if value.dim() < 2], "weight_decay": 0.0},
    ]
    if args.plain:
        groups = [{"params": [value for _, value in trained], "weight_decay": 0.1}]
    falling = lambda optimizer: torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    cut = args.tensor_parallel or 1
    if args.tensor_parallel:
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
        loss = engine(input_ids=own, labels=own).loss if args.tensor_parallel else engine(own)
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
