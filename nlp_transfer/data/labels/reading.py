"""Reads the label column; the kind of label interprets its cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from datasets import ClassLabel

from nlp_transfer.config.constants import AUTO
from nlp_transfer.config.sections.dataset import DatasetConfig
from nlp_transfer.data.cells import is_blank, plain_label
from nlp_transfer.data.faults import Faults, refuse_rows
from nlp_transfer.data.labels.column import LabelColumn
from nlp_transfer.data.labels.decimal_commas import read_decimal_commas
from nlp_transfer.data.labels.lists import read_label_lists
from nlp_transfer.data.labels.merging import merge_labels
from nlp_transfer.data.labels.units import advice_about_scores
from nlp_transfer.data.labels.written_lists import holds_object
from nlp_transfer.data.sources import Source
from nlp_transfer.data.table import Table
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.problems import Problem, problem_named
from nlp_transfer.problems.base import number
from nlp_transfer.problems.detection import NOT_A_SCORE, OF_COLUMNS, detect


def read_labels(source: Source, config: DatasetConfig) -> tuple[list[Any], tuple[str, ...] | None]:
    """The labels of every row (a list of them, where there may be several), and their order."""
    if isinstance(config.label, list):
        problem = OF_COLUMNS if config.problem == AUTO else problem_named(config.problem)
        columns = {name: source.cells(name) for name in config.label}
        rows = list(zip(*columns.values(), strict=True))
        empty = [all(is_blank(plain_label(cell)) for cell in row) for row in rows]
        filled = {
            name: ["0" if none else cell for cell, none in zip(cells, empty, strict=True)]
            for name, cells in columns.items()
        }
        try:
            labels = problem.read_columns(filled).labels
            labels = [None if none else label for label, none in zip(labels, empty, strict=True)]
            return labels, tuple(config.label)
        except UserError as error:
            raise UserError(error.code, f"{source.name}: {error}") from error
    feature = source.table.features.get(config.label)
    cells = source.cells(config.label)
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
        # An object written as text stays whole, so that it is refused as one.
        cells = [
            cell if cell is None or holds_object(cell) else _parts(str(cell), config.delimiter)
            for cell in cells
        ]
    same: dict[str, str] = {}  # one object for all rows of a label
    plain = (plain_label(cell) for cell in cells)
    return [same.setdefault(x, x) if isinstance(x, str) else x for x in plain], None


def read_label_forms(
    tables: dict[str, list[Table]],
    config: DatasetConfig,
    column: LabelColumn,
    faults: Faults,
    notes: list[str],
    known: Sequence[str] = (),
) -> dict[str, list[Table]]:
    """The tables with labels in one form: lists as lists, one spelling, numbers with a point.

    Args:
        column: for messages.
        known: the labels of a model, in whose spelling `dataset.clean_labels` writes all others.

    Raises:
        UserError: the labels can be read in two ways, or in none.
    """
    tables = read_label_lists(tables, config, column.name, faults, notes)
    if config.clean_labels:
        tables = merge_labels(tables, notes, known)
    return read_decimal_commas(tables, config)


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


def parse(table: Table, problem: Problem, config: DatasetConfig, faults: Faults) -> Table:
    """The table with labels of one type, as the kind of label parses them.

    Rows that do not fit the problem are taken out and noted.
    """
    parsed = problem.parse(table.labels, config.problem != AUTO)
    wrong = {str(table.labels[row]) for row in parsed.wrong}
    faults.take_out(parsed.wrong, parsed.fault, table, advice_about_scores(wrong).strip())
    return replace(table, labels=parsed.labels).without(parsed.wrong)


def _named(cell: Any, names: tuple[str, ...]) -> Any:
    """Numbers of a `ClassLabel` as names; what is missing or secret stays."""
    if isinstance(cell, list):
        return [_named(label, names) for label in cell]
    return names[cell] if cell is not None and cell >= 0 else cell


def _parts(cell: str, delimiter: str) -> list[str]:
    """The labels of one cell; an empty one has none."""
    return [part.strip() for part in cell.split(delimiter) if part.strip()]
