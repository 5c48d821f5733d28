"""Runs of DeepSpeed's pipeline that go on from what ucl made of another run's checkpoint."""

import unittest

from resumed import Resumed


def stages(number, *more):
    """As a way of training: ZeRO-1 in fp32."""
    return [*more, "--pp", number]


def to(mesh, *more):
    return ["--to", "deepspeed", "--mesh", mesh, *more]


class Pipeline(Resumed):
    """Layers and what two of them share are known by their names: no spec is needed."""

    script = "train_pipeline.py"

    def test_the_same_stages_go_on_bit_for_bit(self):
        self.goes_on((stages(2), 2), to("pp=2"), stages(2), 2, exactly=True)
        bf16 = stages(2, "--bf16-optimizer")
        self.goes_on((bf16, 2), ["--to", "deepspeed"], bf16, 2, exactly=True)

    def test_other_stages_and_ranks_go_on(self):
        for more in ([], ["--bf16-optimizer"]):
            source = (stages(2, *more), 2)
            self.goes_on(source, to("pp=1,dp=2"), stages(1, *more), 2)
            self.goes_on(source, to("pp=2,dp=2"), stages(2, *more), 4)
            # DeepSpeed balances parameters: 2 layers and 5.
            self.goes_on((stages(1, *more), 1), to("pp=2", "--stages", "2,5"), stages(2, *more), 2)
        # Shared out by their number, the layers are 4 and 3, and in three stages 3, 2 and 2.
        uniform = ["--partition", "uniform"]
        self.goes_on((stages(2), 2), to("pp=2,dp=1", "--stages", "4,3"), stages(2, *uniform), 2)
        self.goes_on((stages(2), 2), to("pp=3,dp=1", "--stages", "3,2,2"), stages(3, *uniform), 3)
        self.goes_on((stages(3, *uniform), 3), to("pp=1,dp=1"), stages(1), 1)

    def test_universal_folders_load_on_other_stages(self):
        # The load restores what is trained alone.
        for more in (["--plain"], ["--plain", "--bf16-optimizer"]):
            universal = [*more, "--universal"]
            folder = ["--to", "deepspeed-universal"]
            source = (stages(2, *more), 2)
            self.goes_on(source, [*folder, "--mesh", "pp=1,dp=2"], stages(1, *universal), 2)
            self.goes_on(source, folder, stages(2, *universal), 2)
            source = (stages(1, *more), 1)
            flags = [*folder, "--mesh", "pp=2", "--stages", "2,5"]
            self.goes_on(source, flags, stages(2, *universal), 2)


if __name__ == "__main__":
    unittest.main()
