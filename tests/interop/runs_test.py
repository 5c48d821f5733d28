"""Training runs to Hugging Face folders in one command, loaded by transformers."""

import pathlib
import tempfile
import unittest

from common import DTYPES, FIXTURES, config, digest, load, oracle, ucl

# The run, the folder of its config, further flags.
HUGGING_FACE = [
    ("z1-llama-fp32-dp2", "hf-llama-fp32", []),
    ("z1-llama-fp16-dp2", "hf-llama-fp32", []),
    ("z1-llama-bf16opt-dp2-groups2", "hf-llama-fp32", []),
    ("z1-gpt2-fp32-dp4-groups3", "hf-gpt2-fp32", []),
    ("z1-mixtral-bf16-dp2", "hf-mixtral-fp32", []),
    ("z2-llama-bf16-dp2-frozen", "hf-llama-fp32", []),
]
MEGATRON = [
    ("megds-llama-tp2-pp2-dp1-bf16", "megds-llama", []),
    ("megds-llama-tp2-pp1-dp1-z1-nopipe-fp32", "megds-llama", []),
    ("ds-z1-tp2-dp2-bf16", "ds-z1-tp2", []),
    ("megds-gpt-tp2-pp2-dp1-bf16", "megds-gpt", ["--from-view", "deepspeed-pipe"]),
]


TYPES = {name: dtype for dtype, name in DTYPES.items()}


class Runs(unittest.TestCase):
    """From a run's folder to a folder that `from_pretrained` loads."""

    def each(self, runs, check):
        for name, folder, flags in runs:
            with self.subTest(name), tempfile.TemporaryDirectory() as scratch:
                out = pathlib.Path(scratch) / "hf"
                flags = ["--to", "hf", "--config", config(folder), *flags]
                check(name, out, flags)

    def test_masters_are_those_of_the_live_training(self):
        def check(name, out, flags):
            ucl("convert", FIXTURES / name, out, "--dtype", "fp32", *flags)
            weights = load(out).state_dict()
            live = oracle(name)
            # A frozen weight has no master.
            frozen = set(live.get("live.model", {})) - set(live["live.fp32"]) & set(weights)
            self.compare(weights, live["live.fp32"], frozen)

        # Mixtral's experts have other names in memory; its files are held against the oracle elsewhere.
        self.each([run for run in HUGGING_FACE if "mixtral" not in run[0]], check)

    def test_weights_have_the_type_that_was_trained(self):
        def check(name, out, flags):
            ucl("convert", FIXTURES / name, out, *flags)
            self.assertEqual(str(load(out).dtype), str(TYPES[next(iter(oracle(name)["live.model"].values()))[0]]))

        self.each([run for run in HUGGING_FACE if "live.model" in oracle(run[0])], check)

    def test_megatron_deepspeed_equals_the_rows_reshaped(self):
        def check(name, out, flags):
            ucl("convert", FIXTURES / name, out, "--dtype", "fp32", *flags)
            weights = load(out).state_dict()
            if (FIXTURES / name / "oracle" / "hf.json").exists():
                self.compare(weights, oracle(name, "hf.json")["fp32"])

        self.each(MEGATRON, check)

    def compare(self, weights, expected, others=()):
        """Each expected tensor is there; what else is there is tied to one of them or expected."""
        for tensor, known in expected.items():
            self.assertEqual(digest(weights[tensor]), known, tensor)
        places = {weights[tensor].data_ptr() for tensor in expected}
        left = [tensor for tensor in weights if weights[tensor].data_ptr() not in places]
        self.assertEqual(set(left) - set(others), set())


if __name__ == "__main__":
    unittest.main()
