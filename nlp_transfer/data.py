"""Turns labelled tables into a `Corpus`; owns the label contract.

One order of labels for the whole program: the dataset's `ClassLabel` if it has one, otherwise the
names sorted, integers as integers. It travels into `config.id2label` of every checkpoint.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset

from nlp_transfer.config import Cut, DatasetConfig, Problem
from nlp_transfer.cuts import Rows, cut_off, fold_of, stratified_part
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.labels import (
    SCORE,
    UNLABELLED,
    Table,
    as_answers,
    different,
    integer,
    problem_of,
    read_labels,
    refuse_rows,
)
from nlp_transfer.slices import KEPT
from nlp_transfer.sources import SPLITS, Source, read_splits

COLUMNS = ("label", "text", "text_pair")


@dataclass(frozen=True)
class Corpus:
    """Labelled texts with our column names: `text`, `label`, and of pairs also `text_pair`.

    `label` is an index into `labels`; where a text may have several, 0 or 1 for each of `labels`;
    or a score.
    `splits` has train and validation, and test where there is one. `source` and `row` (from 1) say
    where each text came from.
    """

    splits: dict[str, Dataset]
    labels: tuple[str, ...]
    fingerprint: str  # of every text and label in every split, and of the label names
    notes: tuple[str, ...]  # what was decided on the way, for the log
    problem: Problem = Problem.single_label

    @property
    def has_test(self) -> bool:
        """Whether there are labelled rows that played no part in choosing the model."""
        return "test" in self.splits

    def references(self, split: str) -> np.ndarray:
        """Ids int64 [rows], 0/1 float32 [rows, labels] or scores float32 [rows]."""
        return _references(self.splits[split], self.problem)


def load_corpus(config: DatasetConfig, seed: int, slices: Sequence[str] = ()) -> Corpus:
    """Read, check and complete the splits.

    Args:
        slices: columns that stay beside ours, as texts, named `KEPT` and their name.

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
    tables = {s: [as_answers(t, problem, config) for t in parts] for s, parts in tables.items()}
    names = _label_names(tables["train"], problem, config)
    splits = {split: _with_label_ids(parts, names, problem) for split, parts in tables.items()}
    splits = _cut_missing_splits(splits, problem, config, seed, notes)
    notes += _labels_without_train(splits, names, problem)
    if config.limit is not None and config.limit < len(splits["train"]):
        part = stratified_part(_strata(splits["train"], problem), config.limit, seed)
        splits["train"] = splits["train"].select(part)
        notes.append(f"train is limited to {config.limit} rows, stratified by label")
    _refuse_one_class(_references(splits["train"], problem), names, problem)
    labels, fingerprint = tuple(names.values()), _fingerprint(splits, names)
    return Corpus(splits, labels, fingerprint, tuple(notes), problem)


def answers_of(corpus: Corpus, split: str) -> list[str]:
    """The answer of each row in words."""
    found = list(corpus.splits[split]["label"])
    match corpus.problem:
        case Problem.multi_label:
            return [
                ", ".join(n for n, has in zip(corpus.labels, row, strict=True) if has) or "none"
                for row in found
            ]
        case Problem.regression:
            return [f"{score:g}" for score in found]
        case _:
            return [corpus.labels[label] for label in found]


def _references(rows: Dataset, problem: Problem) -> np.ndarray:
    kind = np.int64 if problem is Problem.single_label else np.float32
    return np.array(rows["label"], dtype=kind)


def _strata(rows: Dataset, problem: Problem) -> np.ndarray:
    """What a cut keeps the shares of: labels, the rarest label of a text, tenths of the scores.

    Returns:
        int [rows].
    """
    found = _references(rows, problem)
    match problem:
        case Problem.multi_label:
            share = np.where(found > 0, found.mean(axis=0), np.inf)
            return np.where(found.any(axis=1), share.argmin(axis=1), -1)
        case Problem.regression:
            return np.searchsorted(np.quantile(found, np.linspace(0, 1, 11)[1:-1]), found)
        case _:
            return found


def _our_columns(source: Source, split: str, config: DatasetConfig, slices: Sequence[str]) -> Table:
    """The text and label columns; refuses missing columns and empty cells."""
    table = source.table
    asked = [("dataset.text", config.text), ("dataset.text_pair", config.text_pair)]
    asked += [("dataset.label", column) for column in config.label_columns]
    asked += [("dataset.group", config.group)]
    asked += [("evaluation.slices", column) for column in slices]
    for key, column in asked:
        if column is not None and column not in table.column_names:
            raise UserError(
                ExitCode.DATA,
                f"{key}={column!r} is not a column of {source.name} ({split}); it has "
                f"{', '.join(table.column_names)}. Set {key} to one of them.",
            )
    if not len(table):
        raise UserError(ExitCode.DATA, f"The {split} split ({source.name}) has no rows.")
    texts, (labels, order) = list(table[config.text]), read_labels(table, config)
    pairs = None if config.text_pair is None else list(table[config.text_pair])
    kept: dict[str, list[Any]] = {f"{KEPT}{c}": _as_texts(table, c) for c in slices}
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
        split: {integer(label) for table in parts for label in different(table.labels)}
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
    if problem is Problem.regression:
        if config.label_names is not None:
            raise UserError(
                ExitCode.DATA,
                f"dataset.label_names={config.label_names} has nothing to name: "
                f"dataset.label={config.label!r} holds scores. If they are classes, say "
                "dataset.problem=single_label.",
            )
        return {SCORE: SCORE}
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


def _order_of(train: list[Table], config: DatasetConfig) -> list[str]:
    if train[0].order is not None:
        return list(train[0].order)
    found = {label for table in train for label in different(table.labels)}
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
    integers = all(integer(label) is not None for label in found)
    # The text decides between 1 and 01: the order of a set differs from process to process.
    key = {str(label): (integer(label) if integers else 0, str(label)) for label in found}
    return sorted(key, key=lambda label: key[label])


def _with_label_ids(parts: list[Table], names: dict[str, str], problem: Problem) -> Dataset:
    """Labels are compared as text: a file may hold 1 where another holds "1"."""
    position = {label: i for i, label in enumerate(names)}
    columns: dict[str, list[Any]] = {"text": [], "text_pair": [], "label": []}
    columns |= {name: [] for name in parts[0].kept}
    for table in parts:
        found = _ids(table, position, problem)
        columns["text"] += table.texts
        columns["text_pair"] += table.pairs or []
        columns["label"] += found
        for name, cells in table.kept.items():
            columns[name] += cells
    return Dataset.from_dict({name: cells for name, cells in columns.items() if cells})


def _ids(table: Table, position: dict[str, int], problem: Problem) -> list[Any]:
    """The answer of each row as a `Corpus` has it."""
    if problem is Problem.regression:
        return list(table.labels)
    many = problem is Problem.multi_label
    found = [
        [position.get(str(label), UNLABELLED) for label in (cell if many else [cell])]
        for cell in table.labels
    ]
    unknown = [i for i, ids in enumerate(found) if UNLABELLED in ids]
    known = ", ".join(position)
    refuse_rows(unknown, f"a label that train does not have (it has {known})", table)
    if many:
        return [[int(i in ids) for i in range(len(position))] for ids in map(set, found)]
    return [ids[0] for ids in found]


def _refuse_one_class(found: np.ndarray, names: dict[str, str], problem: Problem) -> None:
    """Train must have something to tell apart."""
    labels = list(names.values())
    match problem:
        case Problem.regression:
            alike, said = np.ptp(found) == 0, f"the score {found[0]:g}; there is nothing to learn"
        case Problem.multi_label:
            alike = bool((found == found[0]).all())
            said = "the same labels; there is nothing to learn"
        case _:
            alike = len(np.unique(found)) < 2
            said = f"the label {labels[found[0]]!r}; a classifier needs at least two"
    if alike:
        raise UserError(ExitCode.DATA, f"Every row of train has {said}. Check dataset.label.")


def _cut_missing_splits(
    splits: dict[str, Dataset],
    problem: Problem,
    config: DatasetConfig,
    seed: int,
    notes: list[str],
) -> dict[str, Dataset]:
    """Validation is cut from train, never from test; test only where train is all there is."""
    splits = dict(splits)
    _refuse_groups_on_two_sides(splits, config)
    missing = []
    if config.folds is not None:
        missing.append(("test", 1 / config.folds))
    elif config.validation is None and config.test is None and config.test_fraction > 0:
        missing.append(("test", config.test_fraction))
    if "validation" not in splits:
        missing.append(("validation", config.validation_fraction))
    whole = len(splits["train"])
    left = 1.0  # the share of train that is left: not counted, so that more rows change no hash
    for split, fraction in missing:
        train = splits["train"]
        rows, share = _rows_to_cut(train, problem, config), fraction / left
        if split == "test" and config.folds is not None:
            cut = fold_of(rows, config.folds, config.cut, seed) == config.fold
        else:
            size = max(round(whole * fraction), 1)
            if size >= len(train):
                raise UserError(
                    ExitCode.DATA,
                    f"train has only {whole} rows: no {split} split can be cut from it.",
                )
            cut = cut_off(rows, share, size, config.cut, split, seed)
        left -= fraction
        splits["train"], splits[split] = (train.select(np.flatnonzero(x)) for x in (~cut, cut))
        notes.append(f"{cut.sum()} rows of train, {_how(config)}, are the {split} split")
    return splits


def _labels_without_train(
    splits: dict[str, Dataset], names: dict[str, str], problem: Problem
) -> list[str]:
    """Labels that a cut has taken from train whole: they will never be the answer."""
    if problem is not Problem.single_label:
        return []
    everywhere = {label for rows in splits.values() for label in rows["label"]}
    lost = sorted(everywhere - set(splits["train"]["label"]))
    labels = list(names.values())
    return [f"no row of train has the label {labels[i]}: the other splits have all" for i in lost]


def _rows_to_cut(train: Dataset, problem: Problem, config: DatasetConfig) -> Rows:
    strata = np.unique(_strata(train, problem), return_inverse=True)[1]
    if config.group is not None:
        keys = list(train["group"])
        return Rows(strata, keys, np.unique(keys, return_inverse=True)[1])
    columns = [train[name] for name in ("text", "text_pair") if name in train.column_names]
    return Rows(strata, ["\0".join(texts) for texts in zip(*columns, strict=True)], None)


def _how(config: DatasetConfig) -> str:
    by = "their text" if config.group is None else f"their {config.group}"
    if config.cut is Cut.hash:
        return f"by the hash of {by}"
    return "stratified by label" if config.group is None else f"kept together by {by}"


def _refuse_groups_on_two_sides(splits: dict[str, Dataset], config: DatasetConfig) -> None:
    """Files that were given may hold the same group."""
    if config.group is None:
        return
    for one, other in combinations(splits, 2):
        shared = sorted(set(splits[one]["group"]) & set(splits[other]["group"]))
        if shared:
            raise UserError(
                ExitCode.DATA,
                f"{len(shared)} values of dataset.group={config.group!r} are in {one} and in "
                f"{other} ({', '.join(shared[:3])} …). Mend the files, give dataset.train alone "
                "(the rest is cut from it), or leave out dataset.group.",
            )


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
                if name.startswith(KEPT):
                    digest.update(repr((name, list(splits[split][name]))).encode())
    return digest.hexdigest()
