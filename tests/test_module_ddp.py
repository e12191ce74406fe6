"""Two processes give what one process gives: gradients, metrics, decisions; and sharded norms equal whole ones."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

LAYOUT = [[0, 1], [2], [3, 4]]


def train(world_size, out):
    """Three steps on `world_size` processes; the middle one is poisoned on the last rank only."""
    from lightning.pytorch.strategies import DDPStrategy
    from torch.utils.data import DataLoader, Dataset

    from dante.data.batch import StepBatch
    from tests.test_module import (
        CARD,
        Collect,
        bare_trainer,
        cwce,
        empty_row,
        module,
        poisoned,
        step_batch,
        student,
        tea,
    )

    torch.set_num_threads(1)
    rank = int(os.environ.get("RANK", "0"))

    class Plan(Dataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            whole = step_batch(LAYOUT, index)
            whole = poisoned(whole) if index == 1 else whole
            rows = whole.micro_batches[rank::world_size]
            rows = rows + [empty_row()] * (len(range(0, len(LAYOUT), world_size)) - len(rows))
            return StepBatch(rows, whole.tokens, whole.supervised_tokens, whole.records, index)

    collect = Collect()
    losses = {"cwce": cwce("records"), "tea": tea()}
    trained = module(student(torch.float32), losses, fidelity=CARD, clip=0.1, nonfinite_patience=5)
    strategy = DDPStrategy(process_group_backend="gloo", gradient_as_bucket_view=True) if world_size > 1 else "auto"
    trainer = bare_trainer([collect], devices=world_size, strategy=strategy)
    trainer.fit(trained, DataLoader(Plan(), batch_size=None))
    if world_size > 1:
        check_shards(world_size, rank)
    weights = {name: p.detach() for name, p in trained.student.named_parameters()}
    torch.save({"rows": collect.rows, "weights": weights}, f"{out}.{rank}")


def check_shards(world_size, rank):
    """Norms, the anchor and clipping on a DTensor equal those on the whole tensor (7 rows: the shards are uneven)."""
    from torch import nn
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    from dante.losses.shards import shard_like, total_norm
    from tests.test_module import tea

    mesh = init_device_mesh("cpu", (world_size,))
    torch.manual_seed(0)
    initial, drift, gradient = torch.randn(7, 5), torch.randn(7, 5), torch.randn(7, 5)
    terms = []
    for shard in (False, True):
        place = (lambda t: distribute_tensor(t.clone(), mesh, [Shard(0)])) if shard else torch.clone
        embedding = nn.Embedding(7, 5)
        embedding.weight = nn.Parameter(place(initial + drift))
        embedding.weight.grad = place(gradient)
        embedding.get_input_embeddings = lambda embedding=embedding: embedding
        loss = tea()
        loss.attach(embedding, initial)
        loss.observe(0.0, torch.ones(()))
        terms.append((embedding, loss.term(0.0)))
    (whole, expected), (sharded, term) = terms
    for name in ("value", "weight", "gradient_norm"):
        torch.testing.assert_close(getattr(term, name), getattr(expected, name))
    torch.testing.assert_close(term.gradients[0][1], shard_like(expected.gradients[0][1], sharded.weight))
    torch.testing.assert_close(total_norm([sharded.weight.grad]), gradient.norm())


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    def launch(processes):
        out = tmp_path / f"world{processes}"
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command += [__file__, str(processes), str(out)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        return [torch.load(f"{out}.{rank}", weights_only=True) for rank in range(processes)]

    (alone,) = launch(1)
    first, second = launch(2)
    assert alone["rows"][1]["skipped_updates"] == 1
    for ranks in (first, second):
        for mine, theirs in zip(ranks["rows"], alone["rows"], strict=True):
            assert mine.keys() == theirs.keys()
            for name, value in theirs.items():
                assert mine[name] == pytest.approx(value, rel=1e-4, abs=1e-9, nan_ok=True), name
        for name, weight in alone["weights"].items():
            torch.testing.assert_close(ranks["weights"][name], weight, rtol=1e-4, atol=1e-6)
    for name in first["weights"]:
        assert torch.equal(first["weights"][name], second["weights"][name])


if __name__ == "__main__":
    train(int(sys.argv[1]), sys.argv[2])
