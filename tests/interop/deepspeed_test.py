"""Runs of DeepSpeed over other ranks and stages."""

import unittest

from resumed import BF16_OPTIMIZER, ZERO_1, ZERO_2, ZERO_3, Resumed


class DeepSpeed(Resumed):
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
