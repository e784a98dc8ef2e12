"""Reads sources into tables of our columns; takes out the rows that cannot be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow.compute as pc
from datasets import ClassLabel

from nlp_transfer.config.choices import OnUnusable
from nlp_transfer.config.dataset_validation import columns_named_twice
from nlp_transfer.config.sections.dataset import DatasetConfig
from nlp_transfer.data.cells import (
    blank_rows,
    fields_of,
    is_blank,
    is_label,
    kind_of_cell,
    not_texts,
)
from nlp_transfer.data.columns import require_columns
from nlp_transfer.data.faults import Faults, fault_of, have
from nlp_transfer.data.labels.reading import read_labels
from nlp_transfer.data.labels.separators import joined_labels
from nlp_transfer.data.sources import Source
from nlp_transfer.data.table import ArrowCells, Table
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.problems.base import UNLABELLED, integer
from nlp_transfer.problems.single_label import SINGLE_LABEL

ANSWER, ACCEPTED, UNUSED = "answer", "accept", ("reject", "ignore")  # what Prodigy writes
SLICE_PREFIX = "slice: "  # before the name of a column of the data, in a `Corpus`


def read_table(  # noqa: PLR0913
    source: Source,
    split: str,
    config: DatasetConfig,
    slices: Sequence[str],
    faults: Faults,
    notes: list[str],
) -> Table:
    """The text and label columns of one source, without the rows that cannot be used.

    What is wrong with the rows that are taken out is noted in `faults`, or, where the configuration
    drops them, in `notes`.

    Raises:
        UserError: where columns are missing.
    """
    for wrong in columns_named_twice(config):
        raise UserError(ExitCode.CONFIG, wrong)
    if not len(source.table):
        raise UserError(ExitCode.DATA, f"The {split} split ({source.name}) has no rows.")
    required = [("dataset.text", config.text), ("dataset.text_pair", config.text_pair)]
    required += [("dataset.label", column) for column in config.label_columns]
    required += [("dataset.group", config.group), ("dataset.id", config.id)]
    required += [("evaluation.slices", column) for column in slices]
    columns = source.table.column_names
    require_columns(columns, required, f"{source.name} ({split})", source.cells)
    notes.extend(source.notes)
    rows = len(source.table)
    labels, order = read_labels(source, config)
    if config.delimiter is not None:
        labels = _with_empty_cells(labels, source, config, notes)
        if split == "train" and not any(isinstance(x, list) and len(x) > 1 for x in labels):
            notes.append(
                f"dataset.delimiter={config.delimiter!r} stands between no labels of "
                f"{source.name}: every row has one at most"
            )
    _note_rejected(source, config, notes)
    extra: dict[str, ArrowCells] = {f"{SLICE_PREFIX}{c}": _as_texts(source, c) for c in slices}
    extra |= {"source": ArrowCells.repeated(source.name, rows), "row": ArrowCells.numbered(rows)}
    if config.group is not None:
        extra["group"] = _as_texts(source, config.group)
    if config.id is not None:
        extra["id"] = _as_texts(source, config.id)
        _note_repeated(extra["id"], f"dataset.id={config.id!r} of {source.name}", notes)
    pairs = None if config.text_pair is None else source.cells(config.text_pair)
    name = f"{source.name} ({split})"
    texts = source.cells(config.text)
    table = Table(name, texts, pairs, labels, order, {**extra}, rows, source.lines)
    return _usable(table, config, faults, notes)


def _note_rejected(source: Source, config: DatasetConfig, notes: list[str]) -> None:
    """Say that annotators have rejected or skipped rows, as Prodigy writes it beside a label."""
    named = (config.text, config.text_pair, *config.label_columns)
    if ANSWER in named or ANSWER not in source.table.column_names:
        return
    answers = Counter(str(cell) for cell in source.cells(ANSWER))
    unused = [f"{answers[answer]:,} {answer!r}" for answer in UNUSED if answers[answer]]
    if unused and answers.keys() <= {ACCEPTED, *UNUSED}:
        notes.append(
            f"the column {ANSWER!r} of {source.name} says {' and '.join(unused)}: these rows are "
            f"used as they are labelled, like the {answers[ACCEPTED]:,} {ACCEPTED!r}; remove them "
            "if their labels are not right"
        )


def _note_repeated(ids: ArrowCells, what: str, notes: list[str]) -> None:
    """Note identifiers that several rows share, so that nobody looks up the wrong row."""
    values, counts = pc.value_counts(ids.column).flatten()
    repeated = pc.filter(values, pc.greater(counts, 1))
    if len(repeated):
        notes.append(
            f"{what} names no single row: {len(repeated):,} values stand in several rows, such as "
            f"{repeated[0].as_py()!r}; the row numbers beside them tell these apart"
        )


def _with_empty_cells(
    labels: list[Any], source: Source, config: DatasetConfig, notes: list[str]
) -> list[Any]:
    """An empty cell beside lists such as `a|b` is a text with none of the labels, or without one.

    It has no label where such rows are dropped; else it has none of the labels, which is noted.
    """
    cells = source.cells(config.label)
    empty = [isinstance(cell, str) and is_blank(cell) for cell in cells]
    if config.on_unlabeled is OnUnusable.drop:
        return [None if none else label for label, none in zip(labels, empty, strict=True)]
    if any(empty):
        notes.append(
            f"{sum(empty):,} of the {len(cells):,} rows of {source.name} {have(sum(empty))} an "
            "empty cell for the labels: such a row is a text with none of them "
            f"(dataset.on_unlabeled=drop leaves it out; {config.delimiter!r} alone is then a text "
            "with none)"
        )
    return labels


def _usable(table: Table, config: DatasetConfig, faults: Faults, notes: list[str]) -> Table:
    table = _without_empty(
        table, lambda t: t.extra.get("group", []), "group", config, faults, notes
    )
    table = _with_texts(table, config, faults, notes)
    rows = [] if isinstance(config.label, list) else _not_labels(table.labels)
    if rows:
        fault = f"a label that is {kind_of_cell(table.labels[rows[0]])}"
        advice = "A label is a text, a number, or a list of these."
        advice += fields_of(table.labels[rows[0]], config.label)
        table = faults.take_out(rows, fault, table, advice)
    rows = [i for i, label in enumerate(table.labels) if is_blank(label)]
    if config.on_unlabeled is OnUnusable.drop:
        return _without_rows(rows, "no label", "dataset.on_unlabeled", True, table, faults, notes)
    advice = _labels_in_cells(table, config)
    return faults.take_out(rows, "no label", table, advice, "dataset.on_unlabeled")


def _labels_in_cells(table: Table, config: DatasetConfig) -> str:
    """Advice where cells seem to hold several labels: then an empty cell holds none of them."""
    if config.delimiter is not None or isinstance(config.label, list):
        return ""
    labels = [label for label in table.labels if isinstance(label, str) and not is_blank(label)]
    joined = joined_labels(dict.fromkeys(labels))
    if joined is None:
        return ""
    sign, several = joined
    return (
        f"Labels such as {several[0]!r} look like several: dataset.delimiter={sign!r} reads them "
        "so, and an empty cell as none of them."
    )


def _not_labels(labels: Sequence[Any]) -> list[int]:
    """The rows whose label is something that no label can be; columns check their own cells."""
    return [i for i, label in enumerate(labels) if label is not None and not is_label(label)]


def read_texts(
    sources: Sequence[Source],
    text: str,
    text_pair: str | None,
    on_empty: OnUnusable = OnUnusable.error,
    notes: list[str] | None = None,
) -> tuple[list[str], list[str]]:
    """The texts of tables without labels, and the second texts.

    Args:
        on_empty: what is done with rows whose text is empty.
        notes: takes which were left out.

    Raises:
        UserError: with all rows that have no text.
    """
    texts: list[str] = []
    pairs: list[str] = []
    with Faults() as faults:
        for source in sources:
            required = (("--text", text), ("--text-pair", text_pair))
            require_columns(source.table.column_names, required, source.name, source.cells)
            rows = len(source.table)
            extra: dict[str, Sequence[Any]] = {"row": ArrowCells.numbered(rows)}
            seconds = None if text_pair is None else source.cells(text_pair)
            first = source.cells(text)
            table = Table(source.name, first, seconds, [], None, extra, rows, source.lines)
            config = DatasetConfig(text=text, text_pair=text_pair, on_empty=on_empty)
            table = _with_texts(table, config, faults, [] if notes is None else notes)
            texts += table.texts
            pairs += table.pairs or []
    return texts, pairs


def _with_texts(table: Table, config: DatasetConfig, faults: Faults, notes: list[str]) -> Table:
    """The table without the rows that lack a text."""
    sides: list[tuple[str, Callable[[Table], Sequence[Any]]]] = [("text", lambda t: t.texts)]
    if table.pairs is not None:
        sides.append(("second text", lambda t: t.pairs or []))
    for what, cells in sides:
        rows = not_texts(cells(table))
        if rows:
            cell = cells(table)[rows[0]]
            column = (config.text if what == "text" else config.text_pair) or ""
            advice = "Name the column of the texts with dataset.text, or write the cells as texts."
            advice += fields_of(cell, column)
            fault = f"a {what} that is {kind_of_cell(cell)} ({str(cell)[:40]})"
            table = faults.take_out(rows, fault, table, advice)
        table = _without_empty(table, cells, what, config, faults, notes)
    return table


def _without_empty(  # noqa: PLR0913
    table: Table,
    cells: Callable[[Table], Sequence[Any]],
    what: str,
    config: DatasetConfig,
    faults: Faults,
    notes: list[str],
) -> Table:
    drop = config.on_empty is OnUnusable.drop
    rows = blank_rows(cells(table))
    return _without_rows(rows, f"an empty {what}", "dataset.on_empty", drop, table, faults, notes)


def _without_rows(  # noqa: PLR0913
    rows: list[int],
    what: str,
    key: str,
    drop: bool,
    table: Table,
    faults: Faults,
    notes: list[str],
) -> Table:
    """The table without the rows, which are a fault or, if they are dropped, a note."""
    if not rows:
        return table
    if not drop:
        return faults.take_out(rows, what, table, key=key)
    notes.append(f"left out ({key}=drop): {fault_of(rows, what, table)}")
    return table.without(rows)


def _as_texts(source: Source, column: str) -> ArrowCells:
    """The cells of a column to slice by; a `ClassLabel`'s by name."""
    feature = source.table.features.get(column)
    if isinstance(feature, ClassLabel):
        names, ids = feature.names, source.table[column][:]
        return ArrowCells.of_texts("" if i in (None, -1) else names[i] for i in ids)
    return ArrowCells.of_texts("" if c is None else str(c) for c in source.cells(column))


def without_unlabelled(tables: dict[str, list[Table]], notes: list[str]) -> dict[str, list[Table]]:
    """A split whose labels are all -1 counts as absent: its labels are secret, not classes."""
    labels = {
        split: {integer(label) for table in parts for label in SINGLE_LABEL.labels_in(table.labels)}
        for split, parts in tables.items()
    }
    if labels["train"] == {UNLABELLED}:
        raise UserError(ExitCode.DATA, "Every label of train is -1: it is not labelled.")
    absent = [
        split
        for split in tables
        if labels[split] == {UNLABELLED} and UNLABELLED not in labels["train"]
    ]
    for split in absent:
        notes.append(f"the {split} split has no labels (all are -1) and is left out")
    return {
        split: [without_undecided(table, notes) for table in parts]
        for split, parts in tables.items()
        if split not in absent
    }


def without_undecided(table: Table, notes: list[str]) -> Table:
    """Without the rows of a `ClassLabel` that are -1: the Hub's word for no label agreed upon."""
    if table.order is None or UNLABELLED not in table.labels:
        return table
    rows = [i for i, label in enumerate(table.labels) if label == UNLABELLED]
    notes.append(
        f"{len(rows)} of the {len(table.labels)} rows of {table.source} {have(len(rows))} no label "
        "(-1): left out"
    )
    return table.without(rows)
