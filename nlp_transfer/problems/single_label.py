"""Exactly one label a text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from nlp_transfer.problems.base import Cells, Parsed, Problem, integer
from nlp_transfer.problems.registry import PROBLEMS, register_problem


@register_problem
class SingleLabel(Problem):
    """Classes without an order."""

    name = "single_label"
    metric_kind = "single_label"
    default_metrics: ClassVar[tuple[str, ...]] = (
        "accuracy",
        "f1_macro",
        "log_loss",
        "brier",
        "ece",
    )
    loss = "cross_entropy"
    solver = "logistic"

    def parse(self, cells: Cells, explicit: bool) -> Parsed:
        # Named by dataset.problem: 1.0 is the class 1.
        return Parsed([as_class(cell) for cell in cells] if explicit else list(cells), [])

    def hint(self, labels: Sequence[str]) -> str | None:
        """That classes which are consecutive integers may have an order."""
        numbers = [integer(label) for label in labels]
        low = numbers[0]
        if len(numbers) < 3 or low is None or numbers != list(range(low, low + len(numbers))):
            return None
        return (
            f"the labels are the integers {low} to {numbers[-1]}: if they are steps of a scale, "
            "dataset.problem=ordinal learns and measures how far apart they are"
        )

    def decide(
        self, probabilities: np.ndarray, labels: Sequence[str], thresholds: Mapping[str, float]
    ) -> np.ndarray:
        for label, threshold in thresholds.items():  # one, of two labels
            index = labels.index(label)
            return np.where(probabilities[:, index] > threshold, index, 1 - index)
        return probabilities.argmax(axis=1)

    def may_have_thresholds(self, labels: int) -> bool:
        return labels == 2


def as_class(label: Any) -> Any:
    """A number as the name of a class: 1.0 is "1"."""
    if isinstance(label, bool) or not isinstance(label, int | float):
        return label
    whole = math.isfinite(label) and label == round(label)
    return str(int(label)) if whole else str(label)


SINGLE_LABEL = PROBLEMS[SingleLabel.name]
