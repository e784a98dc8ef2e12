"""What a finished stage leaves on the disk: its weights and its history, sealed."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.training.optimization.checkpointing import keep_newest, seal
from nlp_transfer.utils.files import read_json, write_json

if TYPE_CHECKING:
    from torch import nn

    from nlp_transfer.training.optimization.trainer import Speed

AFTER = "after"  # in the stage's folder
WEIGHTS = "model.safetensors"
HISTORY = "history.json"


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


def write_after(home: Path, model: nn.Module, history: StageHistory) -> None:
    """Keep what a stage made; its own checkpoints go.

    Raises:
        UserError: if the disk does not take it; the stage's checkpoints are still there.
    """
    from safetensors.torch import save_model  # imports torch, which readers do not wait for

    after = home / AFTER
    shutil.rmtree(after, ignore_errors=True)
    try:
        after.mkdir(parents=True)
        save_model(model, after / WEIGHTS)
        write_json(after / HISTORY, asdict(history))
        seal(after)
    except (OSError, SafetensorError) as error:
        raise UserError(
            ExitCode.RUN_FOLDER,
            f"{after} cannot be written: {error}. Make room, and the same command goes on.",
        ) from error
    keep_newest(home, 0)


def read_history(home: Path) -> StageHistory:
    """What the finished stage did."""
    from nlp_transfer.training.optimization.trainer import Speed

    entries = read_json(home / AFTER / HISTORY)
    speed = None if entries["speed"] is None else Speed(**entries["speed"])
    return StageHistory(**{**entries, "speed": speed})


def load_after(home: Path, model: nn.Module) -> None:
    """Give a model the weights that the finished stage left."""
    from safetensors.torch import load_model

    load_model(model, home / AFTER / WEIGHTS)
