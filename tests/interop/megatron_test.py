"""What ucl writes for Megatron, loaded by Megatron-core itself, and trained on."""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

import torch

from common import FIXTURES, logits, ucl

TRAIN = pathlib.Path(__file__).with_name("train_megatron.py")
# Real runs: on 2 tensor ranks and 2 stages; on 2 expert ranks; a tied one on 2 stages.
SHARDED = FIXTURES / "mlm-llama-tp2-pp2-bf16-torchdist"
LLAMA = FIXTURES / "mlm-llama-tp2-pp2-bf16-torch"
MIXTRAL = FIXTURES / "mlm-mixtral-tp1-pp1-ep2-bf16-torch"
TIED = FIXTURES / "mlm-gpt-tp1-pp2-bf16-torch-tied"


def run(folder, ranks=1, *flags):
    """What the steps after a checkpoint give."""
    with tempfile.TemporaryDirectory() as scratch:
        out = pathlib.Path(scratch) / "out.json"
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(ranks), "--master-port", "0"]
        command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
        command += [str(TRAIN), "--load", str(folder), "--out", str(out), *flags]
        ended = subprocess.run(command, capture_output=True, text=True)
        assert ended.returncode == 0, f"{folder}\n{ended.stdout[-3000:]}{ended.stderr[-6000:]}"
        return json.loads(out.read_text())


def close(test, found, expected):
    """Losses of the same state, summed up in another order: weights of 16 bits are rounded the other way here and there."""
    for (loss, _), (known, _) in zip(found, expected, strict=True):
        test.assertAlmostEqual(loss, known, delta=0.005)


class Megatron(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.scratch = pathlib.Path(scratch.name)
        self.made = 0

    def convert(self, source, to, mesh, *flags):
        self.made += 1
        out = self.scratch / str(self.made)
        ucl("convert", source, out, "--to", to, "--mesh", mesh, *flags)
        return out

    def test_resumes_as_megatron_cores_own_resharding_does(self):
        for ranks in (1, 2):
            with self.subTest(ranks=ranks):
                mesh = f"tp={ranks}"
                found = run(self.convert(SHARDED, "torch-dist", mesh), ranks, "--strict")
                self.assertEqual(run(self.convert(SHARDED, "megatron", mesh), ranks), found)
                # The run trained the padding of its vocabulary, which takes part in every softmax; here it is zero.
                self.assertNotEqual(run(SHARDED, ranks), found)
                self.assertEqual(run(SHARDED, ranks, "--clear-padding"), found)
                # The masters, moments and step are the same for the other optimizer.
                other = self.convert(SHARDED, "torch-dist", mesh, "--optimizer", "distributed")
                close(self, run(other, ranks, "--strict", "--optimizer", "distributed"), found)

    def test_resumes_with_the_distributed_optimizer(self):
        of = (2, "distributed", ((2, 2), (2, 1), (1, 1))), (1, "distributed", ((2, 2),)), (2, "plain", ((1, 1),))
        for tensor, optimizer, meshes in of:
            flags = ["--optimizer", optimizer, "--vocabulary", "128"]
            saved = self.scratch / f"{optimizer}-tp{tensor}"
            went_on = run(SHARDED, 2, "--tp", str(tensor), *flags, "--save", str(saved))
            for ranks, tp in meshes:
                with self.subTest(optimizer=optimizer, saved=tensor, ranks=ranks, tp=tp):
                    converted = self.convert(saved, "torch-dist", f"tp={tp},dp={ranks // tp}")
                    ucl("diff", saved, converted)
                    at = ["--tp", str(tp), *flags]
                    found = run(converted, ranks, "--strict", *at)
                    # No row of the vocabulary is padding, on any mesh.
                    self.assertEqual(run(saved, ranks, *at), found)
                    if (ranks, tp) == (2, tensor):
                        self.assertEqual(went_on, found)
                    else:
                        close(self, found, went_on)

    def test_experts_have_an_optimizer_of_their_own(self):
        at = ["--tp", "1", "--ep", "2"]
        plain = self.convert(MIXTRAL, "torch-dist", "ep=2", "--optimizer", "plain")
        distributed = self.convert(MIXTRAL, "torch-dist", "ep=2", "--optimizer", "distributed")
        found = run(distributed, 2, *at, "--strict", "--optimizer", "distributed")
        close(self, found, run(plain, 2, *at, "--strict"))
        saved, flags = self.scratch / "saved", ["--vocabulary", "128", "--optimizer", "distributed"]
        went_on = run(distributed, 2, *at, *flags, "--save", str(saved))
        converted = self.convert(saved, "torch-dist", "ep=2,dp=2")
        ucl("diff", saved, converted)
        self.assertEqual(run(converted, 2, *at, *flags, "--strict"), went_on)

    def test_files_of_ranks_and_sharded_files_resume_alike(self):
        # One numbers the optimizer's states, the other names them.
        for source in (LLAMA, TIED):
            for ranks in (1, 2):
                with self.subTest(source.name, ranks=ranks):
                    mesh = f"tp={ranks}"
                    named = run(self.convert(source, "torch-dist", mesh), ranks, "--strict")
                    numbered = run(self.convert(source, "megatron", mesh), ranks)
                    self.assertEqual(named, numbered)

    def test_a_model_of_transformers_gives_its_logits(self):
        source = FIXTURES / "hf-llama-fp32" / "hf"
        tokens = torch.arange(16)[None] * 5 % 97
        expected = logits(source, tokens)
        for ranks in (1,):
            folder = self.convert(source, "megatron", f"tp={ranks}", "--view", "mcore-local")
            found = torch.tensor(run(folder, ranks, "--logits"))
            torch.testing.assert_close(found[..., : expected.shape[-1]], expected, rtol=1e-4, atol=1e-5)


if __name__ == "__main__":
    unittest.main()
