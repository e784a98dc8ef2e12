"""The logger of the package, and silence of the libraries' own."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

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
