"""What the tests of runs of DeepSpeed that go on share."""

import json
import pathlib
import shutil
import tempfile
import unittest

from common import launch, ucl

SAVED_AT, STEPS = 3, 6
# How far losses may be apart where sums are made in another order, relative.
CLOSE = {"fp32": 1e-5, "bf16": 2e-3}
# A way of training: its flags.
ZERO_1 = ["--stage", 1]
ZERO_2 = ["--stage", 2]
ZERO_3 = ["--stage", 3]
BF16_OPTIMIZER = ["--stage", 1, "--dtype", "bf16", "--bf16-optimizer"]


class Resumed(unittest.TestCase):
    """A way of training is a list of flags of `script`. Each run trains 6 steps and saves before the fourth; each
    conversion's run has the fourth to the sixth."""

    script = "train_deepspeed.py"

    @classmethod
    def setUpClass(cls):
        cls.scratch = pathlib.Path(tempfile.mkdtemp())
        cls.made = {}

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.scratch)

    def train(self, way, ranks, *more):
        losses = self.scratch / "losses.json"
        losses.unlink(missing_ok=True)
        launch(self.script, ranks, *way, "--steps", STEPS, "--losses", losses, *more)
        return json.loads(losses.read_text())

    def source(self, way, ranks):
        """A run's checkpoint and what followed it, made once."""
        name = " ".join(map(str, way)) + f" on {ranks}"
        if name not in self.made:
            folder = self.scratch / name.replace(" ", "-")
            told = self.train(way, ranks, "--save", folder, "--save-at", SAVED_AT)
            self.made[name] = folder, told
        return self.made[name]

    def goes_on(self, source, flags, way, ranks, *more, exactly=False):
        """Converts a run's checkpoint and goes on from it."""
        with self.subTest(f"{source} to {way} on {ranks}, {flags}"):
            saved, told = self.source(*source)
            out = self.scratch / "out"
            shutil.rmtree(out, ignore_errors=True)
            ucl("convert", saved, out, *flags)
            ucl("verify", out)
            found = self.train(way, ranks, "--load", out, *more)
            self.assertEqual(found["lr"], told["lr"])
            self.assertEqual(list(found["losses"]), [str(step) for step in range(SAVED_AT, STEPS)])
            close = 0 if exactly else CLOSE["bf16" if {"bf16", "--bf16-optimizer"} & set(way) else "fp32"]
            for step, loss in found["losses"].items():
                self.assertLessEqual(abs(loss - told["losses"][step]), close * abs(loss), f"step {step}")
