"""Prints on every terminal: signs that its encoding lacks are replaced."""

from __future__ import annotations

import codecs
import sys

REPLACED = "nlp_transfer.replaced"  # the name of the error handler
# What stands for our own signs where there is only ASCII.
PLAIN = {"−": "-", "–": "-", "—": "-", "→": "->", "±": "+-", "×": "x", "…": "...", "≥": ">="}
PLAIN |= {"≤": "<=", "≈": "~", "·": "|", "“": '"', "”": '"', "’": "'", "‘": "'", "\u00a0": " "}


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    return "".join(PLAIN.get(sign, "?") for sign in signs), error.end


def replace_unprintable() -> None:
    """Let stdout and stderr replace what their encoding cannot show, instead of failing."""
    codecs.register_error(REPLACED, _replace)
    for stream in (sys.stdout, sys.stderr):
        # None without a console; not a file of the system where a program or test has replaced it.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=REPLACED)
