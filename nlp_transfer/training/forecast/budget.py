"""Minutes that a run may take (`strategy.max_minutes`), and the end of training where they are up.

What counts is the time in which processes work on the run: one that is killed and started again
goes on with what is left. It is written down every few seconds, so no more than these are lost.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from nlp_transfer.config.schema import Config
from nlp_transfer.runs.folder import RunFolder
from nlp_transfer.utils.distributed import ProcessContext, broadcast_from_rank_zero
from nlp_transfer.utils.files import read_json, write_json
from nlp_transfer.utils.logging import logger

FILE = "budget.json"  # beside the checkpoints of an unfinished run
MARGIN = 0.9  # of what is left, for a training that is shortened
SHORTEST = 0.001  # share of the epochs
HEARTBEAT = 5.0  # seconds between two notes of what is spent
_COMMAND: list[float] = []  # when the current command began, by the monotonic clock


@contextmanager
def command_began(at: float) -> Iterator[None]:
    """While this lasts, a budget counts from when the command began: imports are part of it."""
    _COMMAND.append(at)
    try:
        yield
    finally:
        _COMMAND.pop()


@dataclass
class Budget:
    """Seconds of a run, what earlier processes have spent of them, and what ended too early."""

    minutes: float
    file: Path
    process: ProcessContext
    start: float = field(default_factory=time.monotonic)
    spent_before: float = 0.0
    cut: list[str] = field(default_factory=list)  # stages that ended before their last step
    left_out: list[str] = field(default_factory=list)  # recipes that were not tried
    shares: dict[str, float] = field(default_factory=dict)  # of the epochs, by recipe
    ending: float = 0.0  # seconds that figures, export and verification take
    _noted: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, minutes: float, folder: RunFolder, start: float) -> Budget:
        """The budget of a run, with what an earlier process has spent.

        Args:
            start: of this process's work, by the monotonic clock.
        """
        file = folder.path / "checkpoints" / FILE

        def read() -> dict[str, Any]:
            return read_json(file) if file.is_file() else {}

        start = min([start, *_COMMAND])
        before = broadcast_from_rank_zero(read, folder.process)
        spent = float(before.get("spent", 0.0))
        cut, left_out = (list(before.get(key, ())) for key in ("cut", "left_out"))
        budget = cls(minutes, file, folder.process, start, spent, cut, left_out)
        if spent:
            logger.info("%.0f s of %g minutes are spent (strategy.max_minutes)", spent, minutes)
        budget.note()
        return budget

    @property
    def spent(self) -> float:
        """Seconds that processes have worked on the run."""
        return self.spent_before + time.monotonic() - self.start

    @property
    def remaining(self) -> float:
        """Seconds of training that are left; below 0 where they are up."""
        return 60 * self.minutes - self.ending - self.spent

    def set_aside(self, seconds: float) -> None:
        """Keep seconds for figures, export and verification: at most half of the budget."""
        most = min(seconds, 60 * self.minutes / 2)
        self.ending = broadcast_from_rank_zero(lambda: most, self.process)

    def pays(self, seconds: float) -> bool:
        """Whether so many seconds of training are left; the first process decides."""
        return broadcast_from_rank_zero(lambda: seconds <= self.remaining, self.process)

    def shorten(self, recipe: str, seconds: float, folder: RunFolder) -> None:
        """Give a recipe that takes longer than there is time for fewer epochs; decided once."""

        name = f"share of the epochs of {recipe}"

        def share() -> float:
            part = round(min(max(MARGIN * self.remaining / seconds, SHORTEST), 1.0), 3)
            logger.info("%s: %.3g", name, part)
            return part

        decided = name in folder.read().get("decisions", {}) if self.process.is_first else False
        if broadcast_from_rank_zero(lambda: decided or seconds > self.remaining, self.process):
            self.shares[recipe] = folder.decide(name, share)

    def share(self, parts: int) -> float:
        """When a training that is the first of so many equal ones has to end (monotonic clock)."""
        self.note()
        return time.monotonic() + self.remaining / parts

    def leave_out(self, recipe: str) -> None:
        """Remember a recipe that was not tried."""
        if recipe not in self.left_out:
            self.left_out.append(recipe)
        self.note()

    def note(self) -> None:
        """Write down what is spent."""
        self._noted = time.monotonic()
        if self.process.is_first:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            entries = {"spent": self.spent, "cut": self.cut, "left_out": self.left_out}
            write_json(self.file, entries)

    def note_in_time(self) -> None:
        """Write it down where that is due."""
        if time.monotonic() - self._noted >= HEARTBEAT:
            self.note()

    def as_entry(self) -> dict[str, Any]:
        """For `run.json`."""
        return {
            "minutes": self.minutes,
            "spent": round(self.spent, 1),
            "cut": self.cut,
            "left_out": self.left_out,
            "shares": self.shares,
            "sentence": self.sentence(),
        }

    def sentence(self) -> str:
        """What the budget has changed, for the summary and the report."""
        parts = []
        if self.left_out:
            were = "was" if len(self.left_out) == 1 else "were"
            names = " and ".join(self.left_out)
            parts.append(f"{names} would have taken longer and {were} not tried")
        shares = [f"{name} with {share:.0%} of its epochs" for name, share in self.shares.items()]
        if shares:
            parts.append(f"there was time for {' and '.join(shares)}")
        if self.cut:
            parts.append(f"training ended early ({'; '.join(self.cut)})")
        limit = f"The budget of {self.minutes:g} minutes (strategy.max_minutes)"
        if not parts:
            return f"{limit} was enough: it has changed nothing."
        changed = "; ".join(parts)
        return f"{limit} has changed this run: {changed}. A longer one may give a better model."


@dataclass(frozen=True)
class Deadline:
    """When one training of a run has to end."""

    budget: Budget
    at: float  # by the monotonic clock
    is_final: bool  # the model that is exported


class StopsInTime(TrainerCallback):
    """Ends a stage after the step in which its time is up; validation is looked at once more."""

    def __init__(self, stage: str, deadline: Deadline, device: torch.device) -> None:
        self._stage = stage
        self._deadline = deadline
        self._device = device

    def on_step_end(self, args: Any, state: Any, control: Any, **__: Any) -> None:
        """Stop where the time is up, on all processes together."""
        budget = self._deadline.budget
        budget.note_in_time()
        if not self._is_up() or state.global_step >= state.max_steps:
            return
        control.should_training_stop = True
        control.should_evaluate = args.eval_strategy != "no"
        control.should_save = self._deadline.is_final
        line = f"stage {self._stage}: {state.global_step} of {state.max_steps} steps"
        logger.info("  time is up (strategy.max_minutes): %s", line)
        if not self._deadline.is_final:
            line = f"stage {self._stage} of the models that the figures are of"
        if line not in budget.cut:
            budget.cut.append(line)
            budget.note()

    def _is_up(self) -> bool:
        up = time.monotonic() >= self._deadline.at
        if self._deadline.budget.process.world_size == 1:
            return up
        flag = torch.tensor(int(up), device=self._device)
        torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
        return bool(flag.item())


def ends_in_time(
    stage: str, deadline: Deadline | None, device: torch.device
) -> list[TrainerCallback]:
    """What ends a stage where its time is up; nothing without a budget."""
    return [] if deadline is None else [StopsInTime(stage, deadline, device)]


def minutes_between_checkpoints(config: Config) -> float:
    """With a budget at most a tenth of it: a run that is killed has paid for what it loses."""
    minutes, budget = config.training.checkpoint_minutes, config.strategy.max_minutes
    return minutes if budget is None else min(minutes, budget / 10)
