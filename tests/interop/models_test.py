"""Hugging Face folders: there and back, and what the model makes of them."""

import json
import pathlib
import tempfile
import unittest

from safetensors.torch import load_file

from common import FIXTURES, digest, files, logits, oracle, ucl

MODELS = sorted(path.parent for path in FIXTURES.glob("hf-*/hf"))


class Models(unittest.TestCase):
    """Each fixture that transformers wrote."""

    def each(self, check):
        self.assertGreater(len(MODELS), 12)
        for fixture in MODELS:
            with self.subTest(fixture.name), tempfile.TemporaryDirectory() as scratch:
                check(fixture, pathlib.Path(scratch))

    def test_there_and_back_is_the_same_folder(self):
        def check(fixture, scratch):
            ucl("convert", fixture / "hf", scratch / "universal")
            ucl("convert", scratch / "universal", scratch / "hf", "--to", "hf")
            before, _ = files(fixture / "hf")
            after, metadata = files(scratch / "hf")
            # Of a tied pair a .bin file may have both names; safetensors has the one.
            tied = set(before) - set(after)
            self.assertTrue(tied <= {"lm_head.weight"}, tied)
            self.assertEqual(set(after), set(before) - tied)
            for name in after:
                self.assertEqual(digest(after[name]), digest(before[name]), name)
            self.assertTrue(all(m == {"format": "pt"} for m in metadata.values()))
            for name in ("config.json", "generation_config.json"):
                if (fixture / "hf" / name).exists():
                    one, other = ((folder / name).read_bytes() for folder in (fixture / "hf", scratch / "hf"))
                    self.assertEqual(one, other, name)

        self.each(check)

    def test_logits_are_exactly_the_same(self):
        def check(fixture, scratch):
            stored = fixture / "oracle" / "logits.safetensors"
            if not stored.exists():
                return
            ucl("convert", fixture / "hf", scratch / "universal")
            ucl("convert", scratch / "universal", scratch / "hf", "--to", "hf")
            known = load_file(stored)
            before = logits(fixture / "hf", known["input_ids"])
            after = logits(scratch / "hf", known["input_ids"])
            self.assertTrue(before.equal(after))
            self.assertLess((after - known["logits"]).abs().max().item(), 1e-5)

        self.each(check)

    def test_another_type_is_the_same_model_rounded(self):
        def check(fixture, scratch):
            before, _ = files(fixture / "hf")
            for dtype in ("bf16", "fp16", "fp32"):
                out = scratch / dtype
                ucl("convert", fixture / "hf", out, "--to", "hf", "--dtype", dtype)
                after, _ = files(out)
                torch_type = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}[dtype]
                for name, tensor in after.items():
                    expected = before[name].to(tensor.dtype)
                    self.assertEqual(str(tensor.dtype), f"torch.{torch_type}", name)
                    self.assertEqual(digest(tensor), digest(expected), name)
                config = json.loads((out / "config.json").read_text())
                # A config without the key leaves the type to the weights.
                said = config.get("dtype", config.get("torch_dtype", torch_type))
                self.assertEqual(said, torch_type)
                stored = fixture / "oracle" / "logits.safetensors"
                if stored.exists():
                    logits(out, load_file(stored)["input_ids"])

        self.each(check)


if __name__ == "__main__":
    unittest.main()
