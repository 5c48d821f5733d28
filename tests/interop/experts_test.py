"""Mixtures of experts of DeepSpeed's own that go on over other ranks, from what ucl made of a run's checkpoint."""

import unittest

from resumed import BF16_OPTIMIZER, ZERO_1, ZERO_2, ZERO_3, Resumed


def over(way, ranks):
    """A way of training with experts over so many ranks."""
    return [*way, "--expert-ranks", ranks]


def stacked(way, ranks):
    """The same with AutoEP's stacks."""
    return [*way, "--stack-ranks", ranks]


def to(zero, mesh):
    return ["--to", "deepspeed", "--zero", zero, "--mesh", mesh]


class Experts(Resumed):
    """As the other runs; the losses are those that the run had that was saved."""

    def test_the_same_mesh_goes_on_bit_for_bit(self):
        for zero, way in (("1", ZERO_1), ("bf16-optimizer", BF16_OPTIMIZER)):
            way = over(way, 2)
            self.goes_on((way, 2), to(zero, "dp=2,ep=2"), way, 2, exactly=True)

    def test_other_expert_ranks_go_on(self):
        source = (over(ZERO_1, 2), 2)
        self.goes_on(source, to("1", "dp=2,ep=1"), over(ZERO_1, 1), 2)
        self.goes_on(source, to("2", "dp=1"), over(ZERO_2, 1), 1)
        self.goes_on(source, to("1", "dp=4,ep=2"), over(ZERO_1, 2), 4)
        self.goes_on(source, to("2", "dp=4,ep=4"), over(ZERO_2, 4), 4)
        bf16 = [*ZERO_2, "--dtype", "bf16"]
        self.goes_on((over(BF16_OPTIMIZER, 2), 2), to("2", "dp=2,ep=1"), over(bf16, 1), 2)

    def test_a_run_of_the_other_mesh_has_the_same_losses(self):
        # Both begin alike: their losses are those of one training, whatever ranks it is on.
        _, one = self.source(over(ZERO_1, 2), 2)
        _, other = self.source(over(ZERO_1, 1), 1)
        for step, loss in one["losses"].items():
            self.assertLessEqual(abs(loss - other["losses"][step]), 1e-5 * abs(loss), f"step {step}")

    def test_stacks_go_on_under_every_stage(self):
        for zero, way in (("1", ZERO_1), ("3", ZERO_3)):
            way = stacked(way, 2)
            self.goes_on((way, 2), to(zero, "dp=2,ep=2"), way, 2, exactly=True)
        self.goes_on((stacked(ZERO_1, 2), 2), to("3", "dp=2,ep=1"), stacked(ZERO_3, 1), 2)
        self.goes_on((stacked(ZERO_3, 2), 2), to("2", "dp=1"), stacked(ZERO_2, 1), 1)
        self.goes_on((stacked(ZERO_3, 2), 2), to("3", "dp=4,ep=4"), stacked(ZERO_3, 4), 4)
        self.goes_on((stacked(ZERO_1, 2), 2), to("1", "dp=4,ep=2"), stacked(ZERO_1, 2), 4)

    def test_stacks_load_from_universal_folders_under_every_stage(self):
        for way, ranks in ((ZERO_1, 1), (ZERO_3, 2)):
            flags = ["--to", "deepspeed-universal", "--mesh", f"dp=2,ep={ranks}"]
            self.goes_on((stacked(ZERO_1, 2), 2), flags, [*stacked(way, ranks), "--universal"], 2)


if __name__ == "__main__":
    unittest.main()
