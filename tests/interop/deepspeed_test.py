"""Runs of DeepSpeed that go on from what ucl made of another run's checkpoint."""

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
    """Each run trains 6 steps and saves before the fourth; each conversion's run has the fourth to the sixth."""

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
        launch("train_deepspeed.py", ranks, *way, "--steps", STEPS, "--losses", losses, *more)
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
            close = 0 if exactly else CLOSE["bf16" if "bf16" in way else "fp32"]
            for step, loss in found["losses"].items():
                self.assertLessEqual(abs(loss - told["losses"][step]), close * abs(loss), f"step {step}")

    def test_the_same_mesh_and_stage_goes_on_bit_for_bit(self):
        for stage in ("1", "3"):
            way = ["--stage", int(stage)]
            flags = ["--to", "deepspeed", "--zero", stage, "--mesh", "dp=2"]
            self.goes_on((way, 2), flags, way, 2, exactly=True)
        flags = ["--to", "deepspeed", "--zero", "bf16-optimizer"]
        self.goes_on((BF16_OPTIMIZER, 2), flags, BF16_OPTIMIZER, 2, exactly=True)

    def test_other_stages_and_ranks_go_on(self):
        to = lambda zero, dp: ["--to", "deepspeed", "--zero", zero, "--mesh", f"dp={dp}"]
        self.goes_on((ZERO_1, 2), to("3", 1), ZERO_3, 1)
        self.goes_on((ZERO_3, 2), to("2", 4), ZERO_2, 4)
        small = [*ZERO_3, "--sub-group-size", 2000]
        self.goes_on((ZERO_3, 2), [*to("3", 1), "--sub-group-size", "2000"], small, 1)
        self.goes_on((ZERO_1, 2), to("2", 1), ZERO_2, 1)
        bf16 = [*ZERO_2, "--dtype", "bf16"]
        self.goes_on((BF16_OPTIMIZER, 2), to("2", 1), bf16, 1)

    def test_tensor_parallel_ranks_go_on(self):
        # AutoTP cuts a Llama of transformers; heads are known by the spec where the checkpoint does not tell.
        def to(zero, mesh, *more):
            return ["--to", "deepspeed", "--zero", zero, "--mesh", mesh, *more]

        def cut(stage, ranks):
            return ["--stage", stage, "--tensor-parallel", ranks]

        self.goes_on((cut(1, 2), 2), to("1", "tp=2"), cut(1, 2), 2, exactly=True)
        self.goes_on((cut(1, 2), 2), to("1", "tp=1,dp=2"), cut(1, 1), 2)
        self.goes_on((cut(1, 2), 2), to("3", "tp=1,dp=2"), cut(3, 1), 2)
        self.goes_on((cut(1, 2), 4), to("2", "tp=2"), cut(2, 2), 2)
        self.goes_on((cut(3, 1), 2), to("1", "tp=2,dp=2", "--set", "k=2"), cut(1, 2), 4)
        universal = ["--to", "deepspeed-universal", "--mesh", "tp=2"]
        self.goes_on((cut(1, 2), 2), universal, [*cut(1, 2), "--universal"], 2)

    def test_universal_folders_load_under_every_stage(self):
        # Neither what is frozen nor buffers come back; nor, under stage 3, the hyper-parameters of other groups.
        plain = ["--plain", "--universal"]
        for stage in (1, 2, 3):
            source = ([*(ZERO_3 if stage < 3 else ZERO_1), "--plain"], 2)
            for ranks in (1,) if stage == 2 else (1, 2):
                flags = ["--to", "deepspeed-universal", "--mesh", f"dp={ranks}"]
                self.goes_on(source, flags, ["--stage", stage, *plain], ranks)


if __name__ == "__main__":
    unittest.main()
