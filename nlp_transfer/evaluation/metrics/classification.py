"""The metrics that count or average: of decisions, of probabilities and of scores.

A macro average is over the labels that the references or the predictions hold, as in scikit-learn:
a label that is nowhere in a slice, or in a resample, counts neither for the model nor against it.
"""

from __future__ import annotations

import numpy as np

from nlp_transfer.evaluation.registry import MIN_ROWS, Form, IntervalMethod, metric
from nlp_transfer.evaluation.rows import Classes, Counts, Predictions, ratio

BINS = 15  # of confidence, equally wide
SMALLEST = float(np.finfo(np.float64).eps)  # a probability in a logarithm, as in scikit-learn
UP_FROM_ZERO = (0.0, np.inf)


def confusion_matrix(references: np.ndarray, predictions: np.ndarray, labels: int) -> np.ndarray:
    """int [references, predictions]."""
    cells = np.bincount(references * labels + predictions, minlength=labels * labels)
    return cells.reshape(labels, labels)


# Of counts -----------------------------------------------------------------------------------


@metric("accuracy", "single_label", form=Form.counts)
def accuracy(counts: Counts, _: Classes) -> np.ndarray:
    """The share of rows that are right."""
    return ratio(counts.hits.sum(axis=-1), counts.actual.sum(axis=-1))


@metric("f1", "single_label", form=Form.counts, binary=True)
def f1(counts: Counts, classes: Classes) -> np.ndarray:
    """Of the positive label."""
    return counts.f1[..., classes.positive]


@metric("f1_micro", "multi_label", form=Form.counts)
def f1_micro(counts: Counts, _: Classes) -> np.ndarray:
    """Of all labels together."""
    return _together(counts).f1[..., 0]


@metric("f1_macro", "single_label", "multi_label", form=Form.counts, macro=True)
def f1_macro(counts: Counts, _: Classes) -> np.ndarray:
    """Mean over the labels that are there."""
    return _mean_of_present(counts.f1, counts)


@metric("f1_weighted", "single_label", "multi_label", form=Form.counts)
def f1_weighted(counts: Counts, _: Classes) -> np.ndarray:
    """Mean over the labels, weighted by their rows."""
    return ratio((counts.f1 * counts.actual).sum(axis=-1), counts.actual.sum(axis=-1))


@metric("precision", "single_label", form=Form.counts, binary=True)
def precision(counts: Counts, classes: Classes) -> np.ndarray:
    """Of the positive label."""
    return counts.precision[..., classes.positive]


@metric("precision_micro", "multi_label", form=Form.counts)
def precision_micro(counts: Counts, _: Classes) -> np.ndarray:
    """Of all labels together."""
    return _together(counts).precision[..., 0]


@metric("precision_macro", "single_label", "multi_label", form=Form.counts, macro=True)
def precision_macro(counts: Counts, _: Classes) -> np.ndarray:
    """Mean over the labels that are there."""
    return _mean_of_present(counts.precision, counts)


@metric("recall", "single_label", form=Form.counts, binary=True)
def recall(counts: Counts, classes: Classes) -> np.ndarray:
    """Of the positive label."""
    return counts.recall[..., classes.positive]


@metric("recall_micro", "multi_label", form=Form.counts)
def recall_micro(counts: Counts, _: Classes) -> np.ndarray:
    """Of all labels together."""
    return _together(counts).recall[..., 0]


@metric("recall_macro", "single_label", "multi_label", form=Form.counts, macro=True)
def recall_macro(counts: Counts, _: Classes) -> np.ndarray:
    """Mean over the labels that are there."""
    return _mean_of_present(counts.recall, counts)


@metric("matthews", "single_label", form=Form.counts, bounds=(-1.0, 1.0))
def matthews(counts: Counts, _: Classes) -> np.ndarray:
    """Gorodkin 2004; 0 where only one label is predicted, or only one is there."""
    hits, predicted, actual = counts.hits.sum(axis=-1), counts.predicted, counts.actual
    rows = actual.sum(axis=-1)
    spread = (rows**2 - (predicted**2).sum(axis=-1)) * (rows**2 - (actual**2).sum(axis=-1))
    agreed = hits * rows - (predicted * actual).sum(axis=-1)
    return ratio(agreed, np.sqrt(np.maximum(spread, 0)))


def _mean_of_present(by_label: np.ndarray, counts: Counts) -> np.ndarray:
    """NaN where no label is there."""
    present = counts.present
    if present.all():
        return by_label.mean(axis=-1)
    return ratio((by_label * present).sum(axis=-1), present.sum(axis=-1), np.nan)


def _together(counts: Counts) -> Counts:
    """All labels as one."""
    parts = (counts.hits, counts.predicted, counts.actual)
    return Counts(*(part.sum(axis=-1, keepdims=True) for part in parts))


@metric("accuracy", "multi_label", form=Form.mean, interval=IntervalMethod.share)
def exact_matches(references: np.ndarray, decisions: np.ndarray) -> np.ndarray:
    """By row: whether every label's yes or no is right, bool [rows]."""
    return (references == decisions).all(axis=1)


# Of probabilities ----------------------------------------------------------------------------


@metric(
    "log_loss",
    "single_label",
    predictions=Predictions.probabilities,
    form=Form.mean,
    greater_is_better=False,
    bounds=UP_FROM_ZERO,
    interval=IntervalMethod.bootstrap_t,
)
def log_losses(references: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """By row, [rows]."""
    of_reference = probabilities[np.arange(len(references)), references]
    return -np.log(np.clip(of_reference, SMALLEST, 1))


@metric(
    "log_loss",
    "multi_label",
    predictions=Predictions.probabilities,
    form=Form.mean,
    greater_is_better=False,
    bounds=UP_FROM_ZERO,
    interval=IntervalMethod.bootstrap_t,
)
def decision_losses(references: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Log loss by row, of every label's yes or no."""
    right = np.where(references > 0, probabilities, 1 - probabilities)
    return -np.log(np.clip(right, SMALLEST, 1)).mean(axis=1)


@metric(
    "brier",
    "single_label",
    predictions=Predictions.probabilities,
    form=Form.mean,
    greater_is_better=False,
    bounds=(0.0, 2.0),
    interval=IntervalMethod.bca,
)
def brier_losses(references: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Squared distance from the truth by row, [rows]; half of it for two labels, as is usual."""
    labels = probabilities.shape[1]
    squared = ((probabilities - np.eye(labels)[references]) ** 2).sum(axis=1)
    return squared / 2 if labels == 2 else squared


def bins_of(confidence: np.ndarray) -> np.ndarray:
    """The bin of each confidence, 0 to `BINS - 1`."""
    return np.minimum((confidence * BINS).astype(int), BINS - 1)


@metric(
    "ece",
    "single_label",
    predictions=Predictions.probabilities,
    form=Form.mean,
    greater_is_better=False,
    interval=IntervalMethod.calibration,
    min_rows=MIN_ROWS,
    reduce=lambda sums: np.abs(sums).sum(axis=-1),
)
def gaps(references: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Confidence minus correctness of each row, in the bin of its confidence, [rows, BINS].

    The expected calibration error is the sum of the sizes of their means (Guo et al. 2017, eq. 3).
    """
    confidence = probabilities.max(axis=1)
    by_bin = np.zeros((len(references), BINS))
    right = probabilities.argmax(axis=1) == references
    by_bin[np.arange(len(references)), bins_of(confidence)] = confidence - right
    return by_bin


# Of scores -----------------------------------------------------------------------------------


@metric(
    "mse",
    "regression",
    predictions=Predictions.scores,
    form=Form.mean,
    greater_is_better=False,
    bounds=UP_FROM_ZERO,
    interval=IntervalMethod.bootstrap_t,
)
def squared_errors(references: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """By row, [rows]."""
    return (references - scores) ** 2


@metric(
    "mae",
    "regression",
    predictions=Predictions.scores,
    form=Form.mean,
    greater_is_better=False,
    bounds=UP_FROM_ZERO,
    interval=IntervalMethod.bootstrap_t,
)
def absolute_errors(references: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """By row, [rows]."""
    return np.abs(references - scores)


@metric("pearson", "regression", predictions=Predictions.scores, bounds=(-1.0, 1.0))
def pearson(
    references: np.ndarray, scores: np.ndarray, weights: np.ndarray, _: Classes | None = None
) -> np.ndarray:
    """[...]; NaN where either side is the same everywhere."""
    return _correlation(_from_nought_to_one(references), _from_nought_to_one(scores), weights)


@metric("spearman", "regression", predictions=Predictions.scores, bounds=(-1.0, 1.0))
def spearman(
    references: np.ndarray, scores: np.ndarray, weights: np.ndarray, _: Classes | None = None
) -> np.ndarray:
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
