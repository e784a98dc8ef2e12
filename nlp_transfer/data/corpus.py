"""Turns labelled tables into a `Corpus`; defines the order of the labels.

One order of labels for the whole program: the dataset's `ClassLabel` if it has one, otherwise the
names sorted, integers as integers. Every checkpoint has it as `config.id2label`.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset

from nlp_transfer.config.constants import AUTO, CROSS_VALIDATION
from nlp_transfer.config.schema import Config
from nlp_transfer.config.sections.dataset import DatasetConfig
from nlp_transfer.data.columns import each_cell
from nlp_transfer.data.faults import Faults
from nlp_transfer.data.labels.column import LabelColumn
from nlp_transfer.data.labels.naming import (
    label_names,
    refuse_labels_of_single_rows,
    with_label_ids,
)
from nlp_transfer.data.labels.reading import parse, problem_of, read_label_forms
from nlp_transfer.data.memory import Tables, read_tables
from nlp_transfer.data.sources import SPLITS, Source, read_splits
from nlp_transfer.data.splits import (
    FoldRule,
    cut_missing_splits,
    folds_of_train,
    labels_without_train,
    number_of_folds,
    references_of,
    strata_of,
    without_leaks,
)
from nlp_transfer.data.splitters import stratified_part
from nlp_transfer.data.table import filtered
from nlp_transfer.data.unlabeled import UNLABELED, read_unlabeled
from nlp_transfer.data.usable_rows import (
    SLICE_PREFIX,
    read_table,
    without_unlabelled,
)
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.problems import Problem
from nlp_transfer.problems.base import some_of
from nlp_transfer.problems.single_label import SINGLE_LABEL

COLUMNS = ("label", "text", "text_pair")


@dataclass(frozen=True)
class Corpus:
    """Labelled texts with our column names: `text`, `label`, and of pairs also `text_pair`.

    `label` is what `problem.encode` makes of the label column: an index into `labels`, a list with
    one number for each of `labels`, or a score.
    `splits` has train and validation, and test where there is one. `source` and `row` (from 1) say
    where each text came from.
    """

    splits: dict[str, Dataset]
    labels: tuple[str, ...]
    fingerprint: str  # of every text and label there is, and of the label names
    notes: tuple[str, ...]  # what was decided on the way, for the log
    problem: Problem = SINGLE_LABEL
    folds: np.ndarray | None = None  # int [rows of train]; None: a validation split decides
    held_out: tuple[str, ...] = ()  # the splits that were cut from train
    unlabeled: Dataset | None = None  # `text` and `text_pair`, not near to any row of a split

    def rows(self, split: str) -> Dataset:
        """The rows of a split; `cross_validation` has those of train."""
        return self.splits["train" if split == CROSS_VALIDATION else split]

    @property
    def has_classes(self) -> bool:
        """Whether each row has exactly one of the labels."""
        return self.problem.one_label and self.problem.integer_references

    @property
    def labelled_rows(self) -> int:
        """How many rows train and the splits cut from it have."""
        return sum(len(self.splits[split]) for split in ("train", *self.held_out))

    @property
    def deciding_split(self) -> str:
        """The rows that decide and that the reported figures are of, where there is no test."""
        return "validation" if self.folds is None else CROSS_VALIDATION

    def references(self, split: str) -> np.ndarray:
        """Ids int64 [rows], 0/1 float32 [rows, labels] or scores float32 [rows]."""
        return references_of(self.rows(split), self.problem)

    def origins(self, split: str) -> list[dict[str, Any]]:
        """Where each row of a split comes from.

        Returns:
            For each row `file` (as it was given), `row` (in that file, from 1) and, where
            `dataset.id` names a column, `id`.
        """
        rows = self.rows(split)
        names = {"file": "source", "row": "row", "id": "id"}
        columns = {ours: rows[name][:] for ours, name in names.items() if name in rows.column_names}
        return [
            dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)
        ]

    def places(self, split: str, rows: np.ndarray) -> list[str]:
        """Where some rows of a split come from, in words that count from 1 on."""
        some = self.rows(split).select(rows)
        sources = zip(some["source"][:], some["row"][:], strict=True)
        return [f"{split}: row {row} of {source}" for source, row in sources]


def load_corpus(
    config: DatasetConfig,
    seed: int,
    slices: Sequence[str] = (),
    fold_rule: FoldRule | None = None,
    faults: Faults | None = None,
    tables: Tables | None = None,
) -> Corpus:
    """Read, check and complete the splits.

    Args:
        slices: columns that stay beside ours, as texts, named `SLICE_PREFIX` and their name.
        fold_rule: when the rows of train are cross-validated instead of cut; None: never.
        faults: takes what is wrong with rows, which are left out; None: it is an error.
        tables: of each split, given from Python; None: the configuration names them.

    Raises:
        UserError: with the file, the rows and what to do.
    """
    notes: list[str] = []
    with faults or Faults() as faults:
        sources = (
            read_splits(config, slices) if tables is None else read_tables(tables, config, slices)
        )
        column = sources["train"][0].label_column or LabelColumn.of(config)
        splits, names, problem = _parse(sources, config, column, slices, faults, notes)
    _refuse_nothing_to_learn(splits, problem, names, column)
    count = 0 if fold_rule is None else number_of_folds(splits, config, fold_rule)
    present = set(splits)
    splits = cut_missing_splits(splits, problem, config, seed, notes, withhold=not count)
    held_out = tuple(split for split in splits if split not in present)
    splits = without_leaks(splits, config.on_leak, notes)
    notes += labels_without_train(splits, names, problem)
    if problem.one_label and problem.integer_references:
        references = references_of(splits["train"], problem)
        refuse_labels_of_single_rows(references, tuple(names.values()), column)
    if config.limit is not None and config.limit < len(splits["train"]):
        train = splits["train"]
        part = stratified_part(strata_of(train, problem), config.limit, seed)
        splits["train"] = filtered(train, np.isin(np.arange(len(train)), part))
        notes.append(f"train is limited to {config.limit} rows, stratified by label")
    labels, folds = tuple(names.values()), None
    if count:
        folds = folds_of_train(splits, problem, config, seed, count, labels, notes)
    unlabeled = read_unlabeled(config, splits, notes, tables)
    fingerprint = _fingerprint(splits, names, unlabeled)
    _refuse_nothing_to_learn(splits, problem, names, column)
    hint = problem.hint(list(names)) if config.problem == AUTO else None
    notes += [] if hint is None else [hint]
    return Corpus(splits, labels, fingerprint, tuple(notes), problem, folds, held_out, unlabeled)


def _refuse_nothing_to_learn(
    splits: dict[str, Dataset], problem: Problem, names: dict[str, str], column: LabelColumn
) -> None:
    for split, rows in splits.items():
        if not len(rows):  # `faults` says why
            raise UserError(ExitCode.DATA, f"No row of the {split} split is left.")
    references = references_of(splits["train"], problem)
    alike = problem.nothing_to_learn(references, tuple(names.values()))
    if alike is not None:
        raise UserError(ExitCode.DATA, f"Every row of train has {alike}. Check {column.name}.")


def load_run_corpus(
    config: Config, tables: Tables | None = None, faults: Faults | None = None
) -> Corpus:
    """The corpus of a run: everything of a configuration that says what its rows are.

    Args:
        tables: of each split, given from Python; None: the configuration names them.
        faults: takes what is wrong with rows, which are left out; None: it is an error.
    """
    rule = FoldRule(config.evaluation.folds, config.strategy.is_auto)
    slices = config.evaluation.slices
    return load_corpus(config.dataset, config.dataset.seed, slices, rule, faults, tables)


def describe(corpus: Corpus) -> Iterator[str]:
    """What there is, one line each: decisions on the way, rows and labels."""
    yield from corpus.notes
    rows = ", ".join(f"{name} {len(split):,}" for name, split in corpus.splits.items())
    listed = some_of(corpus.labels, corpus.problem.separator)
    labels = f"{corpus.problem.name}: {listed}"
    if not corpus.problem.has_labels:
        scores = corpus.references("train")
        labels = f"{corpus.problem.name}: scores from {scores.min():g} to {scores.max():g}"
    yield f"rows: {rows}; {labels}"


def _parse(
    sources: Mapping[str, list[Source]],
    config: DatasetConfig,
    column: LabelColumn,
    slices: Sequence[str],
    faults: Faults,
    notes: list[str],
) -> tuple[dict[str, Dataset], dict[str, str], Problem]:
    """The splits that there are, the labels as the data writes them with their names, the kind."""
    tables = {
        split: [read_table(source, split, config, slices, faults, notes) for source in parts]
        for split, parts in sources.items()
    }
    for split, parts in tables.items():
        notes += [
            f"dataset.{split} names {name} {times} times: its rows count as often"
            for name, times in Counter(source.name for source in sources[split]).items()
            if times > 1
        ]
        if not any(table.labels for table in parts):
            raise UserError(ExitCode.DATA, f"No row of the {split} split is left.")
    tables = without_unlabelled(tables, notes)
    tables = read_label_forms(tables, config, column, faults, notes)
    problem = problem_of(tables["train"], config)
    tables = {s: [parse(t, problem, config, faults) for t in parts] for s, parts in tables.items()}
    names = label_names(tables["train"], problem, config)
    splits = {
        split: with_label_ids(parts, names, problem, faults) for split, parts in tables.items()
    }
    return splits, names, problem


def answers_of(corpus: Corpus, split: str) -> list[str]:
    """The answer of each row in words."""
    return corpus.problem.describe_references(corpus.references(split), corpus.labels)


def _fingerprint(
    splits: dict[str, Dataset], names: dict[str, str], unlabeled: Dataset | None
) -> str:
    digest = hashlib.sha256(repr(list(names.values())).encode())
    splits = splits if unlabeled is None else {**splits, UNLABELED: unlabeled}
    for split in (*SPLITS, UNLABELED):
        if split in splits:
            digest.update(f"\0{split}\0".encode())
            columns = [name for name in COLUMNS if name in splits[split].column_names]
            for cells in zip(*(each_cell(splits[split], c) for c in columns), strict=True):
                row = "".join(f"{cell}\0" for cell in cells)
                digest.update(row.encode("utf-8", "surrogatepass"))
            for name in splits[split].column_names:
                if name.startswith(SLICE_PREFIX):
                    digest.update(repr((name, splits[split][name][:])).encode())
    return digest.hexdigest()
