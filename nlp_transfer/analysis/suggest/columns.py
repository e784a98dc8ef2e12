"""The columns that suggested rows get: the label to fill in, the guess, and the reason."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from nlp_transfer.analysis.suggest.choice import By, Choice
from nlp_transfer.data.formats.registry import Window
from nlp_transfer.data.formats.windows import columns_of, with_columns
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.problems.decoder import Decoder

ADDED = ("guess", "probabilities", "reason")  # columns beside that of the label
ALL = 9  # labels whose probabilities are all written: a page has as many number keys
SHOWN = 5  # of more labels, those whose probabilities are written


def new_columns(
    decoder: Decoder, logits: np.ndarray, choice: Choice, by: By, label_columns: Sequence[str]
) -> dict[str, tuple[list[Any], pa.DataType]]:
    """The empty columns of the label, the guess, its probabilities, and the reason."""
    probabilities = decoder.probabilities(logits)
    decisions = decoder.decide(probabilities)
    if decoder.problem.has_labels:
        several = decoder.problem.several
        names = [decoder.names(row) if several else (decoder.labels[row],) for row in decisions]
        guesses = [", ".join(row) for row in names]
        shares = [_likeliest(decoder, row) for row in probabilities]
    else:
        guesses = [f"{row[0]:.4g}" for row in probabilities]
        shares = [""] * len(guesses)
    reasons = [
        _reason(by, why, decoder, row) for why, row in zip(choice.why, probabilities, strict=True)
    ]
    empty: list[Any] = [None] * len(guesses)
    text = pa.string()
    columns: dict[str, tuple[list[Any], pa.DataType]] = {c: (empty, text) for c in label_columns}
    values = (guesses, shares, reasons)
    return columns | {c: (list(v), text) for c, v in zip(ADDED, values, strict=True)}


def _likeliest(decoder: Decoder, row: np.ndarray) -> str:
    count = len(row) if len(row) <= ALL else SHOWN
    best = np.argsort(-row, kind="stable")[:count]
    shares = ", ".join(f"{decoder.labels[i]} {row[i]:.2f}" for i in best)
    left = len(row) - count
    return f"{shares}, and {left:,} more" if left else shares


def _reason(by: By, why: float, decoder: Decoder, row: np.ndarray) -> str:
    if by is By.typical:
        return f"typical of {int(why):,} texts of the pool"
    if not decoder.problem.has_labels:
        doubt = "scores have no doubt"
    elif decoder.problem.several or len(row) == 1:
        nearest = int(np.abs(row - 0.5).argmin())
        doubt = f"in doubt about {decoder.labels[nearest]} ({row[nearest]:.2f})"
    else:
        first, second = np.argsort(-row, kind="stable")[:2]
        margin = row[first] - row[second]
        doubt = f"{decoder.labels[first]} or {decoder.labels[second]} (margin {margin:.2f})"
    new = "" if why < 0 else f"; cosine {why:.2f} to the nearest row above"
    return f"{doubt}{new}"


def with_columns_to_fill(
    window: Window,
    columns: dict[str, tuple[list[Any], pa.DataType]],
    label_columns: Sequence[str],
    file: Path,
) -> Window:
    """The rows with the new columns; those of the label are empty where the pool has them."""
    taken = [name for name in ADDED if name in columns_of(window)]
    if taken:
        raise UserError(
            ExitCode.DATA,
            f"{file} has a column {taken[0]!r} already, which this command writes. Rename it, or "
            "leave it out.",
        )
    if isinstance(window, pa.Table):
        window = window.drop_columns([c for c in label_columns if c in window.column_names])
    else:
        window = [{k: v for k, v in row.items() if k not in label_columns} for row in window]
    return with_columns(window, columns)
