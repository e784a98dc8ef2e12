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
BEFORE_A_STEP = "before the next step"


@dataclass
class _Request:
    """What this process was told; signals belong to a process, so there is one."""

    by: str | None = None  # the signal's name
    ended_by: str | None = None  # likewise, where it did not wait for a step
    can_wait: bool = False  # a step is running, and a checkpoint can follow it


stop_request = _Request()


@contextmanager
def handle_signals() -> Iterator[None]:
    """While this lasts, a signal to stop ends the run with a checkpoint, where there is a stage.

    Raises:
        UserError: after a signal to stop; after Ctrl-C with no step to wait for it is
            `KeyboardInterrupt`.
    """
    # Only the main thread may set handlers; in a launcher's other threads none are handled.
    in_main_thread = threading.current_thread() is threading.main_thread()
    _forget()  # training that failed may have left something
    before = {number: signal.signal(number, _on_signal) for number in SIGNALS if in_main_thread}
    try:
        yield
    except Exception as error:
        # A library where the signal came may have made an error of its own of it.
        by = stop_request.ended_by
        if by is None or (isinstance(error, UserError) and error.code is ExitCode.STOPPED):
            raise
        raise stop_error(by, BEFORE_A_STEP) from error
    finally:
        _forget()
        for number, handler in before.items():
            signal.signal(number, handler)


def _forget() -> None:
    stop_request.by, stop_request.ended_by, stop_request.can_wait = None, None, False


def _on_signal(number: int, _: Any) -> None:
    name = signal.Signals(number).name
    if stop_request.can_wait and stop_request.by is None:
        stop_request.by = name
        logger.info("%s: stopping after this step (Ctrl-C again: at once)", name)
    elif number == signal.SIGINT:
        raise KeyboardInterrupt("What is finished is kept: the same command continues from there.")
    elif not stop_request.can_wait:
        stop_request.ended_by = name
        raise stop_error(name, BEFORE_A_STEP)


def stop_error(by: str, where: str) -> UserError:
    """The end of a run that was told to stop."""
    return UserError(
        ExitCode.STOPPED, f"Stopped by {by} {where}. The same command continues from there."
    )
