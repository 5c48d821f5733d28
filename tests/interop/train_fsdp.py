"""A small run of FSDP2 on the CPU, started by torchrun: trains from a seed or from a checkpoint of DCP, saves, and
writes the loss of every step. All ranks see one global batch, so that runs on other numbers of ranks agree."""

import argparse
import hashlib
import json
import os
import sys

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from train_deepspeed import GLOBAL_BATCH, LENGTH, VOCABULARY, Model


def build(dtype):
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    torch.manual_seed(7)
    model = Model()
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16) if dtype == "bf16" else MixedPrecisionPolicy()
    for layer in (model.frozen, model.up, model.down, model.norm):
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)
    trained = [value for value in model.parameters() if value.requires_grad]
    groups = [
        {"params": [value for value in trained if value.dim() > 1], "weight_decay": 0.1},
        {"params": [value for value in trained if value.dim() < 2], "weight_decay": 0.0},
    ]
    return model, torch.optim.AdamW(groups, lr=3e-3, betas=(0.9, 0.95), foreach=False)


def whole(value):
    value = value.full_tensor() if hasattr(value, "full_tensor") else value
    return value.detach().contiguous()


def digests(model, optimizer):
    """Every value of the run by name, whole: its type and the digest of its bytes."""
    weights, states = get_state_dict(model, optimizer)
    found = {f"model.{name}": value for name, value in weights.items()}
    for name, of in states["state"].items():
        found.update({f"{name}.{state}": value for state, value in of.items()})
    values = {name: whole(value) for name, value in sorted(found.items())}
    digest = lambda value: hashlib.sha256(value.reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()
    groups = [{key: str(value) for key, value in sorted(group.items())} for group in states["param_groups"]]
    return {name: [str(value.dtype), digest(value)] for name, value in values.items()}, groups


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--dtype", default="fp32")
    parser.add_argument("--load")
    parser.add_argument("--save")
    parser.add_argument("--save-at", type=int, default=3)
    parser.add_argument("--steps", type=int, required=True, help="the step to train up to")
    parser.add_argument("--losses", required=True)
    args = parser.parse_args()

    dist.init_process_group("gloo")
    rank, ranks = dist.get_rank(), dist.get_world_size()
    model, optimizer = build(args.dtype)
    done, held = 0, None
    if args.load:
        with torch.no_grad():  # nothing may be left of how it starts
            for value in [*model.parameters(), *model.buffers()]:
                value.fill_(0.125)
        weights, states = get_state_dict(model, optimizer)
        state = {"model": weights, "optimizer": states, "step": 0}
        dcp.load(state, checkpoint_id=args.load)  # every entry has to be there
        set_state_dict(
            model,
            optimizer,
            model_state_dict=state["model"],
            optim_state_dict=state["optimizer"],
            options=StateDictOptions(strict=True),
        )
        done = state["step"]
    losses = {}
    share = GLOBAL_BATCH // ranks
    for step in range(done, args.steps):
        if args.load and step == done or args.save and step == args.save_at:
            held = digests(model, optimizer)
        if args.save and step == args.save_at:
            weights, states = get_state_dict(model, optimizer)
            dcp.save({"model": weights, "optimizer": states, "step": step}, checkpoint_id=args.save)
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 / (1 + step)
        draw = torch.Generator().manual_seed(100 + step)
        tokens = torch.randint(VOCABULARY, (GLOBAL_BATCH, LENGTH), generator=draw)
        loss = model(tokens[rank * share : (rank + 1) * share])
        mean = loss.detach().clone().float()
        dist.all_reduce(mean)
        losses[step] = mean.item() / ranks
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.grad is not None], 1.0)
        optimizer.step()
        optimizer.zero_grad()
    if rank == 0:
        with open(args.losses, "w") as file:
            json.dump({"losses": losses, "held": held}, file)


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)
