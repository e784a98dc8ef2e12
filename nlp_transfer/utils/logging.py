"""The logger of the package, and silence of the libraries' own."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

logger = logging.getLogger("nlp_transfer")


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the libraries' notes while we say the same in one line of our own."""
    import transformers  # inside: commands that only read do not wait for it

    before = transformers.logging.get_verbosity()
    had_bars = transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(before)
        if had_bars:
            transformers.logging.enable_progress_bar()


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def output() -> TextIO:
    """Where the log and progress bars go: a notebook shows standard error as if it had failed."""
    return sys.stdout if in_notebook() else sys.stderr


@contextmanager
def warnings_only() -> Iterator[None]:
    """Of our own log, for as long as this lasts."""

    def is_warning(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING

    logger.addFilter(is_warning)
    try:
        yield
    finally:
        logger.removeFilter(is_warning)


# What training sets for the library's `Trainer`.
VARIABLES = ("TENSORBOARD_LOGGING_DIR", "ACCELERATE_MIXED_PRECISION")


@contextmanager
def libraries_as_before() -> Iterator[None]:
    """Give a program back what a run changes in it: the libraries' logs, bars and variables."""
    import datasets
    import transformers

    levels = transformers.logging.get_verbosity(), datasets.logging.get_verbosity()
    bars = transformers.logging.is_progress_bar_enabled(), datasets.are_progress_bars_disabled()
    variables = {name: os.environ.get(name) for name in VARIABLES}
    try:
        yield
    finally:
        transformers.logging.set_verbosity(levels[0])
        datasets.logging.set_verbosity(levels[1])
        if bars[0]:
            transformers.logging.enable_progress_bar()
        if not bars[1]:
            datasets.enable_progress_bars()
        for name, value in variables.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
