"""Starts the real command in a process of its own, which may be told when to die."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import os, signal, sys
from transformers import Trainer

if os.environ.get("GROUPED"):  # what the plan is there for
    import numpy as np
    import nlp_transfer.training.optimization.batching as batches
    from transformers.trainer_pt_utils import LengthGroupedSampler
    def grouped(lengths, batch_size, seed, epoch):
        order = list(LengthGroupedSampler(batch_size, lengths=[int(n) for n in lengths]))
        rows = np.array(order)
        return [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    batches.plan_epoch = grouped

step, steps = Trainer.training_step, 0
def counting_step(self, *arguments):
    global steps
    steps += 1
    with open(os.environ["REPORT"], "a") as file:
        file.write(f"{self.state.global_step}" + chr(10))
    if steps == int(os.environ.get("DIE_AT", 0)):
        os.kill(os.getpid(), getattr(signal, os.environ.get("BY", "SIGKILL")))
    return step(self, *arguments)
Trainer.training_step = counting_step

from nlp_transfer.cli.train import main
main()
"""


def start(words: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The real command; `DIE_AT` is a training step, counted over all stages, `BY` a signal."""
    script = folder / "program.py"
    script.write_text(PROGRAM, encoding="utf-8")
    return subprocess.run(
        [sys.executable, str(script), *words],
        env={**os.environ, "OMP_NUM_THREADS": "1", "REPORT": f"{folder}/steps", **environment},
        capture_output=True,
        text=True,
        timeout=240,
    )
