"""Prints on every terminal: signs that its encoding lacks are replaced."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Sequence

from nlp_transfer.errors import ExitCode, UserError

REPLACED = "nlp_transfer.replaced"  # the name of the error handler
# What stands for our own signs where there is only ASCII.
PLAIN = {"−": "-", "–": "-", "—": "-", "→": "->", "±": "+-", "×": "x", "…": "...", "≥": ">="}
PLAIN |= {"≤": "<=", "≈": "~", "·": "|", "“": '"', "”": '"', "’": "'", "‘": "'", "\u00a0": " "}


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    return "".join(PLAIN.get(sign, "?") for sign in signs), error.end


def refuse_undecoded(arguments: Sequence[str]) -> None:
    """Stop at arguments that the locale's encoding could not read.

    Raises:
        UserError: with what to set.
    """
    for argument in arguments:
        if any("\udc80" <= sign <= "\udcff" for sign in argument):
            printable = argument.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            raise UserError(
                ExitCode.CONFIG,
                f"{printable!r} has letters that the encoding of this terminal "
                f"({sys.getfilesystemencoding()}) does not know. Set PYTHONUTF8=1 or "
                "LC_ALL=C.UTF-8.",
            )


def replace_unprintable() -> None:
    """Let stdout and stderr replace what their encoding cannot show, instead of failing."""
    codecs.register_error(REPLACED, _replace)
    for stream in (sys.stdout, sys.stderr):
        # None without a console; not a file of the system where a program or test has replaced it.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=REPLACED)
