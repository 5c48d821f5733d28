"""What `--to fastgen` writes, against what FastGen's own code makes of the same Hugging Face folder.

FastGen's engine needs CUDA and does not run here: see `fastgen_engine.py` for what does. Nothing is generated; what
is shown is that its loader gets, on every rank, the bytes and the description that its serialiser would have written.
"""

import json
import pathlib
import pickle
import tempfile
import unittest

import torch
from deepspeed.inference.v2.checkpoint import HuggingFaceCheckpointEngine
from transformers import (
    FalconConfig,
    FalconForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
)

from common import ucl
from fastgen_engine import from_hugging_face, from_serialised

SIZES = dict(
    hidden_size=24,
    intermediate_size=96,
    vocab_size=37,
    num_hidden_layers=3,
    num_attention_heads=6,
    num_key_value_heads=2,
    max_position_embeddings=64,
)
PLAIN = dict(num_key_value_heads=6)
FEWER = dict(
    hidden_size=24, vocab_size=37, num_hidden_layers=3, num_attention_heads=6, max_position_embeddings=64
)
# Its containers have the head from its own tensor alone.
FALCON = dict(**FEWER, tie_word_embeddings=False)
EXPERTS = dict(
    hidden_size=32,  # its gate of the shared expert wants runs of 32
    num_attention_heads=8,
    num_experts=4,
    num_experts_per_tok=2,
    moe_intermediate_size=128,
    shared_expert_intermediate_size=256,
)
BF16, FP16 = torch.bfloat16, torch.float16

# Each with the numbers of ranks that it is cut for: 96 is three runs of 32; of four ranks two share a group of
# three heads; six heads without groups are two, two, one and one.
MODELS = {
    "llama": (LlamaForCausalLM, LlamaConfig(**SIZES), BF16, (1, 2, 4)),
    "llama-without-groups": (LlamaForCausalLM, LlamaConfig(**{**SIZES, **PLAIN}), FP16, (2, 3, 4)),
    "mistral": (MistralForCausalLM, MistralConfig(**SIZES), FP16, (1, 2)),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config(**SIZES), BF16, (1, 2, 4)),
    "qwen2-tied": (Qwen2ForCausalLM, Qwen2Config(**SIZES, tie_word_embeddings=True), BF16, (2,)),
    "phi3": (Phi3ForCausalLM, Phi3Config(**SIZES, pad_token_id=0), BF16, (1, 2, 4)),
    "opt": (OPTForCausalLM, OPTConfig(**FEWER, ffn_dim=96, word_embed_proj_dim=24), FP16, (1, 2, 4)),
    # One key and value, which lie on every rank; groups as those of llama.
    "falcon": (FalconForCausalLM, FalconConfig(**FALCON), BF16, (1, 2, 4)),
    "falcon-groups": (
        FalconForCausalLM,
        FalconConfig(**FALCON, num_kv_heads=2, new_decoder_architecture=True),
        BF16,
        (1, 2, 4),
    ),
    "phi": (PhiForCausalLM, PhiConfig(**SIZES), BF16, (1, 2, 4)),
    "phi-without-groups": (PhiForCausalLM, PhiConfig(**{**SIZES, **PLAIN}), FP16, (2, 3)),
    "qwen2-moe": (Qwen2MoeForCausalLM, Qwen2MoeConfig(**{**SIZES, **EXPERTS}), BF16, (1, 2, 4)),
    "mixtral": (MixtralForCausalLM, MixtralConfig(**SIZES, num_local_experts=4), BF16, (1, 2)),
}


def saved(name, folder):
    """A model of random weights: biases and norms too."""
    kind, config, dtype, ranks = MODELS[name]
    torch.manual_seed(7)
    model = kind(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    model.to(dtype).save_pretrained(folder)
    return ranks


def described(folder, rank, ranks):
    return json.loads(json.loads((folder / f"metadata_rank_{rank}_of_{ranks}.json").read_text()))


def parameters(buffer, metadata):
    """Each parameter's bytes, and what lies between them."""
    found, between, end = {}, [], 0
    for layer, of_layer in metadata["layers"].items():
        for name, parameter in of_layer["params"].items():
            core = parameter["core_param"]
            if core["offset"] == -1:  # on another rank
                continue
            elements = 1
            for length in core["shape"]:
                elements *= length
            start, stop = core["offset"], core["offset"] + 2 * elements
            found[f"{layer}.{name}"] = buffer[start:stop]
            between.append(buffer[end:start])
            end = stop
    return found, torch.cat([*between, buffer[end:]])


class FastGen(unittest.TestCase):
    """Each family that FastGen serves and the specs know."""

    def each(self, check):
        for name in MODELS:
            with tempfile.TemporaryDirectory() as scratch:
                scratch = pathlib.Path(scratch)
                for ranks in saved(name, scratch / "hf"):
                    with self.subTest(name, ranks=ranks):
                        out = scratch / f"tp{ranks}"
                        ucl("convert", scratch / "hf", out, "--to", "fastgen", "--mesh", f"tp={ranks}")
                        check(scratch / "hf", out, ranks)

    def test_every_rank_has_the_bytes_that_the_serialiser_writes(self):
        def check(hf, out, ranks):
            for rank in range(ranks):
                model = from_hugging_face(hf, rank, ranks)
                known = json.loads(model.flattened_param_metadata.json())
                path = out / f"params_rank_{rank}_of_{ranks}.pt"
                buffer = torch.load(path, map_location="cpu", weights_only=True)
                self.assertEqual((buffer.dtype, buffer.ndim), (torch.uint8, 1))
                self.assertEqual(buffer.shape, model.flattened_params.shape)
                # As text too: the order of the parameters is that of the containers.
                written = json.loads((out / f"metadata_rank_{rank}_of_{ranks}.json").read_text())
                self.assertEqual(written, model.flattened_param_metadata.json())
                expected, _ = parameters(model.flattened_params, known)
                found, between = parameters(buffer, known)
                for name, values in expected.items():
                    self.assertTrue(values.equal(found[name]), f"rank {rank}: {name}")
                self.assertFalse(between.any())

        self.each(check)

    def test_its_loader_restores_every_rank(self):
        def check(hf, out, ranks):
            for rank in range(ranks):
                expected, restored = from_hugging_face(hf, rank, ranks), from_serialised(out, rank, ranks)
                pairs = [*zip(expected._transformer, restored._transformer)]
                pairs.append((expected._non_transformer, restored._non_transformer))
                for one, other in pairs:
                    for name in one.annotation_attrs:
                        values, found = getattr(one, name), getattr(other, name)
                        if values is None:
                            self.assertIsNone(found, f"rank {rank}: {name}")
                            continue
                        self.assertEqual((values.dtype, values.shape), (found.dtype, found.shape), name)
                        self.assertTrue(values.equal(found), f"rank {rank}: {name}")

        self.each(check)

    def test_the_config_is_the_one_that_its_loader_makes(self):
        def check(hf, out, ranks):
            with open(out / "ds_model_config.pkl", "rb") as file:
                config = pickle.load(file)
            expected = HuggingFaceCheckpointEngine(str(hf)).model_config
            self.assertIs(type(config), type(expected))
            found, known = config.to_dict(), expected.to_dict()
            # Where it was read from, and the type of the weights as they are.
            self.assertEqual(known.pop("_name_or_path"), str(hf))
            found.pop("_name_or_path")
            known.pop("dtype")
            weights = described(out, 0, ranks)["layers"]["non_transformer"]["params"]["word_emb"]
            self.assertEqual(f"torch.{found.pop('dtype')}", weights["core_param"]["dtype"])
            self.assertEqual(found.pop("max_seq_length"), known.pop("max_seq_length"))
            self.assertEqual(found, known)

        self.each(check)

    def test_what_the_engine_refuses_is_told(self):
        with tempfile.TemporaryDirectory() as scratch:
            scratch = pathlib.Path(scratch)
            config = LlamaConfig(**{**SIZES, "intermediate_size": 50})
            LlamaForCausalLM(config).to(BF16).save_pretrained(scratch / "hf")
            with self.assertRaises(AssertionError):
                from_hugging_face(scratch / "hf", 0, 1)
            said = ucl("convert", scratch / "hf", scratch / "out", "--to", "fastgen")
            self.assertIn("no multiple of 32", said)


if __name__ == "__main__":
    unittest.main()
