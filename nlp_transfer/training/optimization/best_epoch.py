"""Keeps the weights of the epoch that a stage hands back."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from nlp_transfer.models.shortcuts.sharding import joined_like, local, shard_like

BEST = "best.safetensors"  # in a checkpoint
LOSSES = "losses"  # in that file, beside the weights
WEIGHT = "weight."  # before their names


@dataclass(frozen=True)
class ValidationResult:
    """What one look at validation gave."""

    metrics: dict[str, float | None]
    losses: np.ndarray  # float64 [rows], the loss of each row of validation


class BestEpoch:
    """The last epoch that validation cannot tell from the best one.

    An epoch replaces the kept one unless the best so far is better by the chosen metric *and* its
    loss is lower by more than a standard error of the paired differences (Breiman et al. 1984, the
    one-standard-error rule). With few rows hardly any epoch is, and the last one is kept.

    Only weights that learn are kept, in memory; a checkpoint holds them too.
    """

    def __init__(self, parameters: dict[str, nn.Parameter], greater_is_better: bool) -> None:
        self._parameters = parameters
        self._sign = 1 if greater_is_better else -1
        self._best = -math.inf  # the metric of the best epoch, greater is better
        self._best_losses: np.ndarray | None = None
        self._weights: dict[str, torch.Tensor] = {}
        self.value: float | None = None  # the metric of the epoch that is kept
        self.step: int | None = None

    def consider(self, value: float | None, losses: np.ndarray, step: int) -> None:
        """Keep the weights as they are now, unless an earlier epoch was better.

        Args:
            value: the metric that chooses; None where validation does not define it.
            losses: float [rows], of each row of validation.
        """
        score = -math.inf if value is None else self._sign * value
        if self._best_losses is None or score >= self._best:
            self._best, self._best_losses = score, losses
        elif value is None or is_higher(losses, self._best_losses):
            return
        self.value, self.step = value, step
        self._weights = {
            name: local(parameter.detach()).to("cpu", copy=True)
            for name, parameter in self._parameters.items()
        }

    def restore(self) -> None:
        """Give the model the weights of the epoch that is kept; nothing where there is none."""
        with torch.no_grad():
            for name, weight in self._weights.items():
                local(self._parameters[name]).copy_(weight)

    def save(self, folder: Path, is_first: bool = True) -> None:
        """Into a checkpoint; every process takes part, and the first one writes."""
        if self._best_losses is None:
            return
        state = {"best": self._best, "value": self.value, "step": self.step}
        tensors = {
            WEIGHT + name: joined_like(weight, self._parameters[name])
            for name, weight in self._weights.items()
        }
        if not is_first:
            return
        tensors[LOSSES] = torch.from_numpy(np.ascontiguousarray(self._best_losses))
        save_file(tensors, folder / BEST, {"state": json.dumps(state)})

    def load(self, folder: Path) -> None:
        """From a checkpoint."""
        if not (folder / BEST).is_file():
            return
        with safe_open(folder / BEST, "pt") as file:
            state = json.loads(file.metadata()["state"])
            self._best_losses = file.get_tensor(LOSSES).numpy()
            names = [name for name in file.keys() if name.startswith(WEIGHT)]  # noqa: SIM118
            weights = {name.removeprefix(WEIGHT): file.get_tensor(name) for name in names}
        self._weights = {
            name: local(shard_like(weight, self._parameters[name].detach())).cpu()
            for name, weight in weights.items()
        }
        self._best, self.value, self.step = state["best"], state["value"], state["step"]


def is_higher(losses: np.ndarray, than: np.ndarray) -> bool:
    """Whether a mean loss is higher by more than a standard error of the paired differences."""
    if len(losses) < 2:
        return False
    differences = losses - than
    error = differences.std(ddof=1) / math.sqrt(len(differences))
    return bool(differences.mean() > error)
