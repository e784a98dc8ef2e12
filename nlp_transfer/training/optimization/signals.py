"""Notices that a run is to stop (SIGTERM, SIGUSR1, Ctrl-C), and stops it where nothing is lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.utils.logging import logger

# Windows has no SIGUSR1.
SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGINT") if hasattr(signal, name)
)


@dataclass
class _Request:
    """What this process was told; signals belong to a process, so there is one."""

    by: str | None = None  # the signal's name
    can_wait: bool = False  # a step is running, and a checkpoint can follow it


stop_request = _Request()


@contextmanager
def handle_signals() -> Iterator[None]:
    """While this lasts, a signal to stop ends the run with a checkpoint, where there is a stage."""
    # Only the main thread may set handlers; in a launcher's other threads none are handled.
    in_main_thread = threading.current_thread() is threading.main_thread()
    stop_request.by, stop_request.can_wait = None, False  # training that failed may have left them
    before = {number: signal.signal(number, _on_signal) for number in SIGNALS if in_main_thread}
    try:
        yield
    finally:
        stop_request.by, stop_request.can_wait = None, False
        for number, handler in before.items():
            signal.signal(number, handler)


def _on_signal(number: int, _: Any) -> None:
    name = signal.Signals(number).name
    if stop_request.can_wait and stop_request.by is None:
        stop_request.by = name
        logger.info("%s: stopping after this step (Ctrl-C again: at once)", name)
    elif number == signal.SIGINT:
        raise KeyboardInterrupt
    elif not stop_request.can_wait:
        raise stop_error(name, "before the next step")


def stop_error(by: str, where: str) -> UserError:
    """The end of a run that was told to stop."""
    return UserError(
        ExitCode.STOPPED, f"Stopped by {by} {where}. The same command continues from there."
    )
