"""Detects the kind of label from the label column, or from the configuration of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nlp_transfer.problems.base import Cells, Problem, integer, number, refuse
from nlp_transfer.problems.multi_label import MULTI_LABEL
from nlp_transfer.problems.registry import problem_named, problems
from nlp_transfer.problems.regression import REGRESSION
from nlp_transfer.problems.single_label import SINGLE_LABEL

OF_COLUMNS = MULTI_LABEL  # where dataset.label is a list of columns and dataset.problem is auto
PROBLEM_KEY = "nlp_transfer_problem"  # in the configuration of a classifier
SHOWN = 3
NOT_A_SCORE = (
    "a label that is not a number, where others have a fraction (if the labels are names, "
    "set dataset.problem=single_label)"
)


def detect(cells: Cells, has_order: bool, column: Any) -> Problem | None:
    """What the labels of train show; None: most are scores, and some are not numbers.

    Args:
        cells: labels, or lists of labels.
        has_order: a `ClassLabel` of the Hub names them.
        column: `dataset.label`, for the error.

    Raises:
        UserError: where they can be read in two ways.
    """
    if any(isinstance(cell, list) for cell in cells):
        return MULTI_LABEL
    labels = SINGLE_LABEL.labels_in(cells)
    numbers = [number(label) for label in labels]
    if has_order or all(map(_is_whole, labels)):
        return SINGLE_LABEL
    fractions = any(value != round(value) for value in numbers if value is not None)
    if None in numbers:
        return None if fractions else SINGLE_LABEL
    if fractions:
        return REGRESSION
    examples = ", ".join(str(label) for label in sorted(labels, key=str)[:SHOWN])
    raise refuse(
        f"dataset.label={column!r} holds numbers with a decimal point that are all whole "
        f"({examples} …): are they classes or scores? Set dataset.problem=single_label or "
        "dataset.problem=regression."
    )


def problem_of_config(config: Mapping[str, Any]) -> Problem:
    """The kind that a `config.json` names; folders of other origin may not name it."""
    if config.get(PROBLEM_KEY) is not None:
        return problem_named(config[PROBLEM_KEY])
    kind = config.get("problem_type") or SINGLE_LABEL.problem_type
    return next(problem for problem in problems().values() if problem.problem_type == kind)


def remember_problem(problem: Problem, model_config: Any) -> None:
    """Write the kind into the configuration of a classifier."""
    model_config.problem_type = problem.problem_type
    plain = problem_of_config({"problem_type": problem.problem_type}) is problem
    if not plain or getattr(model_config, PROBLEM_KEY, None) is not None:
        setattr(model_config, PROBLEM_KEY, problem.name)


def problem_to_measure(
    problem: Problem, labels: Sequence[str], config: Mapping[str, Any]
) -> Problem:
    """The kind to measure a folder by: a single output whose kind is not named is a score."""
    unnamed = config.get("problem_type") is None
    return REGRESSION if unnamed and len(labels) == 1 else problem


def _is_whole(label: Any) -> bool:
    return not isinstance(label, float) and integer(label) is not None
