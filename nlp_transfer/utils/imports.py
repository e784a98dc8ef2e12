"""Imports of large libraries."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quick_imports() -> Iterator[None]:
    """While this lasts, nothing is looked at for garbage; what is there afterwards never is.

    An import makes hundreds of thousands of objects and hardly any garbage: looking for some takes
    a tenth of its time, and later a quarter of a second whenever a stage ends. For a command, which
    ends with its process.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()
