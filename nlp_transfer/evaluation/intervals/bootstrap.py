"""95% bootstrap intervals of metrics.

Rows are drawn again, as many as there are, `DRAWS` times. What is taken from the draws depends on
the metric, and is what `scripts/interval_coverage.py` finds to hold the truth in 95 of 100 samples,
also of 300 rows with a rare label:

- counts: percentiles. Three quarters of a right and of a wrong answer more than was seen, spread
  over the labels, may be drawn, so that 33 right of 33 is not certainty (half of each would be
  Jeffreys' prior, one of each Laplace's). Where a row has several labels, a label that a draw has
  nowhere fares in it as in the whole split: what is not drawn has not been missed. Macro averages
  of more than 20 labels: percentiles, mirrored at the value, since draws lie below it.
- means: bootstrap-t for losses and errors, whose tails are long, BCa for what is bounded (Efron and
  Tibshirani 1993, ch. 12 and 14).
- calibration error: noise alone gives one, so percentiles would miss a model that has none. The
  interval holds the errors, all bins scaled alike, from which the one that was seen is not rare.
- everything else, correlations for example: percentiles; ranking metrics as `ranking` says.

The time grows with rows × draws, whatever the number of labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

from nlp_transfer.evaluation.intervals.resampling import (
    DRAWS,
    resampled,
    resampled_confusion,
    resampled_counts,
    resampled_means,
)
from nlp_transfer.evaluation.registry import MIN_ROWS, Form, Interval, IntervalMethod, Metric
from nlp_transfer.evaluation.rows import ByRow, EvaluatedRows

RANKING_DRAWS = 200  # each of them sums over all rows, for every label
PERCENTILES = (2.5, 97.5)
# Of more labels a macro average is mirrored. Of 77 labels with 10 rows each, percentiles hold the
# truth in 65 of 100 samples and mirrored ones in 95; of 12 labels percentiles are better.
PERCENTILE_LABELS = 20
# How much wider intervals of cross-validation are than those of as many independent answers: the
# models of other training rows differ, too. Of 60 runs of the default command with 48 rows the
# squared error of the accuracy was 1.55 times that of 48 independent answers.
CROSS_VALIDATED = 1.25
FAR = 1e6  # errors
MOMENTS = 2  # columns that `moments` makes
LARGEST_SCALE = 4.0  # of a calibration error, compared with the one that was seen


def intervals(
    metrics: Sequence[Metric],
    values: Mapping[str, float],
    rows: EvaluatedRows,
    width: float = 1.0,
) -> dict[str, Interval]:
    """Low and high of every metric that has a value; they always enclose it.

    Of fewer than `MIN_ROWS` rows there are none.

    Args:
        values: by name, as measured on these rows; metrics without one are left out.
        width: by how much to stretch them, from the value on to either side.
    """
    if len(rows) < MIN_ROWS:
        return {}
    defined = [metric for metric in metrics if metric.name in values]
    between = _of_counts([m for m in defined if m.kind.form is Form.counts], rows)
    between |= _of_means([m for m in defined if m.interval in OF_MEANS], rows)
    for metric in defined:
        if callable(metric.interval):
            between[metric.name] = metric.interval(rows)
        elif metric.interval is IntervalMethod.share:
            between[metric.name] = _of_share(metric, rows)
        elif metric.interval is IntervalMethod.percentile and metric.name not in between:
            between[metric.name] = _of_draws(metric, rows)
    return {
        name: _enclosing(between[name], metric.bounds, values[name], width)
        for metric in defined
        for name in [metric.name]
        if name in between and np.isfinite(between[name]).all()
    }


def _enclosing(interval: Interval, bounds: Interval, value: float, width: float) -> Interval:
    """Stretched, between the bounds of the metric, and wide enough to hold what was seen."""
    low, high = (value + width * (end - value) for end in interval)
    return min(max(low, bounds[0]), value), max(min(high, bounds[1]), value)


def _of_counts(metrics: Sequence[Metric], rows: EvaluatedRows) -> dict[str, Interval]:
    resamples: dict[str, list[np.ndarray]] = {metric.name: [] for metric in metrics}
    for counts in resampled_counts(rows, DRAWS) if metrics else ():
        for metric in metrics:
            resamples[metric.name].append(metric.weighted_fn(counts, rows.classes))
    between = {name: percentiles(np.concatenate(parts)) for name, parts in resamples.items()}
    if len(rows.classes.names) > PERCENTILE_LABELS:
        # With few rows a label, a draw of fewer different rows has a lower F1: as much lower as the
        # sample is below the truth. So the interval is mirrored (Davison and Hinkley 1997, 5.2.1).
        for metric in metrics:
            if metric.macro:
                low, high = between[metric.name]
                value = metric.values(rows)[metric.name]
                between[metric.name] = 2 * value - high, 2 * value - low
    return between


def _of_means(metrics: Sequence[Metric], rows: EvaluatedRows) -> dict[str, Interval]:
    """Of means, and of sums of absolute means, all from the same draws."""
    if not metrics:
        return {}
    values = [metric.by_row(rows) for metric in metrics]
    centers = [one.mean() for one in values]

    def columns_of(block: slice) -> np.ndarray:
        return np.concatenate(
            [
                moments(one[block], center) if one.ndim == 1 else _dense(one[block])
                for one, center in zip(values, centers, strict=True)
            ],
            axis=1,
        )

    means = resampled_means(len(rows), columns_of)
    between, first = {}, 0
    for metric, one in zip(metrics, values, strict=True):
        end = first + (MOMENTS if one.ndim == 1 else one.shape[1])
        between[metric.name] = OF_MEANS[metric.interval](one, means[:, first:end])
        first = end
    return between


def _dense(values: ByRow) -> np.ndarray:
    return values if isinstance(values, np.ndarray) else values.toarray()


def _of_share(metric: Metric, rows: EvaluatedRows) -> Interval:
    """Of a mean of zeros and ones, [rows]: percentiles, as of right and wrong answers."""
    ones = int(metric.by_row(rows).sum())
    confusion = np.array([[ones, len(rows) - ones], [0, 0]])
    resamples = [
        matrices[:, 0, 0] + matrices[:, 1, 1] for matrices in resampled_confusion(confusion, DRAWS)
    ]
    return percentiles(np.concatenate(resamples) / len(rows))


def _of_draws(metric: Metric, rows: EvaluatedRows) -> Interval:
    score = metric.on(rows)
    draws = RANKING_DRAWS if metric.kind.form is Form.plain else DRAWS
    return percentiles(np.concatenate([score(w) for w in resampled(len(rows), draws)]))


def percentiles(resamples: np.ndarray) -> Interval:
    """The middle 95% of the draws; those in which the metric is undefined are left out."""
    resamples = resamples[~np.isnan(resamples)]
    if not len(resamples):
        return np.nan, np.nan
    low, high = np.percentile(resamples, PERCENTILES)
    return float(low), float(high)


def moments(values: np.ndarray, mean: float) -> np.ndarray:
    """Deviations of the rows from the mean of all, and their squares, [rows, `MOMENTS`]."""
    deviations = values - mean
    return np.stack([deviations, deviations**2], axis=1)


def studentized(values: np.ndarray, resamples: np.ndarray) -> Interval:
    """Bootstrap-t of a mean, from the drawn means of its `moments`, [draws, 2].

    Where a draw may miss the few rows with nearly all of the sum, it gives bounds that no mean of
    such rows can reach: it ends at the smallest and the largest row.
    """
    shifts, squares = resamples.T
    error = values.std() / np.sqrt(len(values))
    errors = np.sqrt(np.maximum(squares - shifts**2, 0) / len(values))
    # A draw of rows that are all alike has no error: it is as far off as can be.
    alike = errors <= 1e-6 * error
    ratios = np.where(alike, FAR * np.sign(shifts), shifts / np.where(alike, 1, errors))
    low, high = np.percentile(ratios, PERCENTILES)
    low, high = values.mean() - high * error, values.mean() - low * error
    return float(max(low, values.min())), float(min(high, values.max()))


def accelerated(values: np.ndarray, resamples: np.ndarray) -> Interval:
    """BCa of a mean: percentiles of the drawn means, moved for bias and skewness."""
    shifts = resamples[:, 0]
    deviations = values - values.mean()
    spread = (deviations**2).sum()
    if spread == 0:
        return float(values.mean()), float(values.mean())
    skewness = (deviations**3).sum() / (6 * spread**1.5)
    below = np.clip((shifts < 0).mean(), 1 / len(shifts), 1 - 1 / len(shifts))
    positions = ndtri(below) + ndtri(np.array(PERCENTILES) / 100)
    shares = ndtr(ndtri(below) + positions / (1 - skewness * positions))
    low, high = values.mean() + np.quantile(shifts, shares)
    return float(low), float(high)


def calibration_interval(values: ByRow, resamples: np.ndarray) -> Interval:
    """The calibration errors from which the one seen is within the middle 95% of the draws.

    Args:
        values: gap of every row by bin, [rows, bins]; the error is the sum of its means' sizes.
        resamples: these means in every draw, [draws, bins].
    """
    observed = values.mean(axis=0)
    error, noise = np.abs(observed).sum(), resamples - observed

    def is_too_large(scale: float) -> bool:
        return np.percentile(np.abs(scale * observed + noise).sum(axis=1), PERCENTILES[0]) > error

    def is_too_small(scale: float) -> bool:
        return np.percentile(np.abs(scale * observed + noise).sum(axis=1), PERCENTILES[1]) < error

    low = _border(lambda scale: not is_too_small(scale)) if is_too_small(0.0) else 0.0
    high = 0.0 if is_too_large(0.0) else _border(is_too_large)
    return float(low * error), float(high * error)


def _border(holds: Callable[[float], bool]) -> float:
    """Where a condition begins to hold, between 0 and the largest scale."""
    low, high = 0.0, LARGEST_SCALE
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


# How the interval of a mean follows from its values by row and from its drawn means.
OF_MEANS: dict[Any, Callable[[Any, np.ndarray], Interval]] = {
    IntervalMethod.bootstrap_t: studentized,
    IntervalMethod.bca: accelerated,
    IntervalMethod.calibration: calibration_interval,
}
