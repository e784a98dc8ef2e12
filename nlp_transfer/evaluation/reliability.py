"""Reliability: how often the model is right at each level of confidence."""

from __future__ import annotations

from typing import Any

import numpy as np

from nlp_transfer.evaluation.metrics.probabilities import BINS, bins_of
from nlp_transfer.evaluation.registry import MIN_ROWS

COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)


def reliability(references: np.ndarray, probabilities: np.ndarray) -> list[dict[str, Any]]:
    """Mean confidence against accuracy, by bins that have rows; empty below `MIN_ROWS` rows."""
    if len(references) < MIN_ROWS:
        return []
    confidence, right = _sure_and_right(references, probabilities)
    bins = bins_of(confidence)
    return [
        {
            "low": i / BINS,
            "high": (i + 1) / BINS,
            "rows": int((bins == i).sum()),
            "confidence": float(confidence[bins == i].mean()),
            "accuracy": float(right[bins == i].mean()),
        }
        for i in np.unique(bins).tolist()
    ]


def accuracy_by_coverage(references: np.ndarray, probabilities: np.ndarray) -> list[dict[str, Any]]:
    """The accuracy of the most confident answers, the others left to a person.

    `confidence` is the least at which the model answers by itself. Empty below `MIN_ROWS` rows.
    """
    if len(references) < MIN_ROWS:
        return []
    confidence, right = _sure_and_right(references, probabilities)
    order = np.argsort(-confidence, kind="stable")
    hits = np.cumsum(right[order])
    rows = [max(round(share * len(order)), 1) for share in COVERAGES]
    return [
        {
            "coverage": share,
            "rows": count,
            "accuracy": float(hits[count - 1] / count),
            "confidence": float(confidence[order[count - 1]]),
        }
        for share, count in zip(COVERAGES, rows, strict=True)
    ]


def _sure_and_right(
    references: np.ndarray, probabilities: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == references
