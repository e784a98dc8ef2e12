"""Notices that a run is to stop (SIGTERM, SIGUSR1, Ctrl-C), and stops it where nothing is lost."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import TrainerCallback

from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.machine import Machine, logger

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


@dataclass
class _Request:
    """What this process was told; signals belong to a process, so there is one."""

    by: str | None = None  # the signal's name
    can_wait: bool = False  # a step is under way, and a checkpoint can follow it


_request = _Request()


@contextmanager
def heeded() -> Iterator[None]:
    """While this lasts, a signal to stop ends the run with a checkpoint, where there is a stage."""
    # Only the main thread may set handlers; in a launcher's other threads none are heeded.
    heeding = threading.current_thread() is threading.main_thread()
    _request.by, _request.can_wait = None, False  # training that failed may have left them
    before = {number: signal.signal(number, _heed) for number in SIGNALS if heeding}
    try:
        yield
    finally:
        _request.by, _request.can_wait = None, False
        for number, handler in before.items():
            signal.signal(number, handler)


def _heed(number: int, _: Any) -> None:
    name = signal.Signals(number).name
    if _request.can_wait and _request.by is None:
        _request.by = name
        logger.info("%s: stopping after this step (Ctrl-C again: at once)", name)
    elif number == signal.SIGINT:
        raise KeyboardInterrupt
    elif not _request.can_wait:
        raise stopped(name, "before the next step")


def stopped(by: str, where: str) -> UserError:
    """The end of a run that was told to stop."""
    return UserError(
        ExitCode.STOPPED, f"Stopped by {by} {where}. The same command goes on from there."
    )


class SavesAndStops(TrainerCallback):
    """Asks for a checkpoint in time, and after the step in which a process was told to stop.

    All processes save and stop together: what one of them wants, all do.
    """

    def __init__(self, machine: Machine, minutes: float) -> None:
        self._machine = machine
        self._seconds = 60 * minutes
        self._last = 0.0
        self.stopped_by: str | None = None

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """From here on a signal waits for the end of a step."""
        _request.can_wait = True
        self._last = time.monotonic()

    def on_step_end(self, _: Any, __: Any, control: Any, **___: Any) -> None:
        """Save where it is time, or where somebody is to stop."""
        overdue = time.monotonic() - self._last >= self._seconds
        stop, save = self._agreed(_request.by is not None, overdue)
        if stop:
            self.stopped_by = _request.by or "a signal to another process"
            control.should_training_stop = True
        if stop or save:
            control.should_save = True

    def on_save(self, *_: Any, **__: Any) -> None:
        """Whoever asked for it."""
        self._last = time.monotonic()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """From here on a signal need not wait."""
        _request.can_wait = False

    def _agreed(self, *wishes: bool) -> list[bool]:
        if self._machine.world_size == 1:
            return list(wishes)
        said = torch.tensor([int(wish) for wish in wishes], device=self._machine.device)
        torch.distributed.all_reduce(said, torch.distributed.ReduceOp.MAX)
        return [bool(wish) for wish in said.tolist()]
