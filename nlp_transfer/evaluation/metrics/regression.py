"""The metrics of scores."""

from __future__ import annotations

import numpy as np

from nlp_transfer.evaluation.metrics.probabilities import SMALLEST
from nlp_transfer.evaluation.registry import register_mean_error, register_metric
from nlp_transfer.evaluation.rows import Classes, Predictions


@register_mean_error(
    "mse",
    "regression",
    predictions=Predictions.scores,
    formula=r"\frac{1}{n} \sum_i (y_i - \hat y_i)^2",
)
def squared_errors(references: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """By row, [rows]."""
    return (references - scores) ** 2


@register_mean_error(
    "mae",
    "regression",
    predictions=Predictions.scores,
    formula=r"\frac{1}{n} \sum_i \lvert y_i - \hat y_i \rvert",
)
def absolute_errors(references: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """By row, [rows]."""
    return np.abs(references - scores)


@register_metric(
    "pearson",
    "regression",
    predictions=Predictions.scores,
    bounds=(-1.0, 1.0),
    formula=r"\frac{\mathrm{cov}(y, \hat y)}{\sigma_y \sigma_{\hat y}}",
    source="Pearson 1895",
)
def pearson(
    references: np.ndarray, scores: np.ndarray, weights: np.ndarray, _: Classes | None = None
) -> np.ndarray:
    """[...]; NaN where either side is the same everywhere."""
    return _correlation(_from_nought_to_one(references), _from_nought_to_one(scores), weights)


@register_metric(
    "spearman",
    "regression",
    predictions=Predictions.scores,
    bounds=(-1.0, 1.0),
    formula=r"\mathrm{pearson}(\mathrm{rank}(y), \mathrm{rank}(\hat y))",
    source="Spearman 1904",
)
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
