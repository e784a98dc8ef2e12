"""Reads what a label column says: one label, several, or a score."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from datasets import ClassLabel, Dataset

from nlp_transfer.config.schema import DatasetConfig, Problem
from nlp_transfer.data.tabular import lines_of
from nlp_transfer.errors import ExitCode, UserError

UNLABELLED = -1  # how the Hub marks the rows of a split whose labels are kept secret
SHOWN = 3  # offending rows in an error, with their texts
MOST = 20  # and so many by their number
SCORE = "score"  # the only "label" of a regression
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
YES_AND_NO = {"0": False, "1": True, "0.0": False, "1.0": True, "False": False, "True": True}
YES_AND_NO |= {"false": False, "true": True}


@dataclass(frozen=True)
class Table:
    """One source in our columns; labels as they stand there, a `ClassLabel`'s by name."""

    source: str
    texts: Sequence[str]
    pairs: Sequence[str] | None  # the second texts
    labels: Sequence[Any]
    order: tuple[str, ...] | None  # of the labels, where a `ClassLabel` says so
    kept: dict[str, list[Any]]  # `source` and `row`, and columns to slice by, by our name

    def select(self, rows: list[int]) -> Table:
        """Some of its rows."""
        pairs = None if self.pairs is None else [self.pairs[i] for i in rows]
        texts, labels = [self.texts[i] for i in rows], [self.labels[i] for i in rows]
        kept = {name: [cells[i] for i in rows] for name, cells in self.kept.items()}
        return Table(self.source, texts, pairs, labels, self.order, kept)


def read_labels(table: Dataset, config: DatasetConfig) -> tuple[list[Any], tuple[str, ...] | None]:
    """The labels of every row (a list of them, where there may be several), and their order."""
    if isinstance(config.label, list):
        return _from_columns(table, config.label), tuple(config.label)
    cells, feature = list(table[config.label]), table.features[config.label]
    inner = getattr(feature, "feature", feature)
    if isinstance(inner, ClassLabel):
        names = tuple(inner.names)
        cells = [_named(cell, names) for cell in cells]
        return cells, names
    if config.delimiter is not None:
        if any(isinstance(cell, list) for cell in cells):
            raise UserError(
                ExitCode.DATA,
                f"dataset.label={config.label!r} holds lists already; leave out "
                f"dataset.delimiter={config.delimiter!r}.",
            )
        cells = [None if cell is None else _parts(str(cell), config.delimiter) for cell in cells]
    return cells, None


def problem_of(train: list[Table], config: DatasetConfig) -> Problem:
    """What was asked for, or what the label column of train shows.

    Raises:
        UserError: where the column may be read in two ways.
    """
    if config.problem is not Problem.auto:
        return config.problem
    cells = [label for table in train for label in table.labels]
    if any(isinstance(cell, list) for cell in cells):
        return Problem.multi_label
    found = different(cells)
    numbers = [number(label) for label in found]
    if train[0].order is not None or all(map(_is_whole, found)):
        return Problem.single_label
    fractions = any(value != round(value) for value in numbers if value is not None)
    if None in numbers:
        if fractions:
            _refuse_scores_and_names(train)
        return Problem.single_label
    if fractions:
        return Problem.regression
    shown = ", ".join(str(label) for label in sorted(found, key=str)[:SHOWN])
    raise UserError(
        ExitCode.DATA,
        f"dataset.label={config.label!r} holds numbers with a decimal point that are all whole "
        f"({shown} …): are they classes or scores? Say dataset.problem=single_label or "
        "dataset.problem=regression.",
    )


def _refuse_scores_and_names(train: list[Table]) -> None:
    """A score that is misspelt must not make a class of every other score."""
    for table in train:
        wrong = [i for i, cell in enumerate(table.labels) if number(cell) is None]
        refuse_rows(
            wrong,
            "a label that is not a number, where others have a fraction (if the labels are names "
            "all the same, say dataset.problem=single_label)",
            table,
        )


def as_answers(table: Table, problem: Problem, config: DatasetConfig) -> Table:
    """The table with labels of one kind: a name or integer, a list of these, or a float.

    Raises:
        UserError: with the rows that do not fit the problem.
    """
    match problem:
        case Problem.regression:
            found = [number(label) for label in table.labels]
            wrong = [i for i, value in enumerate(found) if value is None]
            refuse_rows(wrong, "a label that is not a number (dataset.problem=regression)", table)
            return replace(table, labels=found)
        case Problem.multi_label:
            lists = [cell if isinstance(cell, list) else [cell] for cell in table.labels]
            wrong = [i for i, cell in enumerate(lists) if not all(map(_is_name, cell))]
            refuse_rows(wrong, "something else than names or integers among its labels", table)
            return replace(table, labels=lists)
        case _:
            if config.problem is not Problem.single_label:
                return table
            # Asked for by name: 1.0 is the class 1.
            return replace(table, labels=[_as_class(label) for label in table.labels])


def different(labels: Sequence[Any]) -> set[Any]:
    """Every label there is, of all lists."""
    return {label for cell in labels for label in (cell if isinstance(cell, list) else [cell])}


def number(label: Any) -> float | None:
    """A finite number, also one that is written as text."""
    if isinstance(label, bool) or not isinstance(label, int | float | str):
        return None
    if isinstance(label, str) and not NUMBER.fullmatch(label.strip()):
        return None
    return float(label) if math.isfinite(float(label)) else None


def integer(label: Any) -> int | None:
    if isinstance(label, bool):
        return None
    if isinstance(label, int) or (isinstance(label, float) and label == UNLABELLED):
        return int(label)
    return int(label) if isinstance(label, str) and re.fullmatch(r"-?\d{1,18}", label) else None


def _is_whole(label: Any) -> bool:
    return not isinstance(label, float) and integer(label) is not None


def _is_name(label: Any) -> bool:
    return isinstance(label, str | int) and label != "" and not isinstance(label, bool)


def _as_class(label: Any) -> Any:
    if isinstance(label, bool) or not isinstance(label, int | float):
        return label
    whole = math.isfinite(label) and label == round(label)
    return str(int(label)) if whole else str(label)


def _named(cell: Any, names: tuple[str, ...]) -> Any:
    """Numbers of a `ClassLabel` as names; what is missing or secret stays."""
    if isinstance(cell, list):
        return [_named(label, names) for label in cell]
    return names[cell] if cell is not None and cell >= 0 else cell


def _parts(cell: str, delimiter: str) -> list[str]:
    """The labels of one cell; an empty one has none."""
    return [part.strip() for part in cell.split(delimiter) if part.strip()]


def _from_columns(table: Dataset, columns: list[str]) -> list[list[str]]:
    """The names of the columns that say 1."""
    answers = {}
    for column in columns:
        answers[column] = [YES_AND_NO.get(str(cell).strip()) for cell in table[column]]
        wrong = [i for i, answer in enumerate(answers[column]) if answer is None]
        if wrong:
            raise UserError(
                ExitCode.DATA,
                f"The column {column!r} of dataset.label={columns} must hold 0 or 1; row "
                f"{wrong[0] + 1} holds {table[column][wrong[0]]!r}.",
            )
    return [[c for c in columns if answers[c][row]] for row in range(len(table))]


def refuse_rows(rows: list[int], what: str, table: Table) -> None:
    """Raise an error that names rows of a table, with their lines where it has lines."""
    if not rows:
        return
    numbers = [table.kept["row"][i] for i in rows]
    lines = lines_of(table.kept["source"][0], numbers[:MOST])
    shown = "".join(
        f"\n  {_line(lines, number)}row {number}: label {table.labels[i]!r}, "
        f"text {str(table.texts[i])[:60]!r}"
        for i, number in list(zip(rows, numbers, strict=True))[:SHOWN]
    )
    others = numbers[SHOWN:MOST]
    if others:
        listed = ", ".join(str(lines.get(number, number)) for number in others)
        more = ", …" if len(numbers) > MOST else ""
        shown += f"\n  and {'lines' if lines else 'rows'} {listed}{more}"
    raise UserError(
        ExitCode.DATA,
        f"{len(rows)} of the {len(table.texts)} rows of {table.source} have {what}:{shown}\n"
        "Mend or remove them.",
    )


def _line(lines: dict[int, int], row: int) -> str:
    return f"line {lines[row]}, " if row in lines else ""
