"""Says how much each label counts, in the loss and in a solved head."""

from __future__ import annotations

from typing import Any

import numpy as np

from nlp_transfer.config.choices import ClassWeights
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.problems import Problem
from nlp_transfer.problems.base import some_of

POWERS = {ClassWeights.balanced: 1.0, ClassWeights.sqrt: 0.5}


def weigh_labels(
    references: np.ndarray, labels: tuple[str, ...], problem: Problem, setting: Any
) -> np.ndarray | None:
    """How much a row of each label counts, float64 [labels]; None where all count the same.

    On average over train a row counts as much as one. Where a text may have several labels, it is
    the yes to each label that is weighed, against a no that counts one.

    Args:
        references: the labels of train, as `Corpus.references` gives them.
        setting: `training.class_weights`.

    Raises:
        UserError: where the weights do not fit the labels.
    """
    if setting == ClassWeights.none.value:
        return None
    if not problem.class_weights:
        raise UserError(
            ExitCode.CONFIG,
            f"training.class_weights={setting} has nothing to weigh: the rows have "
            f"{problem.rows_have}.",
        )
    if problem.several:
        rows = references.sum(axis=0)
        power = None if isinstance(setting, dict) else POWERS[ClassWeights(setting)]
        if power is None:
            return _by_name(setting, labels)
        return (np.maximum(len(references) - rows, 1) / np.maximum(rows, 1)) ** power
    rows = np.bincount(references, minlength=len(labels))
    if isinstance(setting, dict):
        weights = _by_name(setting, labels)
    else:
        # A label without rows is met by no row of train.
        weights = np.maximum(rows, 1) ** -POWERS[ClassWeights(setting)]
    return weights * rows.sum() / (weights * rows).sum()


def _by_name(weights: dict[str, float], labels: tuple[str, ...]) -> np.ndarray:
    if set(weights) != set(labels):
        raise UserError(
            ExitCode.CONFIG,
            f"training.class_weights={weights} must give a weight to each of {some_of(labels)} "
            "and to nothing else.",
        )
    return np.array([float(weights[label]) for label in labels])
