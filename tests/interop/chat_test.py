"""What the steps of DeepSpeed-Chat load, loaded as they load it: `from_pretrained` for an actor, and for a critic the
one file's state dict into a model of its config with a value head. Its own package is not on PyPI, and its hybrid
engine needs a GPU."""

import pathlib
import tempfile
import unittest

import torch
from transformers import AutoConfig, AutoModel

from common import FIXTURES, logits, ucl

TOKENS = torch.arange(12).reshape(2, 6)


class Critic(torch.nn.Module):
    """The modules of a reward model by the names that its checkpoints have."""

    def __init__(self, config):
        super().__init__()
        self.v_head = torch.nn.Linear(getattr(config, "n_embd", None) or config.hidden_size, 1, bias=False)
        self.rwtransformer = AutoModel.from_config(config)

    def forward(self, tokens):
        return self.v_head(self.rwtransformer(tokens)[0]).squeeze(-1)


def state_dict(folder):
    return torch.load(folder / "pytorch_model.bin", weights_only=True, mmap=True, map_location="cpu")


class Chat(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.scratch = pathlib.Path(scratch.name)

    def test_an_actor_of_zero_3_answers_as_its_hugging_face_model(self):
        run, config = FIXTURES / "z3-llama-bf16-dp4-groups2", FIXTURES / "configs" / "hf-llama-fp32"
        for format in ("deepspeed-chat", "hf"):
            ucl("convert", run, self.scratch / format, "--to", format, "--config", config)
        self.assertFalse(list((self.scratch / "deepspeed-chat").glob("*.safetensors")))
        one, other = (logits(self.scratch / format, TOKENS) for format in ("deepspeed-chat", "hf"))
        self.assertTrue(one.equal(other))
        self.assertTrue(one.isfinite().all())

    def test_a_critic_loads_strictly_and_scores_as_it_did(self):
        source, out = FIXTURES / "dschat-run" / "critic", self.scratch / "critic"
        ucl("convert", source, self.scratch / "universal")
        ucl("convert", self.scratch / "universal", out, "--to", "deepspeed-chat")
        scores = []
        for folder in (source, out):
            critic = Critic(AutoConfig.from_pretrained(folder)).to(torch.float16).eval()
            found = critic.load_state_dict(state_dict(folder), strict=False)
            # Masks of attention, which the transformers of the run kept as buffers.
            self.assertEqual(found.missing_keys, [])
            self.assertTrue(all(".attn." in key for key in found.unexpected_keys), found.unexpected_keys)
            with torch.no_grad():
                scores.append(critic.float()(TOKENS))
        self.assertTrue(scores[0].equal(scores[1]))
        self.assertGreater(scores[0].std().item(), 0)


if __name__ == "__main__":
    unittest.main()
