"""What a finished stage leaves on the disk: its weights and its history, sealed."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.training.optimization.checkpointing import is_whole, keep_newest, seal
from nlp_transfer.utils.distributed import ProcessContext, wait
from nlp_transfer.utils.files import read_json, write_json

if TYPE_CHECKING:
    from torch import nn

    from nlp_transfer.training.optimization.trainer import Speed

AFTER = "after"  # in the stage's folder
WEIGHTS = "model.safetensors"
HISTORY = "history.json"
SOON_REPEATED = 30.0  # seconds of training: shorter stages are not worth the weights on the disk


@dataclass(frozen=True)
class StageHistory:
    """What one stage did."""

    name: str
    learns: str  # in words
    parameters: int  # that learned
    all_parameters: int
    steps: int
    seconds: float
    encoding_seconds: float  # of these, on the frozen part's output, once
    best: float | None  # the metric that chose the epoch
    speed: Speed | None  # None where nothing was trained by gradient
    log: list[dict[str, float | None]]  # losses, rates, validation metrics, by step
    kept_step: int | None = None  # the step whose weights are kept; None: the last one


def write_after(home: Path, model: nn.Module | None, history: StageHistory) -> None:
    """Keep what a stage did and, of the last stage that is kept, the weights it made.

    With the weights, its own checkpoints go.

    Args:
        model: None: a later stage keeps the weights.

    Raises:
        UserError: if the disk does not take it; the stage's checkpoints are still there.
    """
    from safetensors.torch import save_model  # imports torch, which readers do not wait for

    after = home / AFTER
    shutil.rmtree(after, ignore_errors=True)
    try:
        after.mkdir(parents=True)
        if model is not None:
            save_model(model, after / WEIGHTS)
        write_json(after / HISTORY, asdict(history))
        seal(after)
    except (OSError, SafetensorError) as error:
        raise UserError(
            ExitCode.RUN_FOLDER,
            f"{after} cannot be written: {error}. Make room, and the same command continues.",
        ) from error
    if model is not None:
        keep_newest(home, 0)


def finished_stages(homes: Sequence[Path]) -> int:
    """How many stages need not run again: up to the last one whose weights are on the disk."""
    count = 0
    for number, home in enumerate(homes, start=1):
        if not is_whole(home / AFTER):
            break
        if (home / AFTER / WEIGHTS).is_file():
            count = number
    return count


class StageKeeper:
    """Writes down what stages did and made, in time.

    A stage that took seconds is sooner done again than written: its history waits until a later
    one keeps its weights.
    """

    def __init__(self, process: ProcessContext, checkpoint_minutes: float) -> None:
        self._process = process
        self._seconds = min(SOON_REPEATED, 60 * checkpoint_minutes)
        self._last = time.monotonic()
        self._waiting: list[tuple[Path, StageHistory]] = []

    def keep(self, home: Path, model: nn.Module, history: StageHistory, must: bool) -> None:
        """After a stage, on every process.

        Args:
            must: write now.
        """
        self._waiting.append((home, history))
        if must or time.monotonic() - self._last >= self._seconds:
            if self._process.is_first:
                for earlier, entries in self._waiting[:-1]:
                    write_after(earlier, None, entries)
                write_after(home, model, history)
            self._waiting = []
            self._last = time.monotonic()
        wait(self._process)


def read_history(home: Path) -> StageHistory:
    """What the finished stage did."""
    return history_of(read_json(home / AFTER / HISTORY))


def history_of(entries: dict[str, Any]) -> StageHistory:
    """What a stage did, from its file."""
    from nlp_transfer.training.optimization.trainer import Speed

    speed = None if entries["speed"] is None else Speed(**entries["speed"])
    return StageHistory(**{**entries, "speed": speed})


def load_after(home: Path, model: nn.Module) -> None:
    """Give a model the weights that the finished stage left."""
    from safetensors.torch import load_model

    load_model(model, home / AFTER / WEIGHTS)
