"""Starts the real command in processes of its own: one that may be told when to die, or two."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from prepared_runs import Prepared
from safetensors.torch import load_file
from transformers import Trainer

from nlp_transfer import compose, run

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


TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def largest_difference_of_two_processes(words: list[str], folder: Path) -> float:
    """Of any weight, between a run in two processes and one in this process."""
    words = [word for word in words if word != "training.cpu=true"]
    two = subprocess.run(
        [*TWO, "-m", "nlp_transfer.train", *words, f"run_dir={folder / 'two'}"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert two.returncode == 0, two.stderr
    run(compose(*words, f"run_dir={folder / 'one'}"))
    return difference(folder / "one", folder / "two")


def largest_difference(one: dict[str, Any], two: dict[str, Any]) -> float:
    """Of any weight."""
    return max(float((one[name] - two[name]).abs().max()) for name in one)


def start(
    words: list[str], folder: Path, program: str = PROGRAM, **environment: str
) -> subprocess.CompletedProcess[str]:
    """The real command; `DIE_AT` is a training step, counted over all stages, `BY` a signal."""
    script = folder / "program.py"
    script.write_text(program, encoding="utf-8")
    return subprocess.run(
        [sys.executable, str(script), *words],
        env={**os.environ, "OMP_NUM_THREADS": "1", "REPORT": f"{folder}/steps", **environment},
        capture_output=True,
        text=True,
        timeout=240,
    )


def difference_after_kill(words: list[str], folder: Path, step: int) -> float:
    """The largest of any weight, between a run and one that SIGKILL ended and a process continued.

    Args:
        folder: of the two runs, `unbroken` and `killed`.
        step: the training step in which it is killed, counted over all stages.
    """
    unbroken = run(compose(*words, f"run_dir={folder / 'unbroken'}"))
    words = [*words, f"run_dir={folder / 'killed'}"]
    killed = start(words, folder, DIE_AT=str(step))
    assert killed.returncode == -signal.SIGKILL
    again = start(words, folder)
    assert again.returncode == 0, again.stderr
    assert "resumes from step" in again.stderr
    return difference(unbroken.folder, folder / "killed")


def kill_in_step(words: list[str], number: int, report: Path) -> int:
    """Run the words in a fork of this process that SIGKILL ends in a training step.

    Args:
        number: of the step, counted over all stages from 1 on.
        report: takes a line for each step that began, with its number in the stage.

    Returns:
        The status of the process, as `subprocess` gives it.
    """
    process = os.fork()
    if process:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    step, steps = Trainer.training_step, 0

    def training_step(self: Trainer, *arguments: Any) -> torch.Tensor:
        nonlocal steps
        steps += 1
        with report.open("a") as file:
            file.write(f"{self.state.global_step}\n")
        if steps == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, *arguments)

    Trainer.training_step = training_step
    try:
        run(compose(*words))
    finally:
        os._exit(1)  # it was to be killed


def difference(one: Path, two: Path) -> float:
    """The largest of any weight that two runs have exported."""
    first, second = (load_file(path / "model/model.safetensors") for path in (one, two))
    assert set(first) == set(second)
    return largest_difference(first, second)


def tell_at_step(prepared: Prepared, step: int, number: signal.Signals) -> None:
    """Send this process a signal in the given training step."""
    steps = 0

    def hook(*_: object) -> None:
        nonlocal steps
        steps += torch.is_grad_enabled()  # the head may be frozen, and then is never in training
        if torch.is_grad_enabled() and steps == step:
            os.kill(os.getpid(), number)

    prepared.pretrained.model.classifier.register_forward_hook(hook)


REPORTING = """
import json, os, sys
import torch.distributed as dist
from transformers import Trainer

step = Trainer.training_step
def reporting_step(self, *arguments):
    with open(os.environ["REPORT"] + os.environ["RANK"], "a") as file:
        labels = arguments[1]["labels"]
        entry = {"rank": dist.get_rank(), "world_size": dist.get_world_size(), "pid": os.getpid()}
        entry["rows"] = int(labels[:, 0].sum())  # that count
        entry["wrapped"] = type(arguments[0]).__name__
        file.write(json.dumps(entry) + chr(10))
    return step(self, *arguments)
Trainer.training_step = reporting_step

from nlp_transfer.cli.train import main
main()
"""
