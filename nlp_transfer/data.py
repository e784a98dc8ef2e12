"""Turns labelled tables into a `Corpus`; owns the label contract.

One order of labels for the whole program: the dataset's `ClassLabel` if it has one, otherwise the
names sorted, integers as integers. It travels into `config.id2label` of every checkpoint.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset

from nlp_transfer.config import DatasetConfig
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.sources import SPLITS, Source, read_splits

UNLABELLED = -1  # how the Hub marks the rows of a split whose labels are kept secret
COLUMNS = ("label", "text", "text_pair")
SHOWN = 3  # offending rows in an error


@dataclass(frozen=True)
class Corpus:
    """Labelled texts with our column names: `text` (str), `label` (int, index into `labels`).

    Rows that are pairs have their second text in `text_pair`.
    `splits` has train and validation, and test where there is one.
    """

    splits: dict[str, Dataset]
    labels: tuple[str, ...]
    fingerprint: str  # of every text and label in every split, and of the label names
    notes: tuple[str, ...]  # what was decided on the way, for the log

    @property
    def has_test(self) -> bool:
        """Whether there are labelled rows that played no part in choosing the model."""
        return "test" in self.splits


@dataclass(frozen=True)
class _Table:
    """One source in our columns; labels as they stand there, a `ClassLabel`'s by name."""

    source: str
    texts: Sequence[str]
    pairs: Sequence[str] | None  # the second texts
    labels: Sequence[Any]
    order: tuple[str, ...] | None  # of the labels, where a `ClassLabel` says so

    def select(self, rows: list[int]) -> _Table:
        """Some of its rows."""
        pairs = None if self.pairs is None else [self.pairs[i] for i in rows]
        texts, labels = [self.texts[i] for i in rows], [self.labels[i] for i in rows]
        return _Table(self.source, texts, pairs, labels, self.order)


def load_corpus(config: DatasetConfig, seed: int) -> Corpus:
    """Read, check and complete the splits.

    Raises:
        UserError: with the file, the rows and what to do.
    """
    notes: list[str] = []
    tables = {
        split: [_our_columns(source, split, config) for source in sources]
        for split, sources in read_splits(config).items()
    }
    tables = _without_unlabelled(tables, notes)
    names = _label_names(tables["train"], config)
    splits = {split: _with_label_ids(parts, names) for split, parts in tables.items()}
    splits = _cut_missing_splits(splits, config, seed, notes)
    if config.limit is not None and config.limit < len(splits["train"]):
        part = stratified_part(np.array(splits["train"]["label"]), config.limit, seed)
        splits["train"] = splits["train"].select(part)
        notes.append(f"train is limited to {config.limit} rows, stratified by label")
    _refuse_one_class(splits["train"], names)
    return Corpus(splits, tuple(names.values()), _fingerprint(splits, names), tuple(notes))


def stratified_part(labels: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Sorted indices of `size` rows, drawn so that every label keeps its share.

    Largest remainders decide about the last rows; a label of the whole stays in the part as long
    as there is room for one row of each.

    Args:
        labels: int [rows].
    """
    generator = np.random.default_rng(seed)
    found, counts = np.unique(labels, return_counts=True)
    quota = counts * size / len(labels)
    take = np.floor(quota).astype(int)
    if size >= len(found):
        take = np.maximum(take, 1)
    # Rows still to give go to the largest remainders; rows too many come from the largest labels.
    while take.sum() < size:
        take[np.argmax(np.where(take < counts, quota - take, -np.inf))] += 1
    while take.sum() > size:
        take[np.argmax(take)] -= 1
    chosen = [
        generator.permutation(np.flatnonzero(labels == label))[:n]
        for label, n in zip(found, take, strict=True)
    ]
    return np.sort(np.concatenate(chosen))


def _our_columns(source: Source, split: str, config: DatasetConfig) -> _Table:
    """The text and label columns; refuses missing columns and empty cells."""
    table = source.table
    for key in ("text", "text_pair", "label"):
        key, column = f"dataset.{key}", getattr(config, key)
        if column is not None and column not in table.column_names:
            raise UserError(
                ExitCode.DATA,
                f"{key}={column!r} is not a column of {source.name} ({split}); it has "
                f"{', '.join(table.column_names)}. Set {key} to one of them.",
            )
    if not len(table):
        raise UserError(ExitCode.DATA, f"The {split} split ({source.name}) has no rows.")
    texts, labels = list(table[config.text]), list(table[config.label])
    pairs = None if config.text_pair is None else list(table[config.text_pair])
    order = None
    feature = table.features[config.label]
    if isinstance(feature, ClassLabel):
        order = tuple(feature.names)
        labels = [order[label] if label is not None and label >= 0 else label for label in labels]
    raw = _Table(f"{source.name} ({split})", texts, pairs, labels, order)
    _refuse_rows(_empty(texts), "an empty text", raw)
    _refuse_rows(_empty(pairs or []), "an empty second text", raw)
    empty = [i for i, label in enumerate(labels) if label is None or label == ""]
    _refuse_rows(empty, "no label", raw)
    seconds = None if pairs is None else [str(text) for text in pairs]
    return _Table(raw.source, [str(text) for text in texts], seconds, labels, order)


def _empty(texts: Sequence[Any]) -> list[int]:
    return [i for i, text in enumerate(texts) if text is None or not str(text).strip()]


def _refuse_rows(rows: list[int], what: str, table: _Table) -> None:
    if rows:
        shown = "".join(
            f"\n  row {i + 1}: label {table.labels[i]!r}, text {str(table.texts[i])[:60]!r}"
            for i in rows[:SHOWN]
        )
        raise UserError(
            ExitCode.DATA,
            f"{len(rows)} of the {len(table.texts)} rows of {table.source} have {what}:{shown}\n"
            "Mend or remove them.",
        )


def _without_unlabelled(
    tables: dict[str, list[_Table]], notes: list[str]
) -> dict[str, list[_Table]]:
    """A split whose labels are all -1 counts as absent: its labels are secret, not classes."""
    found = {
        split: {_integer(label) for table in parts for label in set(table.labels)}
        for split, parts in tables.items()
    }
    if found["train"] == {UNLABELLED}:
        raise UserError(ExitCode.DATA, "Every label of train is -1: it is not labelled.")
    absent = [
        split
        for split in tables
        if found[split] == {UNLABELLED} and UNLABELLED not in found["train"]
    ]
    for split in absent:
        notes.append(f"the {split} split has no labels (all are -1) and is left out")
    return {
        split: [_without_undecided(table, notes) for table in parts]
        for split, parts in tables.items()
        if split not in absent
    }


def _without_undecided(table: _Table, notes: list[str]) -> _Table:
    """Without the rows of a `ClassLabel` that are -1: the Hub's word for no label agreed upon."""
    if table.order is None or UNLABELLED not in table.labels:
        return table
    kept = [i for i, label in enumerate(table.labels) if label != UNLABELLED]
    notes.append(
        f"{len(table.labels) - len(kept)} of the {len(table.labels)} rows of {table.source} have "
        "no label (-1) and are left out"
    )
    return table.select(kept)


def _label_names(train: list[_Table], config: DatasetConfig) -> dict[str, str]:
    """Every label as the data writes it, in order, with its name."""
    written = _order_of(train, config)
    if config.label_names is None:
        return {label: label for label in written}
    given = config.label_names
    # A `ClassLabel` may be meant by its number as well as by its name.
    names = {label: given.get(label, given.get(str(i))) for i, label in enumerate(written)}
    if any(train_part.order is None for train_part in train):
        names = {label: given.get(label) for label in written}
    if None in names.values() or len(set(given.values())) < len(given):
        raise UserError(
            ExitCode.DATA,
            f"dataset.label_names={given} must give a name of its own to each of "
            f"{', '.join(written)}.",
        )
    return {label: str(name) for label, name in names.items()}


def _order_of(train: list[_Table], config: DatasetConfig) -> list[str]:
    if train[0].order is not None:
        return list(train[0].order)
    found = {label for table in train for label in set(table.labels)}
    strange = [label for label in found if not isinstance(label, str | int)]
    if strange:
        raise UserError(
            ExitCode.DATA,
            f"dataset.label={config.label!r} holds {strange[0]!r}; "
            "expected one name or integer a row.",
        )
    if len({type(label) for label in found}) > 1:
        raise UserError(
            ExitCode.DATA,
            f"The files of dataset.train={config.train!r} do not fit together: in some of them "
            f"dataset.label={config.label!r} holds texts, in others numbers.",
        )
    integers = all(_integer(label) is not None for label in found)
    # The text decides between 1 and 01: the order of a set differs from process to process.
    key = {str(label): (_integer(label) if integers else 0, str(label)) for label in found}
    return sorted(key, key=lambda label: key[label])


def _integer(label: Any) -> int | None:
    if isinstance(label, bool):
        return None
    if isinstance(label, int):
        return label
    return int(label) if isinstance(label, str) and re.fullmatch(r"-?\d{1,18}", label) else None


def _with_label_ids(parts: list[_Table], names: dict[str, str]) -> Dataset:
    """Labels are compared as text: a file may hold 1 where another holds "1"."""
    position = {label: i for i, label in enumerate(names)}
    columns: dict[str, list[Any]] = {"text": [], "text_pair": [], "label": []}
    for table in parts:
        found = [position.get(str(label), UNLABELLED) for label in table.labels]
        unknown = [i for i, label_id in enumerate(found) if label_id == UNLABELLED]
        known = ", ".join(names)
        _refuse_rows(unknown, f"a label that train does not have (it has {known})", table)
        columns["text"] += table.texts
        columns["text_pair"] += table.pairs or []
        columns["label"] += found
    return Dataset.from_dict({name: cells for name, cells in columns.items() if cells})


def _refuse_one_class(train: Dataset, names: dict[str, str]) -> None:
    found = set(train["label"])
    if len(found) < 2:
        only = list(names.values())[found.pop()]
        raise UserError(
            ExitCode.DATA,
            f"Every row of train has the label {only!r}; a classifier needs at least two. "
            "Check dataset.label.",
        )


def _cut_missing_splits(
    splits: dict[str, Dataset], config: DatasetConfig, seed: int, notes: list[str]
) -> dict[str, Dataset]:
    """Validation is cut from train, never from test; test only where train is all there is."""
    splits = dict(splits)
    missing = []
    if config.validation is None and config.test is None and config.test_fraction > 0:
        missing.append(("test", config.test_fraction))
    if "validation" not in splits:
        missing.append(("validation", config.validation_fraction))
    rows = len(splits["train"])
    for split, fraction in missing:
        train = splits["train"]
        size = max(round(rows * fraction), 1)
        if size >= len(train):
            raise UserError(
                ExitCode.DATA, f"train has only {rows} rows: no {split} split can be cut from it."
            )
        # The rest is drawn, not the cut: it is train that must keep a row of every label.
        rest = stratified_part(np.array(train["label"]), len(train) - size, seed)
        cut = np.setdiff1d(np.arange(len(train)), rest)
        splits["train"], splits[split] = train.select(rest), train.select(cut)
        notes.append(f"{size} rows of train, stratified by label, are the {split} split")
    return splits


def _fingerprint(splits: dict[str, Dataset], names: dict[str, str]) -> str:
    digest = hashlib.sha256(repr(list(names.values())).encode())
    for split in SPLITS:
        if split in splits:
            digest.update(f"\0{split}\0".encode())
            columns = [name for name in COLUMNS if name in splits[split].column_names]
            for cells in zip(*(splits[split][name] for name in columns), strict=True):
                row = "".join(f"{cell}\0" for cell in cells)
                digest.update(row.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
