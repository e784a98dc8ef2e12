"""Classes with an order, such as 1 to 5 stars or low < medium < high.

References are class ids in their order. The exported checkpoint is a plain single-label classifier
whose `config.json` names this kind, so that we answer with the median.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nlp_transfer.problems.base import HALF, integer, refuse
from nlp_transfer.problems.registry import PROBLEMS, register_problem
from nlp_transfer.problems.single_label import SingleLabel

ROUNDING = 1e-12  # of a cumulative probability


@register_problem
class Ordinal(SingleLabel):
    """One of several classes, where being off by two is worse than by one."""

    name = "ordinal"
    metric_kind = "ordinal"
    default_metrics = ("quadratic_kappa", "mae", "accuracy")
    loss = "squared_earth_mover"
    separator = " < "
    has_order = True
    pipeline_note = (
        "A `pipeline` answers with the likeliest class, `nlp_transfer` with the median of the "
        "distribution: the first class whose cumulative probability reaches one half."
    )

    def describe(self, labels: int) -> str:
        return f"one of {labels} ordered labels"

    def order_labels(self, labels: set[Any], order: Sequence[str] | None) -> list[str]:
        """As `order` has them, else by their integers.

        Raises:
            UserError: neither says the order of every label.
        """
        names = {str(label) for label in labels}
        if order is None:
            if any(integer(label) is None for label in labels):
                examples = ", ".join(sorted(names)[:5])
                raise refuse(
                    f"dataset.problem={self.name} needs the order of the labels, and they are not "
                    f"integers ({examples}). Name all of them from the lowest to the highest, as "
                    "in dataset.order=[low,medium,high]."
                )
            return super().order_labels(labels, None)
        missing = sorted(names - set(order))
        if missing or len(set(order)) < len(order):
            what = f"leaves out {', '.join(missing)}" if missing else "names a label twice"
            raise refuse(f"dataset.order={list(order)} {what}; it must name every label once.")
        return list(order)

    def hint(self, labels: Sequence[str]) -> str | None:
        del labels
        return None

    def decide(
        self, probabilities: np.ndarray, labels: Sequence[str], thresholds: Mapping[str, float]
    ) -> np.ndarray:
        """The class at the median of the distribution, int64 [rows]."""
        del labels, thresholds
        below = np.cumsum(probabilities, axis=1) < HALF - ROUNDING
        return np.minimum(below.sum(axis=1), probabilities.shape[1] - 1)

    def row_errors(self, references: np.ndarray, logits: np.ndarray) -> np.ndarray:
        """By how many steps the answer to each row is off, float64 [rows]."""
        return np.abs(self._answers(logits) - references).astype(np.float64)

    def may_have_thresholds(self, labels: int) -> bool:
        del labels
        return False


ORDINAL = PROBLEMS[Ordinal.name]
