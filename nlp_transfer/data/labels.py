"""Reads the label column; what its cells mean, the kind of label knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from datasets import ClassLabel, Dataset

from nlp_transfer.config.schema import AUTO, DatasetConfig
from nlp_transfer.data.tabular import lines_of
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.problems import Problem, problem_named
from nlp_transfer.problems.base import number
from nlp_transfer.problems.detection import NOT_A_SCORE, OF_COLUMNS, detect

SHOWN = 3  # offending rows in an error, with their texts
MOST = 20  # and so many by their number


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
        problem = OF_COLUMNS if config.problem == AUTO else problem_named(config.problem)
        columns = {name: list(table[name]) for name in config.label}
        return problem.read_columns(columns).labels, tuple(config.label)
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
    """What dataset.problem names, or what the label column of train shows.

    Raises:
        UserError: where the column may be read in two ways.
    """
    if config.problem != AUTO:
        return problem_named(config.problem)
    cells = [label for table in train for label in table.labels]
    problem = detect(cells, train[0].order is not None, config.label)
    if problem is None:
        # A score that is misspelt must not make a class of every other score.
        for table in train:
            wrong = [i for i, cell in enumerate(table.labels) if number(cell) is None]
            refuse_rows(wrong, NOT_A_SCORE, table)
    assert problem is not None, "some row is not a number"
    return problem


def parse(table: Table, problem: Problem, config: DatasetConfig) -> Table:
    """The table with labels of one type, as the kind of label parses them.

    Raises:
        UserError: with the rows that do not fit the problem.
    """
    parsed = problem.parse(table.labels, config.problem != AUTO)
    refuse_rows(parsed.wrong, parsed.fault, table)
    return replace(table, labels=parsed.labels)


def _named(cell: Any, names: tuple[str, ...]) -> Any:
    """Numbers of a `ClassLabel` as names; what is missing or secret stays."""
    if isinstance(cell, list):
        return [_named(label, names) for label in cell]
    return names[cell] if cell is not None and cell >= 0 else cell


def _parts(cell: str, delimiter: str) -> list[str]:
    """The labels of one cell; an empty one has none."""
    return [part.strip() for part in cell.split(delimiter) if part.strip()]


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
