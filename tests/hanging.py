"""Two processes of which rank 1 never comes back: `torchrun … tests/hanging.py loss|data FOLDER TIMEOUT_S`."""

import os
import sys
from pathlib import Path
from typing import Any

import torch

HANGS = os.environ.get("RANK") == "1"
GOOD_STEPS = 3


def forever() -> None:
    while True:
        pass


def main(where: str, folder: Path, timeout_s: float) -> None:
    from lightning.pytorch.strategies import DDPStrategy
    from torch.utils.data import DataLoader, Dataset

    from dante.data.batch import StepBatch
    from dante.fit.safety.heartbeat import Heartbeat
    from dante.losses.ce import CE
    from dante.losses.schedule import Constant
    from tests.test_module import bare_trainer, module, step_batch, student

    torch.set_num_threads(1)

    class Loss(CE):
        seen = 0

        def coefficients(self, tokens: Any) -> Any:
            self.seen += 1
            if HANGS and where == "loss" and self.seen > GOOD_STEPS:
                forever()
            return super().coefficients(tokens)

    class Plan(Dataset[StepBatch]):
        def __len__(self) -> int:
            return 100_000

        def __getitem__(self, step: int) -> StepBatch:
            if HANGS and where == "data" and step >= GOOD_STEPS:
                forever()
            return step_batch([[0, 1]], step)

    trained = module(student(torch.float32), {"ce": Loss(Constant(1.0))}, steps=100_000)
    strategy = DDPStrategy(process_group_backend="gloo")
    trainer = bare_trainer([Heartbeat(folder, timeout_s)], devices=2, strategy=strategy)
    trainer.fit(trained, DataLoader(Plan(), batch_size=None))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))
