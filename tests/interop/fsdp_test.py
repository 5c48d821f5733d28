"""What ucl writes for PyTorch's FSDP, loaded by PyTorch's own strict checks; training goes on as if nothing had happened."""

import importlib.util
import json
import pathlib
import tempfile
import unittest

from common import launch, ucl

STEPS = 6


def train(script, ranks, folder, name, *arguments):
    """Starts a run on so many ranks; what it wrote of its losses."""
    losses = folder / f"{name}.json"
    launch(script, ranks, "--losses", losses, "--steps", STEPS, *arguments)
    return json.loads(losses.read_text())


class Fsdp(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = pathlib.Path(scratch.name)

    def run_of(self, ranks, dtype="fp32"):
        saved = self.folder / "saved"
        told = train("train_fsdp.py", ranks, self.folder, "first", "--save", saved, "--dtype", dtype)
        return saved, told

    def resumed(self, ranks, checkpoint, dtype="fp32"):
        name = f"on-{ranks}-{checkpoint.name}"
        return train("train_fsdp.py", ranks, self.folder, name, "--load", checkpoint, "--dtype", dtype)

    def goes_on(self, ranks, checkpoint, told, dtype="fp32", places=5):
        """Every value is the one that was saved, bit for bit, and so are the losses that follow."""
        found = self.resumed(ranks, checkpoint, dtype)
        self.assertEqual(found["held"], told["held"], checkpoint.name)
        self.assertEqual(sorted(found["losses"]), ["3", "4", "5"])
        for step, loss in found["losses"].items():
            self.assertAlmostEqual(loss, told["losses"][step], places, f"{checkpoint.name}: step {step}")

    def test_other_numbers_of_ranks(self):
        saved, told = self.run_of(2)
        universal = self.folder / "universal"
        ucl("convert", saved, universal)
        for ranks in (1, 2, 4):
            direct, through = self.folder / f"dcp-{ranks}", self.folder / f"through-{ranks}"
            ucl("convert", saved, direct, "--to", "dcp", "--mesh", f"dp={ranks}")
            ucl("convert", universal, through, "--to", "dcp", "--mesh", f"dp={ranks}")
            ucl("verify", direct)
            self.goes_on(ranks, direct, told)
            self.goes_on(ranks, through, told)
        # The mesh of the files is not that of those who load it.
        self.goes_on(2, self.folder / "dcp-4", told)
        # Three ranks see another batch, of the same values.
        self.assertEqual(self.resumed(3, self.folder / "dcp-2")["held"], told["held"])

    def test_a_run_that_computes_in_bf16(self):
        saved, told = self.run_of(2, "bf16")
        out = self.folder / "dcp"
        ucl("convert", saved, out, "--to", "dcp", "--mesh", "dp=4")
        self.goes_on(2, out, told, "bf16")

    @unittest.skipUnless(importlib.util.find_spec("deepspeed"), "deepspeed is not installed")
    def test_deepspeed_and_back(self):
        saved, told = self.run_of(2)
        zero = self.folder / "zero3"
        ucl("convert", saved, zero, "--to", "deepspeed", "--zero", "3", "--mesh", "dp=2")
        back = self.folder / "back"
        ucl("convert", zero, back, "--to", "dcp", "--mesh", "dp=2")
        self.goes_on(2, back, told)

    @unittest.skipUnless(importlib.util.find_spec("deepspeed"), "deepspeed is not installed")
    def test_a_run_of_deepspeed_goes_on_under_fsdp(self):
        for stage in (1, 3):
            with self.subTest(stage):
                saved, out = self.folder / f"z{stage}", self.folder / f"z{stage}-dcp"
                flags = ["--save", saved, "--stage", stage]
                told = train("train_deepspeed.py", 2, self.folder, f"z{stage}", *flags)
                ucl("convert", saved, out, "--to", "dcp", "--mesh", "dp=2")
                found = self.resumed(2, out)
                for step, loss in found["losses"].items():
                    self.assertAlmostEqual(loss, told["losses"][step], 5, f"ZeRO-{stage}: step {step}")


if __name__ == "__main__":
    unittest.main()
