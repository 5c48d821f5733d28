"""What the tests share: the command, the fixtures and their oracles, models loaded by transformers."""

import hashlib
import json
import os
import pathlib
import subprocess
import sys

import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM

UCL = os.environ["UCL"]
DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
HERE = pathlib.Path(__file__).resolve().parent
FIXTURES = HERE.parent / "fixtures"


def ucl(*arguments):
    """Runs ucl; what it prints. An exit code other than 0 fails the test."""
    ended = subprocess.run([UCL, *map(str, arguments)], capture_output=True, text=True)
    assert ended.returncode == 0, f"ucl {' '.join(map(str, arguments))}\n{ended.stdout}{ended.stderr}"
    return ended.stdout


def config(name):
    """The folder of a config.json that goes with a run."""
    return FIXTURES / "configs" / name


def oracle(name, file="oracle.json"):
    """The digests of an oracle's sets: set, tensor name, (dtype, shape, sha256)."""
    sets = json.loads((FIXTURES / name / "oracle" / file).read_text())["sets"]
    tensor = lambda t: (t["dtype"], tuple(t["shape"]), t["sha256"])
    return {key: {t["name"]: tensor(t) for t in value["tensors"]} for key, value in sets.items()}


def digest(tensor):
    """A tensor as an oracle has it."""
    flat = tensor.detach().contiguous().reshape(-1)
    data = flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
    return DTYPES[tensor.dtype], tuple(tensor.shape), hashlib.sha256(data).hexdigest()


def load(folder, dtype="auto"):
    """The model of a folder. Every weight has to be found, and every tensor used."""
    model, report = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=dtype,
        attn_implementation="eager",
        experts_implementation="eager",
        output_loading_info=True,
    )
    wrong = {key: sorted(map(str, value)) for key, value in report.items() if value}
    assert not wrong, f"{folder}: {wrong}"
    return model.eval()


def logits(folder, ids):
    """Logits in fp32 of the stored values."""
    with torch.no_grad():
        return load(folder, torch.float32)(ids).logits


def files(folder):
    """Tensors of the weight files, by name, and the metadata of the files."""
    tensors, metadata = {}, {}
    for path in sorted(pathlib.Path(folder).glob("*.safetensors")):
        with safe_open(path, "pt") as opened:
            metadata[path.name] = opened.metadata()
            tensors.update({name: opened.get_tensor(name) for name in opened.keys()})
    for path in sorted(pathlib.Path(folder).glob("pytorch_model*.bin")):
        tensors.update(torch.load(path, weights_only=True))
    return tensors, metadata


def launch(script, ranks, *arguments):
    """Runs a script of this folder on several processes."""
    environment = {
        **os.environ,
        "DS_ACCELERATOR": "cpu",
        "OMP_NUM_THREADS": "1",
        # DeepSpeed builds what it lacks with the ninja beside the interpreter.
        "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    # A port of its own: another run may be on the machine.
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", ranks]
    command += [HERE / script, *arguments]
    ended = subprocess.run([*map(str, command)], env=environment, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, f"{script} {arguments}\n{ended.stdout[-3000:]}{ended.stderr[-6000:]}"
