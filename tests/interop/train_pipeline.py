"""A small run of DeepSpeed's pipeline on the CPU, started by torchrun: trains from a seed or from a checkpoint, saves,
and writes the loss of every step. All pipelines see one global batch, so that runs on other meshes agree."""

import argparse
import json
import os
import sys

import torch
import torch.distributed as dist
from torch import nn

HIDDEN, VOCABULARY, GLOBAL_BATCH, LENGTH = 24, 61, 8, 12


class Block(nn.Module):
    """Layers of different sizes, so that the stages of a pipeline differ too. Only one that is not `plain` has
    frozen parameters and a buffer."""

    def __init__(self, inner, plain):
        super().__init__()
        self.plain = plain
        if not plain:
            self.frozen = nn.Linear(HIDDEN, HIDDEN)
            self.frozen.requires_grad_(False)
            self.register_buffer("scale", torch.tensor([1.5, 0.5, 2.0]))
        self.norm = nn.LayerNorm(HIDDEN)
        self.up = nn.Linear(HIDDEN, inner)
        self.down = nn.Linear(inner, HIDDEN)

    def forward(self, hidden):
        if not self.plain:
            hidden = hidden + self.frozen(hidden) * self.scale[0].to(hidden.dtype)
        return hidden + self.down(nn.functional.gelu(self.up(self.norm(hidden))))


def halved(hidden):
    """A layer without parameters: it counts as one, and has no file."""
    return hidden * 0.5


def head(embedding, hidden):
    return hidden @ embedding.weight.t()


def loss_of(logits, labels):
    return nn.functional.cross_entropy(logits.flatten(0, 1).float(), labels.flatten())


def layers(plain):
    from deepspeed.pipe import LayerSpec, TiedLayerSpec

    return [
        TiedLayerSpec("embed", nn.Embedding, VOCABULARY, HIDDEN),
        LayerSpec(Block, 53, True),
        LayerSpec(Block, 31, plain),
        halved,
        LayerSpec(Block, 47, True),
        LayerSpec(nn.LayerNorm, HIDDEN),
        TiedLayerSpec("embed", nn.Embedding, VOCABULARY, HIDDEN, forward_fn=head),
    ]


def config(args, dp):
    made = {
        "train_micro_batch_size_per_gpu": GLOBAL_BATCH // dp // 2,
        "gradient_accumulation_steps": 2,
        "gradient_clipping": 1.0,
        "steps_per_print": 10**9,
        "zero_force_ds_cpu_optimizer": False,
        "zero_optimization": {"stage": 1, "reduce_bucket_size": 4096, "allgather_bucket_size": 4096},
    }
    if args.bf16_optimizer:
        made["bf16"] = {"enabled": True}
        made["data_types"] = {"grad_accum_dtype": "fp32"}
    if args.universal:
        made["checkpoint"] = {"load_universal": True}
    return made


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--pp", type=int, required=True, help="pipeline stages; the other ranks share batches")
    parser.add_argument("--partition", default="parameters", help="how layers are shared out: `uniform`, …")
    parser.add_argument("--bf16-optimizer", action="store_true", help="and not ZeRO-1 in fp32")
    parser.add_argument("--plain", action="store_true", help="nothing is frozen")
    parser.add_argument("--universal", action="store_true")
    parser.add_argument("--load")
    parser.add_argument("--save")
    parser.add_argument("--save-at", type=int, default=3)
    parser.add_argument("--steps", type=int, required=True, help="the step to train up to")
    parser.add_argument("--losses", required=True)
    args = parser.parse_args()

    import deepspeed
    from deepspeed.pipe import PipelineModule

    deepspeed.init_distributed("gloo")
    # Layers are seeded each, so that they begin alike on every mesh.
    model = PipelineModule(
        layers(args.plain), num_stages=args.pp, loss_fn=loss_of, partition_method=args.partition,
        seed_layers=True, seed_fn=lambda seed: torch.manual_seed(int(seed)),
    )
    if args.load:  # nothing may be left of how it starts
        for value in [*model.parameters(), *model.buffers()]:
            value.data.fill_(0.125)
    trained = [value for value in model.parameters() if value.requires_grad]
    groups = [
        {"params": [value for value in trained if value.dim() > 1], "weight_decay": 0.1},
        {"params": [value for value in trained if value.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=3e-3, betas=(0.9, 0.95))
    falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    dp = dist.get_world_size() // args.pp
    engine, _, _, _ = deepspeed.initialize(
        model=model, optimizer=optimizer, lr_scheduler=falling, config=config(args, dp)
    )
    done = 0
    if args.load:
        path, state = engine.load_checkpoint(args.load)
        assert path is not None, f"nothing was loaded from {args.load}"
        assert state["note"] == "as it was", state
        done = engine.global_steps
    losses = {}
    share = GLOBAL_BATCH // dp
    own = engine.grid.get_data_parallel_rank() * share
    for step in range(done, args.steps):
        if args.save and step == args.save_at:
            engine.save_checkpoint(args.save, client_state={"note": "as it was"})
        draw = torch.Generator().manual_seed(100 + step)
        tokens = torch.randint(VOCABULARY, (GLOBAL_BATCH, LENGTH), generator=draw)[own : own + share]
        micro = ((part[:, :-1], part[:, 1:]) for part in tokens.chunk(2))
        losses[step] = engine.train_batch(micro).item()
    if dist.get_rank() == 0:
        with open(args.losses, "w") as file:
            json.dump({"losses": losses, "lr": engine.get_lr()}, file)


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)
