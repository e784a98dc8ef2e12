"""Completes the splits: cuts what is missing from train, and keeps train apart from the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from datasets import Dataset

from nlp_transfer.config.choices import Cut, OnLeak
from nlp_transfer.config.constants import AUTO
from nlp_transfer.config.sections.dataset import DatasetConfig
from nlp_transfer.data.columns import each_cell
from nlp_transfer.data.faults import SHOWN, have
from nlp_transfer.data.near_duplicates import keys_of
from nlp_transfer.data.splitters import Rows, cut_off, fold_of
from nlp_transfer.data.table import filtered
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.problems import Problem

FEWEST_HELD_OUT = 100  # rows of validation that may decide
AUTO_FOLDS = 4


def cut_missing_splits(
    splits: dict[str, Dataset],
    problem: Problem,
    config: DatasetConfig,
    seed: int,
    notes: list[str],
    withhold: bool = True,
) -> dict[str, Dataset]:
    """Validation is cut from train, never from test; test only where train is all there is.

    Args:
        withhold: False where train is cross-validated: no row of it is set aside.
    """
    splits = dict(splits)
    _refuse_groups_on_two_sides(splits, config)
    missing = []
    if config.folds is not None:
        missing.append(("test", 1 / config.folds))
    elif (
        withhold and config.validation is None and config.test is None and config.test_fraction > 0
    ):
        missing.append(("test", config.test_fraction))
    if withhold and "validation" not in splits:
        missing.append(("validation", config.validation_fraction))
    whole = len(splits["train"])
    remaining = (
        1.0  # the share of train that is left: not counted, so that more rows change no hash
    )
    for split, fraction in missing:
        train = splits["train"]
        rows, share = _rows_to_cut(train, problem, config), fraction / remaining
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
        remaining -= fraction
        splits["train"], splits[split] = (filtered(train, rows) for rows in (~cut, cut))
        notes.append(f"{cut.sum()} rows of train, {_how(config)}, are the {split} split")
    return splits


@dataclass(frozen=True)
class FoldRule:
    """When the rows of train are cross-validated (`evaluation.folds`)."""

    folds: str  # auto, or a number
    chooses_recipe: bool  # `strategy=auto` has a choice to make


def number_of_folds(splits: dict[str, Dataset], config: DatasetConfig, rule: FoldRule) -> int:
    """How many folds of train are made; 0 where a validation split decides.

    With `auto`, folds are made where a validation split would have fewer than `FEWEST_HELD_OUT`
    rows: accuracy on 20 rows has a standard error of about ten points, on 100 rows of four.
    A validation split that was given is only joined by folds where a recipe is chosen.
    """
    rows = min(len(splits["train"]), config.limit or len(splits["train"]))
    if rule.folds != AUTO:
        return min(int(rule.folds), rows)
    if "validation" in splits:
        decides = len(splits["validation"]) >= FEWEST_HELD_OUT or not rule.chooses_recipe
    else:
        decides = rows * config.validation_fraction >= FEWEST_HELD_OUT
    return 0 if decides else max(2, min(AUTO_FOLDS, rows // 2))


def folds_of_train(  # noqa: PLR0913
    splits: dict[str, Dataset],
    problem: Problem,
    config: DatasetConfig,
    seed: int,
    count: int,
    names: Sequence[str],
    notes: list[str],
) -> np.ndarray:
    """The fold of each row of train, int [rows]; stratified, by group or by hash as cuts are.

    Args:
        names: of the labels, in their order.

    Raises:
        UserError: where the rows of all folds but one would hold a single label.
    """
    train = splits["train"]
    folds = fold_of(_rows_to_cut(train, problem, config), count, config.cut, seed)
    references = references_of(train, problem)
    for fold in range(count):
        rest = references[folds != fold]
        if not len(rest) or bool((rest == rest[0]).all()):
            raise UserError(
                ExitCode.DATA,
                f"The {len(train)} rows of train are too few for {count} folds: without fold "
                f"{fold} only one label is left. Give at least two rows of every label, a "
                "validation file (dataset.validation), or evaluation.folds=0.",
            )
    if problem.one_label and problem.integer_references:
        _note_labels_of_one_fold(references, folds, count, names, notes)
    if "validation" in splits:
        there = f", {len(splits['validation'])} of validation: {count}-fold cross-validation of "
        there += "train decides"
    else:
        there = f": none is set aside for validation; {count}-fold cross-validation decides and "
        there += "gives the figures"
    notes.append(f"{len(train)} rows of train{there} (evaluation.folds)")
    return folds


def _note_labels_of_one_fold(
    references: np.ndarray, folds: np.ndarray, count: int, names: Sequence[str], notes: list[str]
) -> None:
    """Say which labels no model of the folds both learns and is asked for; not all may be such."""
    alone = _in_one_fold(references, folds)
    if len(alone) == len(np.unique(references)):
        raise UserError(
            ExitCode.DATA,
            f"No label of train has rows in two of {count} folds, so that no answer could be "
            "right. Give at least two rows of every label, a validation file "
            "(dataset.validation), or evaluation.folds=0.",
        )
    if len(alone):
        notes.append(
            f"all rows of {_listed([names[label] for label in alone])} are in one fold: where "
            "it is held out, nothing is learned about them, and cross-validation counts them "
            "as wrong"
        )


def _listed(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - SHOWN:,} more labels" if len(labels) > SHOWN else ""
    return f"{', '.join(map(repr, labels[:SHOWN]))}{more}"


def _in_one_fold(references: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """The labels of which all rows are in one fold: int [labels]."""
    labels, counts = np.unique(np.unique([references, folds], axis=1)[0], return_counts=True)
    return labels[counts == 1]


def without_leaks(
    splits: dict[str, Dataset], on_leak: OnLeak, notes: list[str]
) -> dict[str, Dataset]:
    """Train without the rows that validation or test has too, where that was asked for."""
    if on_leak is OnLeak.warn:
        return splits
    train = splits["train"]
    held_out = {key for split, rows in splits.items() if split != "train" for key in keys_of(rows)}
    leaks = np.array([key in held_out for key in keys_of(train)])
    if not leaks.any():
        return splits
    count = int(leaks.sum())
    message = f"{count:,} of the {len(train):,} rows of train {have(count)} a text that is also in "
    message += " or ".join(split for split in splits if split != "train")
    if on_leak is OnLeak.error:
        some = train.select(np.flatnonzero(leaks)[:SHOWN])
        examples = "".join(
            f"\n  row {row['row']} of {row['source']}: {row['text'][:60]!r}" for row in some
        )
        raise UserError(
            ExitCode.DATA,
            f"{message} (dataset.on_leak=error):{examples}\n"
            "Remove them, or set dataset.on_leak=drop.",
        )
    if leaks.all():
        raise UserError(
            ExitCode.DATA, f"{message}: dataset.on_leak=drop leaves nothing to train on."
        )
    notes.append(f"{message}; they are left out of train (dataset.on_leak=drop)")
    return {**splits, "train": filtered(train, ~leaks)}


def labels_without_train(
    splits: dict[str, Dataset], names: dict[str, str], problem: Problem
) -> list[str]:
    """Labels that a cut has taken from train whole: they will never be the answer."""
    classes = {
        split: problem.classes(references_of(rows, problem)) for split, rows in splits.items()
    }
    if classes["train"] is None:
        return []
    everywhere = {label for ids in classes.values() if ids is not None for label in ids.tolist()}
    missing = sorted(everywhere - set(classes["train"].tolist()))
    labels = list(names.values())
    return [
        f"train has no row labelled {labels[i]}: all of them went to the other splits"
        for i in missing
    ]


def strata_of(rows: Dataset, problem: Problem) -> np.ndarray:
    """What a cut keeps the shares of, int [rows]: labels, or what stands for them."""
    return problem.strata(references_of(rows, problem))


def _rows_to_cut(train: Dataset, problem: Problem, config: DatasetConfig) -> Rows:
    strata = np.unique(strata_of(train, problem), return_inverse=True)[1]
    if config.group is not None:
        keys = train["group"][:]
        return Rows(strata, keys, np.unique(keys, return_inverse=True)[1])
    if config.cut is not Cut.hash:
        return Rows(strata, [], None)
    names = [name for name in ("text", "text_pair") if name in train.column_names]
    columns = [each_cell(train, name) for name in names]
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
        shared = sorted(set(splits[one]["group"][:]) & set(splits[other]["group"][:]))
        if shared:
            raise UserError(
                ExitCode.DATA,
                f"{len(shared)} values of dataset.group={config.group!r} are in {one} and in "
                f"{other} ({', '.join(shared[:3])} …). Correct the files, give dataset.train alone "
                "(the rest is cut from it), or leave out dataset.group.",
            )


def references_of(rows: Dataset, problem: Problem) -> np.ndarray:
    """Class ids int64 [rows]; of other kinds of label float32 [rows] or [rows, labels]."""
    return problem.references(rows["label"][:])
