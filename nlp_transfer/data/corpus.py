"""Turns labelled tables into a `Corpus`; owns the label contract.

One order of labels for the whole program: the dataset's `ClassLabel` if it has one, otherwise the
names sorted, integers as integers. It travels into `config.id2label` of every checkpoint.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset

from nlp_transfer.config.schema import AUTO, Config, DatasetConfig
from nlp_transfer.data.labels import (
    Table,
    parse,
    problem_of,
    read_labels,
    refuse_rows,
)
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
from nlp_transfer.data.tabular import other_delimiter
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.problems import Problem, problem_named
from nlp_transfer.problems.base import UNLABELLED, integer
from nlp_transfer.problems.single_label import SINGLE_LABEL

SLICE_PREFIX = "slice: "  # before the name of a column of the data, in a `Corpus`
CROSS_VALIDATION = "cross_validation"  # the split name of out-of-fold figures
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
    fingerprint: str  # of every text and label in every split, and of the label names
    notes: tuple[str, ...]  # what was decided on the way, for the log
    problem: Problem = SINGLE_LABEL
    folds: np.ndarray | None = None  # int [rows of train]; None: a validation split decides

    def rows(self, split: str) -> Dataset:
        """The rows of a split; `cross_validation` has those of train."""
        return self.splits["train" if split == CROSS_VALIDATION else split]

    @property
    def deciding_split(self) -> str:
        """The rows that decide and that the reported figures are of, where there is no test."""
        return "validation" if self.folds is None else CROSS_VALIDATION

    def references(self, split: str) -> np.ndarray:
        """Ids int64 [rows], 0/1 float32 [rows, labels] or scores float32 [rows]."""
        return references_of(self.rows(split), self.problem)

    def places(self, split: str, rows: np.ndarray) -> list[str]:
        """Where some rows of a split come from, in words that count from 1 on."""
        some = self.rows(split).select(rows)
        found = zip(some["source"], some["row"], strict=True)
        return [f"{split}: row {row} of {source}" for source, row in found]


def load_corpus(
    config: DatasetConfig,
    seed: int,
    slices: Sequence[str] = (),
    fold_rule: FoldRule | None = None,
) -> Corpus:
    """Read, check and complete the splits.

    Args:
        slices: columns that stay beside ours, as texts, named `SLICE_PREFIX` and their name.
        fold_rule: when the rows of train are cross-validated instead of cut; None: never.

    Raises:
        UserError: with the file, the rows and what to do.
    """
    notes: list[str] = []
    tables = {
        split: [_our_columns(source, split, config, slices) for source in sources]
        for split, sources in read_splits(config).items()
    }
    tables = _without_unlabelled(tables, notes)
    problem = problem_of(tables["train"], config)
    tables = {s: [parse(t, problem, config) for t in parts] for s, parts in tables.items()}
    names = _label_names(tables["train"], problem, config)
    splits = {split: _with_label_ids(parts, names, problem) for split, parts in tables.items()}
    count = 0 if fold_rule is None else number_of_folds(splits, config, fold_rule)
    splits = cut_missing_splits(splits, problem, config, seed, notes, withhold=not count)
    splits = without_leaks(splits, config.on_leak, notes)
    notes += labels_without_train(splits, names, problem)
    if config.limit is not None and config.limit < len(splits["train"]):
        part = stratified_part(strata_of(splits["train"], problem), config.limit, seed)
        splits["train"] = splits["train"].select(part)
        notes.append(f"train is limited to {config.limit} rows, stratified by label")
    folds = folds_of_train(splits, problem, config, seed, count, notes) if count else None
    labels, fingerprint = tuple(names.values()), _fingerprint(splits, names)
    alike = problem.nothing_to_learn(references_of(splits["train"], problem), labels)
    if alike is not None:
        raise UserError(ExitCode.DATA, f"Every row of train has {alike}. Check dataset.label.")
    hint = problem.hint(list(names)) if config.problem == AUTO else None
    notes += [] if hint is None else [hint]
    return Corpus(splits, labels, fingerprint, tuple(notes), problem, folds)


def load_run_corpus(config: Config) -> Corpus:
    """The corpus of a run: everything of a configuration that says what its rows are."""
    rule = FoldRule(config.evaluation.folds, config.strategy.is_auto)
    return load_corpus(config.dataset, config.dataset.seed, config.evaluation.slices, rule)


def describe(corpus: Corpus) -> Iterator[str]:
    """What there is, one line each: decisions on the way, rows and labels."""
    yield from corpus.notes
    rows = ", ".join(f"{name} {len(split):,}" for name, split in corpus.splits.items())
    labels = f"{corpus.problem.name}: {', '.join(corpus.labels)}"
    if not corpus.problem.has_labels:
        scores = corpus.references("train")
        labels = f"{corpus.problem.name}: scores from {scores.min():g} to {scores.max():g}"
    yield f"rows: {rows}; {labels}"


def load_labelled(
    sources: list[Source],
    config: DatasetConfig,
    names: Callable[[set[str], Sequence[str]], dict[str, str]],
    notes: list[str],
) -> Dataset:
    """One split for a model that there is already; `config.problem` is the model's.

    Args:
        names: from the labels as the data writes them, and the order a `ClassLabel` gives them
            (empty without one), to theirs in the model's order.

    Raises:
        UserError: with the file, the rows and what to do.
    """
    tables = [_our_columns(source, "--data", config, ()) for source in sources]
    tables = [_without_undecided(table, notes) for table in tables]
    if not any(len(table.labels) for table in tables):
        raise UserError(ExitCode.DATA, "No row of the data has a label (all are -1).")
    problem = problem_named(config.problem)
    listed = any(isinstance(label, list) for table in tables for label in table.labels)
    if listed and not (problem.several or problem.reads_columns):
        raise UserError(
            ExitCode.DATA,
            f"The label column {config.label!r} holds lists of labels, and the model answers with "
            f"one ({problem.name}).",
        )
    tables = [parse(table, problem, config) for table in tables]
    written = {str(label) for table in tables for label in problem.labels_in(table.labels)}
    order = () if any(table.order is None for table in tables) else tables[0].order or ()
    return _with_label_ids(tables, names(written, order), problem)


def answers_of(corpus: Corpus, split: str) -> list[str]:
    """The answer of each row in words."""
    return corpus.problem.describe_references(corpus.references(split), corpus.labels)


def _our_columns(source: Source, split: str, config: DatasetConfig, slices: Sequence[str]) -> Table:
    """The text and label columns; refuses missing columns and empty cells."""
    table = source.table
    if not len(table):
        raise UserError(ExitCode.DATA, f"The {split} split ({source.name}) has no rows.")
    asked = [("dataset.text", config.text), ("dataset.text_pair", config.text_pair)]
    asked += [("dataset.label", column) for column in config.label_columns]
    asked += [("dataset.group", config.group)]
    asked += [("evaluation.slices", column) for column in slices]
    for key, column in asked:
        if column is not None and column not in table.column_names:
            raise UserError(
                ExitCode.DATA,
                f"{key}={column!r} is not a column of {source.name} ({split}); it has "
                f"{', '.join(table.column_names)}. Set {key} to one of them."
                f"{other_delimiter(source.name, table.column_names)}",
            )
    texts, (labels, order) = list(table[config.text]), read_labels(table, config)
    pairs = None if config.text_pair is None else list(table[config.text_pair])
    kept: dict[str, list[Any]] = {f"{SLICE_PREFIX}{c}": _as_texts(table, c) for c in slices}
    kept |= {"source": [source.name] * len(texts), "row": list(range(1, len(texts) + 1))}
    if config.group is not None:
        kept["group"] = _as_texts(table, config.group)
    raw = Table(f"{source.name} ({split})", texts, pairs, labels, order, kept)
    refuse_rows(_empty(kept.get("group", [])), "an empty group", raw)
    refuse_rows(_empty(texts), "an empty text", raw)
    refuse_rows(_empty(pairs or []), "an empty second text", raw)
    refuse_rows([i for i, x in enumerate(labels) if x is None or x == ""], "no label", raw)
    seconds = None if pairs is None else [str(text) for text in pairs]
    return replace(raw, texts=[str(text) for text in texts], pairs=seconds)


def _as_texts(table: Dataset, column: str) -> list[str]:
    """The cells of a column to slice by; a `ClassLabel`'s by name."""
    feature = table.features[column]
    if isinstance(feature, ClassLabel):
        return ["" if cell in (None, -1) else feature.names[cell] for cell in table[column]]
    return ["" if cell is None else str(cell) for cell in table[column]]


def _empty(texts: Sequence[Any]) -> list[int]:
    return [i for i, text in enumerate(texts) if text is None or not str(text).strip()]


def _without_unlabelled(tables: dict[str, list[Table]], notes: list[str]) -> dict[str, list[Table]]:
    """A split whose labels are all -1 counts as absent: its labels are secret, not classes."""
    found = {
        split: {integer(label) for table in parts for label in SINGLE_LABEL.labels_in(table.labels)}
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


def _without_undecided(table: Table, notes: list[str]) -> Table:
    """Without the rows of a `ClassLabel` that are -1: the Hub's word for no label agreed upon."""
    if table.order is None or UNLABELLED not in table.labels:
        return table
    kept = [i for i, label in enumerate(table.labels) if label != UNLABELLED]
    notes.append(
        f"{len(table.labels) - len(kept)} of the {len(table.labels)} rows of {table.source} have "
        "no label (-1) and are left out"
    )
    return table.select(kept)


def _label_names(train: list[Table], problem: Problem, config: DatasetConfig) -> dict[str, str]:
    """Every label as the data writes it, in order, with its name."""
    if not problem.has_label_names and config.label_names is not None:
        raise UserError(
            ExitCode.DATA,
            f"dataset.label_names={config.label_names} has nothing to name: "
            f"dataset.label={config.label!r} holds {problem.rows_have}. If they are classes, say "
            f"dataset.problem={SINGLE_LABEL.name}.",
        )
    written = _order_of(train, problem, config)
    if config.label_names is None:
        return {label: label for label in written}
    given = config.label_names
    numbered = all(part.order is not None for part in train)
    names = named(given, written) if numbered else {label: given.get(label) for label in written}
    if None in names.values() or len(set(given.values())) < len(given):
        raise UserError(
            ExitCode.DATA,
            f"dataset.label_names={given} must give a name of its own to each of "
            f"{', '.join(written)}.",
        )
    return {label: str(name) for label, name in names.items()}


def named(given: Mapping[str, str], order: Sequence[str]) -> dict[str, str | None]:
    """The name of each label of a `ClassLabel`, meant by its own name or by its number."""
    return {label: given.get(label, given.get(str(i))) for i, label in enumerate(order)}


def _order_of(train: list[Table], problem: Problem, config: DatasetConfig) -> list[str]:
    if not problem.has_labels:
        return problem.order_labels(set(), None)
    if train[0].order is not None:
        order = train[0].order
        return (
            list(order) if config.order is None else problem.order_labels(set(order), config.order)
        )
    found = {label for table in train for label in problem.labels_in(table.labels)}
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
    return problem.order_labels(found, config.order)


def _with_label_ids(parts: list[Table], names: dict[str, str], problem: Problem) -> Dataset:
    """Labels are compared as text: a file may hold 1 where another holds "1"."""
    position = {label: i for i, label in enumerate(names)}
    columns: dict[str, list[Any]] = {"text": [], "text_pair": [], "label": []}
    columns |= {name: [] for name in parts[0].kept}
    for table in parts:
        encoded = problem.encode(table.labels, position)
        refuse_rows(encoded.wrong, encoded.fault, table)
        columns["text"] += table.texts
        columns["text_pair"] += table.pairs or []
        columns["label"] += encoded.labels
        for name, cells in table.kept.items():
            columns[name] += cells
    return Dataset.from_dict({name: cells for name, cells in columns.items() if cells})


def _fingerprint(splits: dict[str, Dataset], names: dict[str, str]) -> str:
    digest = hashlib.sha256(repr(list(names.values())).encode())
    for split in SPLITS:
        if split in splits:
            digest.update(f"\0{split}\0".encode())
            columns = [name for name in COLUMNS if name in splits[split].column_names]
            for cells in zip(*(splits[split][name] for name in columns), strict=True):
                row = "".join(f"{cell}\0" for cell in cells)
                digest.update(row.encode("utf-8", "surrogatepass"))
            for name in splits[split].column_names:
                if name.startswith(SLICE_PREFIX):
                    digest.update(repr((name, list(splits[split][name]))).encode())
    return digest.hexdigest()
