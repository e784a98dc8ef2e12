"""Times the steps of stages while they run, and counts what a step keeps in memory."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import TrainerCallback


def processor_seconds(device: torch.device) -> float:
    """A clock of what computes: of a CPU its time over all threads, else of the wall."""
    if device.type == "cpu":
        return time.process_time()
    torch.accelerator.synchronize()
    return time.perf_counter()


@dataclass
class Watched:
    """What a clock has seen of one stage."""

    steps: list[float] = field(default_factory=list)  # seconds
    evaluations: list[float] = field(default_factory=list)
    # Tokens and pairs of tokens of a step, and the bytes that it keeps for the backward pass.
    kept: list[tuple[float, float, float]] = field(default_factory=list)


class StageClock(TrainerCallback):
    """Times steps and evaluations, and counts what the first and the last step keep in memory."""

    def __init__(self, device: torch.device, parameters: set[int]) -> None:
        self.stages: list[Watched] = []
        self._device = device
        self._parameters = parameters
        self._start = 0.0
        self._counting: Any = None
        self._storages: dict[int, int] = {}
        self._shape = (0, 0)

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Another stage."""
        self.stages.append(Watched())

    def on_step_begin(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
        """The step begins with its batch."""
        if state.global_step in (0, state.max_steps - 1):
            self._storages, self._shape = {}, (0, 0)
            self._counting = torch.autograd.graph.saved_tensors_hooks(self._count, _identity)
            self._counting.__enter__()
        self._start = self._now()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """The step is done."""
        watched = self.stages[-1]
        watched.steps.append(self._now() - self._start)
        if self._counting is not None:
            self._counting.__exit__(None, None, None)
            self._counting = None
            tokens, pairs = self._shape
            watched.kept.append((tokens, pairs, float(sum(self._storages.values()))))
        self._start = self._now()

    def on_evaluate(self, *_: Any, **__: Any) -> None:
        """So is an evaluation, which follows the step."""
        self.stages[-1].evaluations.append(self._now() - self._start)

    def _now(self) -> float:
        return processor_seconds(self._device)

    def _count(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._parameters:
            self._storages[storage.data_ptr()] = storage.nbytes()
        if tensor.ndim == 3 and tensor.is_floating_point():
            rows, length = tensor.shape[:2]
            self._shape = max(self._shape, (rows * length, rows * length * length))
        return tensor


def _identity(tensor: torch.Tensor) -> torch.Tensor:
    return tensor
