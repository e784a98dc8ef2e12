"""What a label or a score of `y` may be: the rule of files, with the place in `y`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from sklearn.utils.multiclass import check_classification_targets

from nlp_transfer.config.constants import AUTO
from nlp_transfer.data.cells import is_blank
from nlp_transfer.data.labels.written_lists import holds_object, list_of
from nlp_transfer.errors import InputError
from nlp_transfer.problems.multi_label import MULTI_LABEL
from nlp_transfer.problems.single_label import SINGLE_LABEL

SEVERAL = (list, tuple, set, frozenset, np.ndarray)  # what holds the labels of one text
SHOWN = 60  # characters of a value


def require_labels(labels: Iterable[Any], problem: str) -> None:
    """Refuse what is no label.

    Args:
        labels: one, or several, for each text; none is missing.
        problem: as in `dataset.problem`.

    Raises:
        InputError: one is an object, a date, empty, or a list or an object written as text; or
            some are texts and others numbers.
    """
    known: set[str] = set()
    kinds: dict[bool, str] = {}
    for row, cell in enumerate(labels):
        for label in cell if isinstance(cell, SEVERAL) else (cell,):
            if isinstance(label, str):
                if label in known:
                    continue
                known.add(label)
                _require_name(row, label, problem)
            elif not isinstance(plain(label), int | float):
                raise InputError(
                    f"{_shown(row, label)}; expected a text, a number, true or false. Give the "
                    "label itself, or str(label)."
                )
            kinds.setdefault(isinstance(label, str), f"y[{row}] has {_cut(plain(label))}")
        if len(kinds) > 1:
            raise InputError(
                f"y mixes texts and numbers: {', '.join(kinds.values())}; expected one type. "
                "Give all labels as texts, or all as numbers."
            )


def _require_name(row: int, label: str, problem: str) -> None:
    if is_blank(label):
        raise InputError(f"y[{row}] is an empty label ({label!r}); expected a label for each text.")
    if problem not in (AUTO, MULTI_LABEL.name) or label.lstrip()[:1] not in ("[", "{", "("):
        return
    keeps = f"problem={SINGLE_LABEL.name!r} keeps such labels as names."
    if holds_object(label):
        raise InputError(
            f"y[{row}] is an object written as text: {_cut(label)}. Give the label alone; {keeps}"
        )
    if list_of(label):
        raise InputError(
            f"y[{row}] is a list written as text: {_cut(label)}. Give lists of labels, as "
            f"ast.literal_eval makes them; {keeps}"
        )


def require_classes(labels: Sequence[Any]) -> None:
    """Refuse scores, as scikit-learn's classifiers do.

    Raises:
        InputError: they are no classes.
    """
    try:
        check_classification_targets(np.asarray(labels))
    except ValueError as error:
        raise InputError(f"{error} TextRegressor is for scores.") from error


def scores_of(cells: Sequence[Any]) -> np.ndarray:
    """Cells as numbers, float64 [rows] or [rows, columns].

    Raises:
        InputError: one is no number, such as a date.
    """
    try:
        kinds = np.asarray(cells)
        if kinds.dtype.kind not in "mM":
            return np.asarray(cells, dtype=np.float64)
    except (TypeError, ValueError):
        pass
    row = next((row for row, cell in enumerate(cells) if not _is_number(cell)), 0)
    raise InputError(f"y holds values that are not numbers: {_shown(row, cells[row])}.")


def _is_number(cell: Any) -> bool:
    try:
        float(plain(cell))
    except (TypeError, ValueError):
        return False
    return True


def refuse_missing(labels: Iterable[Any]) -> None:
    """Refuse None, NaN and pandas' NA.

    Raises:
        InputError: one is missing.
    """
    for row, label in enumerate(labels):
        if label is None or type(label).__name__ == "NAType" or label is np.nan or _is_nan(label):
            raise InputError(
                f"y[{row}] is missing ({label}); expected a label for each text. Input y contains "
                "NaN."
            )


def _is_nan(label: Any) -> bool:
    return isinstance(label, float | np.floating) and bool(np.isnan(label))


def plain(label: Any) -> Any:
    """NumPy's scalars as Python's."""
    return label.item() if isinstance(label, np.generic) else label


def _shown(row: int, value: Any) -> str:
    return f"y[{row}] is {_cut(value)} ({type(value).__name__})"


def _cut(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
