"""Metrics of texts with several labels, and of scores, as functions of weighted rows.

A weighting says how often each row counts: once for the metric itself, as a bootstrap drew it for
an interval.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nlp_transfer.evaluation.metrics import BY_LABEL, SMALLEST, Classes, Counts

Score = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
Values = Callable[[np.ndarray, np.ndarray], np.ndarray]


def decision_columns(references: np.ndarray, decisions: np.ndarray) -> np.ndarray:
    """What is counted of each label's yes or no: hits, given and right, float [3, rows, labels]."""
    return np.stack([references * decisions, decisions, references]).astype(np.float64)


def ranking_precisions(references: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """By row: of the labels down to each right one, the share that is right, averaged.

    1 where every label is right, or none.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ranked = np.take_along_axis(probabilities, order, axis=1)
    right = np.take_along_axis(references, order, axis=1).astype(np.float64)
    # Labels with the same probability stand together at the last of their places.
    last = np.diff(ranked, axis=1, append=-np.inf) < 0
    places = np.where(last, np.arange(ranked.shape[1]), ranked.shape[1])
    places = np.minimum.accumulate(places[:, ::-1], axis=1)[:, ::-1]
    precision = np.take_along_axis(np.cumsum(right, axis=1), places, axis=1) / (places + 1)
    count = right.sum(axis=1)
    mean = (precision * right).sum(axis=1) / np.maximum(count, 1)
    return np.where((count == 0) | (count == ranked.shape[1]), 1.0, mean)


def decision_losses(references: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Log loss by row, of every label's yes or no."""
    right = np.where(references > 0, probabilities, 1 - probabilities)
    return -np.log(np.clip(right, SMALLEST, 1)).mean(axis=1)


def average_precision(
    references: np.ndarray, probabilities: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """How well each label ranks the texts, [...], averaged over the labels that there are."""
    by_row = np.ascontiguousarray(np.moveaxis(weights, -1, 0), dtype=np.float32)
    each = [
        _ranked(references[:, i] > 0, probabilities[:, i], by_row)
        for i in np.flatnonzero(references.any(axis=0))
    ]
    found = np.stack(each) if each else np.full((1, *weights.shape[:-1]), np.nan)
    defined = ~np.isnan(found)
    total, count = np.where(defined, found, 0).sum(axis=0), defined.sum(axis=0)
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def _ranked(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average precision of one label, [...]; NaN where no row that has it counts.

    Args:
        weights: [rows, ...].
    """
    order = np.argsort(-scores, kind="stable")
    right = positive[order]
    # Only the places down to the last row of a score that a positive row has say something.
    last = np.flatnonzero(np.diff(scores[order], append=-np.inf) < 0)
    ends = last[np.add.reduceat(right.astype(int), np.r_[0, last[:-1] + 1]) > 0]
    first = np.flatnonzero(np.diff(np.searchsorted(ends, np.flatnonzero(right)), prepend=-1))
    hits = np.add.reduceat(weights[order[right]], first, axis=0)
    rows = np.add.reduceat(weights[order[: ends[-1] + 1]], np.r_[0, ends[:-1] + 1], axis=0)
    reached, down_to = (np.cumsum(each, axis=0, dtype=np.float64) for each in (hits, rows))
    precision = np.divide(reached, down_to, out=np.zeros_like(reached), where=down_to > 0)
    total, count = (hits * precision).sum(axis=0), reached[-1]
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def pearson(references: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[...]; NaN where either side is the same everywhere."""
    return _correlation(_from_nought_to_one(references), _from_nought_to_one(scores), weights)


def spearman(references: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[...], of the ranks among the rows that count; NaN as for Pearson."""
    return _correlation(_ranks(references, weights), _ranks(scores, weights), weights)


def _from_nought_to_one(values: np.ndarray) -> np.ndarray:
    values = values.astype(np.float64)
    return (values - values.min()) / (np.ptp(values) or 1)


def _ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """As shares of the rows, [..., rows]; equal values share the middle of their places."""
    _, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    each = np.add.reduceat(weights[..., order], starts, axis=-1)
    middle = np.cumsum(each, axis=-1) - (each - 1) / 2
    return (middle / weights.sum(axis=-1, keepdims=True))[..., group]


def _correlation(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Of values between 0 and 1, [rows] or [..., rows]."""
    total = weights.sum(axis=-1)

    def mean(values: np.ndarray) -> np.ndarray:
        return np.einsum("...r,...r->...", weights, values) / total

    x, y = x - mean(x)[..., None], y - mean(y)[..., None]
    spread = mean(x * x) * mean(y * y)
    undefined = np.full_like(spread, np.nan)
    return np.divide(mean(x * y), np.sqrt(spread), out=undefined, where=spread > SMALLEST**2)


def _of_counts(score: Callable[[Counts, Classes], np.ndarray]) -> Score:
    return lambda references, decisions, weights: score(
        Counts(*(weights @ decision_columns(references, decisions))), NO_CLASSES
    )


def _mean_of(values: Values) -> Score:
    return lambda references, found, weights: (
        weights @ values(references, found) / weights.sum(axis=-1)
    )


def _together(counts: Counts) -> Counts:
    """All labels as one."""
    parts = (counts.hits, counts.predicted, counts.actual)
    return Counts(*(part.sum(axis=-1, keepdims=True) for part in parts))


NO_CLASSES = Classes((), 0)  # none of several labels is the positive one
# name: (score [...] of the counts [..., labels] of each label's yes or no)
BY_COUNT: dict[str, Callable[[Counts, Classes], np.ndarray]] = {
    "f1_micro": lambda counts, _: _together(counts).f1[..., 0],
    "f1_macro": BY_LABEL["f1_macro"],
    "f1_weighted": BY_LABEL["f1_weighted"],
    "precision_micro": lambda counts, _: _together(counts).precision[..., 0],
    "precision_macro": BY_LABEL["precision_macro"],
    "recall_micro": lambda counts, _: _together(counts).recall[..., 0],
    "recall_macro": BY_LABEL["recall_macro"],
}
# name: values by row [rows], whose mean the metric is
MEANS: dict[str, Values] = {
    "ranking_precision": ranking_precisions,
    "log_loss": decision_losses,
    "mse": lambda references, scores: (references - scores) ** 2,
    "mae": lambda references, scores: np.abs(references - scores),
}
# Of several labels. name: (score [...] of references 0/1 and decisions 0/1, both [rows, labels],
# and weights [..., rows])
BY_DECISION: dict[str, Score] = {
    **{name: _of_counts(score) for name, score in BY_COUNT.items()},
    "accuracy": _mean_of(lambda references, found: (references == found).all(axis=1)),
}
# The same of probabilities [rows, labels]; or of scores [rows].
BY_VALUE: dict[str, dict[str, Score]] = {
    "multi_label": {
        "ranking_precision": _mean_of(MEANS["ranking_precision"]),
        "average_precision": average_precision,
        "log_loss": _mean_of(MEANS["log_loss"]),
    },
    "regression": {
        "pearson": pearson,
        "spearman": spearman,
        "mse": _mean_of(MEANS["mse"]),
        "mae": _mean_of(MEANS["mae"]),
    },
}
