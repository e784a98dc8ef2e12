"""Reads `y`: one label a text, several as lists or as an indicator matrix, or scores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
from sklearn.utils.validation import column_or_1d

from nlp_transfer.data.cells import about_half
from nlp_transfer.errors import InputError
from nlp_transfer.estimator.label_checks import (
    SEVERAL,
    plain,
    refuse_missing,
    require_classes,
    require_labels,
    scores_of,
)
from nlp_transfer.estimator.texts import elements, frame_columns
from nlp_transfer.problems.multi_label import MULTI_LABEL
from nlp_transfer.problems.ordinal import ORDINAL

BITS = {"0", "1", "0.0", "1.0", "False", "True"}


class Form(StrEnum):
    """How `y` was given, and how `predict` answers."""

    labels = "labels"
    """One label a text."""
    lists = "lists"
    """A list of labels a text."""
    indicator = "indicator"
    """A matrix of 0 and 1 with a column for each label."""


@dataclass(frozen=True)
class Targets:
    """Labels as numbers."""

    classes: np.ndarray
    """Every label as `y` has it, in the order of the probabilities; [labels]."""
    ids: list[Any]
    """For each row the number of its label, or a list of numbers."""
    form: Form
    categories: list[Any] | None = None
    """The labels in their order, where `y` is an ordered column."""

    def __post_init__(self) -> None:
        for label in self.classes.tolist():
            if isinstance(label, str) and (wrong := about_half(label)) is not None:
                raise InputError(f"The label {ascii(label)} of y: {wrong}")

    @property
    def names(self) -> list[str]:
        """Every label as a text; 1.0 is "1"."""
        return [_name(label) for label in self.classes.tolist()]


def read_targets(y: Any, problem: str) -> Targets:
    """The labels of `y`.

    Args:
        y: labels (a list, an array or a column); lists of labels; or a matrix or frame of 0 and 1,
            whose column names are the labels.
        problem: as in `dataset.problem`.

    Raises:
        InputError: it holds something else.
    """
    _refuse_none(y)
    matrix = _matrix(y)
    if matrix is not None:
        _refuse_other_problem(problem)
        return _of_matrix(*matrix)
    column = _column(y)
    labels = list(elements(column))
    refuse_missing(labels)
    require_labels(labels, problem)
    if any(isinstance(label, SEVERAL) for label in labels):
        _refuse_other_problem(problem)
        return _of_lists(labels)
    if problem == MULTI_LABEL.name:
        return _of_lists([[label] for label in labels])
    return _of_labels(labels, _ordered_categories(column))


def in_order(targets: Targets, order: Sequence[str] | None) -> Targets:
    """Ordinal labels from the lowest to the highest.

    Args:
        order: of their names, as in `dataset.order`; None: that of `y`.

    Raises:
        InputError: nothing says the order of every label.
    """
    classes = _in_order(targets.classes, targets.categories, order)
    new = {label: i for i, label in enumerate(classes.tolist())}
    position = [new[label] for label in targets.classes.tolist()]
    return replace(targets, classes=classes, ids=[position[i] for i in targets.ids])


def _refuse_other_types(labels: Iterable[Any], classes: np.ndarray) -> None:
    names = {str(label): label for label in classes.tolist()}
    known = set(names.values())
    for label in labels:
        if label is not None and label not in known and str(label) in names:
            raise InputError(
                f"y holds {label!r}, and the label of the model is {names[str(label)]!r}: give "
                "labels of the type that fit had."
            )


def encode(y: Any, classes: np.ndarray, form: Form) -> np.ndarray:
    """Labels of a fitted estimator, for its score.

    Raises:
        InputError: a label is one of the model's, but for its type: '1' is not 1.

    Returns:
        The number of each row's label, int64 [rows], -1 for an unknown one; of several labels
        0 or 1 [rows, labels], all -1 in a row with an unknown one. A missing answer is -1, too.
    """
    position = {label: i for i, label in enumerate(classes.tolist())}
    if form is Form.indicator:
        frame = frame_columns(y)
        cells = np.array(list(frame.values())).T if frame is not None else y
        cells = cells.toarray() if hasattr(cells, "toarray") else np.asarray(cells)
        missing = np.array([None in row for row in cells.tolist()], dtype=bool)
        matrix = np.where(missing[:, None], -1, cells)
        return matrix.astype(np.int64)
    rows = list(elements(y))
    if form is Form.labels:
        _refuse_other_types(map(plain, rows), classes)
        return np.array([position.get(plain(label), -1) for label in rows], dtype=np.int64)
    matrix = np.zeros((len(rows), len(classes)), dtype=np.int64)
    for row, labels in enumerate(rows):
        _refuse_other_types(map(plain, labels or ()), classes)
        numbers = [-1] if labels is None else [position.get(plain(x), -1) for x in labels]
        if -1 in numbers:
            matrix[row] = -1
        else:
            matrix[row, numbers] = 1
    return matrix


def read_scores(y: Any) -> np.ndarray:
    """Scores float64 [rows].

    Raises:
        InputError: one is missing or no number.
    """
    _refuse_none(y)
    frame = frame_columns(y)
    if frame is not None and len(frame) == 1:
        y = next(iter(frame.values()))
    cells = list(elements(y))
    refuse_missing(cells)
    scores = column_or_1d(scores_of(cells), warn=True)
    wrong = np.flatnonzero(~np.isfinite(scores))
    if len(wrong):
        raise InputError(f"y[{wrong[0]}] is infinity; expected a finite number.")
    return scores


def _refuse_none(y: Any) -> None:
    if y is None:
        raise InputError(
            "fit requires y to be passed, but the target y is None: expected one for each text."
        )


def _column(y: Any) -> Any:
    """`y` without a second dimension of one column."""
    frame = frame_columns(y)
    if frame is not None:
        return next(iter(frame.values()), [])
    return column_or_1d(y, warn=True) if len(getattr(y, "shape", ())) == 2 else y


def _matrix(y: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """A frame, an array or lists with a column for each label, and the labels; None: one column."""
    frame = frame_columns(y)
    if frame is not None:
        wide = len(frame) > 1
        return (np.array(list(frame.values())).T, np.array(list(frame))) if wide else None
    if hasattr(y, "toarray"):
        y = y.toarray()
    shape: tuple[int, ...] = getattr(y, "shape", ())
    if len(shape) == 2 and shape[1] > 1:
        return np.asarray(y), np.arange(shape[1])
    width = _width(y) if isinstance(y, list | tuple) and y else None
    return None if width is None else (np.array(y), np.arange(width))


def _of_labels(labels: list[Any], categories: list[Any] | None) -> Targets:
    classes = _classes(labels)
    if labels:
        require_classes(labels)
    if len(classes) < 2:
        raise InputError(
            f"y holds {len(classes)} class{'' if len(classes) == 1 else 'es'} "
            f"({', '.join(map(repr, classes.tolist()))}); expected at least two."
        )
    position = {label: i for i, label in enumerate(classes.tolist())}
    ids = [position[plain(label)] for label in labels]
    return Targets(classes, ids, Form.labels, categories)


def _of_matrix(matrix: np.ndarray, classes: np.ndarray) -> Targets:
    wrong = [cell for cell in np.unique(matrix.astype(object).astype(str)) if cell not in BITS]
    if wrong:
        raise InputError(
            f"y has {matrix.shape[1]} columns, and one of them holds {wrong[0]}; expected one "
            "column of labels, or a matrix of 0 and 1 with a column for each label."
        )
    ids = [np.flatnonzero(row).tolist() for row in matrix.astype(float)]
    return Targets(classes, ids, Form.indicator)


def _width(rows: Sequence[Any]) -> int | None:
    """How many labels lists of 0 and 1 are about, as `dataset.label` reads them; None: other."""
    if not all(isinstance(row, list | tuple | np.ndarray) for row in rows):
        return None
    widths, numbers = {len(row) for row in rows}, (int, float, np.number, np.bool_)
    if len(widths) > 1 or max(widths) < 2:
        return None
    bits = all(isinstance(cell, numbers) and cell in (0, 1) for row in rows for cell in row)
    return widths.pop() if bits else None


def _of_lists(rows: list[Any]) -> Targets:
    for place, labels in enumerate(rows):
        if isinstance(labels, str) or not isinstance(labels, Iterable):
            raise InputError(
                f"y[{place}] is {labels!r}, where other rows hold lists; expected a list of labels "
                "for each text."
            )
    lists = [[plain(label) for label in labels] for labels in rows]
    classes = _classes([label for labels in lists for label in labels])
    position = {label: i for i, label in enumerate(classes.tolist())}
    return Targets(classes, [[position[x] for x in labels] for labels in lists], Form.lists)


def _refuse_other_problem(problem: str) -> None:
    if problem not in ("auto", MULTI_LABEL.name):
        raise InputError(
            f"y has several labels a text, and problem={problem!r} is for one; expected one label "
            f"a text, or problem={MULTI_LABEL.name!r}."
        )


def _classes(labels: list[Any]) -> np.ndarray:
    """Every label once, sorted."""
    return np.unique(np.asarray(labels))


def _in_order(
    classes: np.ndarray, categories: list[Any] | None, order: Sequence[str] | None
) -> np.ndarray:
    """The labels from the lowest to the highest."""
    if order is not None:
        by_name = {_name(label): label for label in classes.tolist()}
        missing = sorted(by_name.keys() - set(order))
        if missing:
            raise InputError(f"dataset.order leaves out {', '.join(missing)}.")
        return np.array([by_name[name] for name in order if name in by_name], classes.dtype)
    if categories is not None:
        present = set(classes.tolist())
        return np.array([label for label in categories if label in present], classes.dtype)
    if classes.dtype.kind in "biuf":
        return classes
    shown = ", ".join(map(str, classes[:5]))
    raise InputError(
        f"problem={ORDINAL.name!r} needs the order of the labels ({shown}); expected numbers, an "
        "ordered categorical column of pandas, or overrides={'dataset.order': [lowest, …]}."
    )


def _ordered_categories(y: Any) -> list[Any] | None:
    kind: Any = getattr(y, "dtype", None)
    return list(kind.categories) if getattr(kind, "ordered", False) else None


def _name(label: Any) -> str:
    whole = isinstance(label, float) and label == int(label)
    return str(int(label)) if whole else str(label)
