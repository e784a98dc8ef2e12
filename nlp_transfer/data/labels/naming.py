"""Names and orders the labels, and turns them into numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset

from nlp_transfer.config.sections.dataset import DatasetConfig
from nlp_transfer.data.cells import label_key
from nlp_transfer.data.faults import Faults
from nlp_transfer.data.labels.column import LabelColumn
from nlp_transfer.data.labels.units import advice_about_scores
from nlp_transfer.data.table import Table, dataset_of_arrow, joined_cells
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.problems import Problem
from nlp_transfer.problems.base import integer, some_of
from nlp_transfer.problems.single_label import SINGLE_LABEL

# From so many rows on, and so large a share of them with a label of their own, a column of labels
# is taken for another one.
MANY_ROWS, ALONE = 20, 0.8
MOST_UNKNOWN = 20  # labels that are compared with those of train


def label_names(train: list[Table], problem: Problem, config: DatasetConfig) -> dict[str, str]:
    """Every label as the data writes it, in order, with its name."""
    if not problem.has_label_names and config.label_names is not None:
        raise UserError(
            ExitCode.DATA,
            f"dataset.label_names={config.label_names} has nothing to name: "
            f"dataset.label={config.label!r} holds {problem.rows_have}. If they are classes, set "
            f"dataset.problem={SINGLE_LABEL.name}.",
        )
    labels = _order_of(train, problem, config)
    if config.label_names is None:
        return {label: label for label in labels}
    new_names = config.label_names
    numbered = all(part.order is not None for part in train)
    names = (
        named(new_names, labels) if numbered else {label: new_names.get(label) for label in labels}
    )
    if None in names.values() or len(set(new_names.values())) < len(new_names):
        raise UserError(
            ExitCode.DATA,
            f"dataset.label_names={new_names} must give a name of its own to each of "
            f"{some_of(labels)}.",
        )
    return {label: str(name) for label, name in names.items()}


def named(names: Mapping[str, str], order: Sequence[str]) -> dict[str, str | None]:
    """The name of each label of a `ClassLabel`, meant by its own name or by its number."""
    return {label: names.get(label, names.get(str(i))) for i, label in enumerate(order)}


def _order_of(train: list[Table], problem: Problem, config: DatasetConfig) -> list[str]:
    if not problem.has_labels:
        return problem.order_labels(set(), None)
    if train[0].order is not None:
        order = train[0].order
        return (
            list(order) if config.order is None else problem.order_labels(set(order), config.order)
        )
    labels = {label for table in train for label in problem.labels_in(table.labels)}
    unusable = [label for label in labels if not isinstance(label, str | int)]
    if unusable:
        raise UserError(
            ExitCode.DATA,
            f"dataset.label={config.label!r} holds {unusable[0]!r}; "
            "expected one name or integer a row.",
        )
    # A file of texts may hold the number 1 as "1".
    if len({type(label) for label in labels}) > 1 and any(integer(x) is None for x in labels):
        raise UserError(
            ExitCode.DATA,
            f"The files of dataset.train={config.train!r} do not fit together: in some of them "
            f"dataset.label={config.label!r} holds texts, in others numbers.",
        )
    return problem.order_labels(labels, config.order)


def _spelling_advice(labels: Sequence[Any], position: Mapping[str, int]) -> str:
    """Which label of train is spelt most like the first unknown one, if any is."""
    keys = {label_key(label): label for label in position}
    names = [str(p) for label in labels for p in (label if isinstance(label, list) else [label])]
    unknown = list(dict.fromkeys(name for name in names if name not in position))[:MOST_UNKNOWN]
    for name in unknown:
        if label_key(name) in keys:
            return f"dataset.clean_labels=true reads {name!r} as {keys[label_key(name)]!r}."
    for name in unknown:
        if near := get_close_matches(name, position, n=1, cutoff=0.8):
            return f"{near[0]!r} is near to {name!r}."
    return ""


def with_label_ids(
    parts: list[Table], names: dict[str, str], problem: Problem, faults: Faults
) -> Dataset:
    """Labels are compared as text: a file may hold 1 where another holds "1"."""
    position = {label: i for i, label in enumerate(names)}
    columns: dict[str, list[Sequence[Any]]] = {"text": [], "text_pair": [], "label": []}
    columns |= {name: [] for name in parts[0].extra}
    for table in parts:
        encoded = problem.encode(table.labels, position)
        unknown = [table.labels[row] for row in encoded.wrong]
        faults.take_out(encoded.wrong, encoded.fault, table, _spelling_advice(unknown, position))
        table = replace(table, labels=encoded.labels).without(encoded.wrong)
        columns["text"].append(table.texts)
        columns["text_pair"].append(table.pairs or [])
        columns["label"].append(table.labels)
        for name, cells in table.extra.items():
            columns[name].append(cells)
    joined = {name: joined_cells(cells) for name, cells in columns.items()}
    return dataset_of_arrow(pa.table({name: cells for name, cells in joined.items() if len(cells)}))


def refuse_labels_of_single_rows(
    references: np.ndarray, labels: tuple[str, ...], column: LabelColumn
) -> None:
    """Stop at a column of numbers, dates or texts, which has a new value in nearly every row.

    Args:
        references: int [rows of train], the number of the label.
    """
    alone = np.count_nonzero(np.bincount(references) == 1)
    if len(references) >= MANY_ROWS and alone > ALONE * len(references):
        raise UserError(
            ExitCode.DATA,
            f"{column.name}: {alone:,} of the {len(references):,} rows of train have a label that "
            f"no other row has ({some_of(labels)}). {column.advice}"
            f"{advice_about_scores(labels, column.take_scores)}",
        )
