"""The metrics that rank: rows by the probability of a label, or labels by their probability.

Their intervals come from rows that are resampled and ranked again. That costs rows × labels ×
resamples; where it is too much, each row's influence on the metric is computed instead (the
infinitesimal jackknife: Efron 1982, ch. 6; for the ROC it is DeLong et al. 1988), which costs rows
× labels, and the metric is treated as the mean of what the rows contribute.
"""

from __future__ import annotations

import numpy as np

from nlp_transfer.evaluation.intervals.bootstrap import (
    RANKING_DRAWS,
    accelerated,
    moments,
    percentiles,
)
from nlp_transfer.evaluation.intervals.resampling import (
    DENSE_LABELS,
    SEED,
    resampled,
    resampled_means,
)
from nlp_transfer.evaluation.metrics.formulas import MACRO
from nlp_transfer.evaluation.registry import Form, Interval, IntervalMethod, register_metric
from nlp_transfer.evaluation.rows import Classes, EvaluatedRows, Predictions

GUESSED = 1.0  # rows of some label that a resample ranks at random, all labels together
GUESSES = 8  # places for them, of each label
RANKED_CELLS = 2_000_000  # rows × labels that are ranked again in every resample


@register_metric(
    "ranking_precision",
    "multi_label",
    predictions=Predictions.probabilities,
    form=Form.mean,
    interval=IntervalMethod.bca,
    formula=r"\frac{1}{n} \sum_i \frac{1}{\lvert Y_i \rvert} \sum_{k \in Y_i} "
    r"\frac{\lvert \{ j \in Y_i : p_{ij} \ge p_{ik} \} \rvert}"
    r"{\lvert \{ j : p_{ij} \ge p_{ik} \} \rvert}",
    source="Schapire and Singer 2000; label ranking average precision",
)
def ranking_precisions(references: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """By row: of the labels down to each right one, the share that is right, averaged.

    1 where every label is right, or none.
    """
    if references.shape[1] > DENSE_LABELS:
        return _counted_ranking_precisions(references > 0, probabilities)
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


def _counted_ranking_precisions(right: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The same, by counting what stands above each right label instead of sorting all labels."""
    precisions = np.ones(len(right))
    for row in np.flatnonzero(right.any(axis=1) & ~right.all(axis=1)):
        of_row = np.sort(probabilities[row, right[row]])
        hits = len(of_row) - np.searchsorted(of_row, of_row, "left")
        up_to = np.searchsorted(of_row, probabilities[row], "right")
        places = np.cumsum(np.bincount(up_to, minlength=len(of_row) + 1)[::-1])[-2::-1]
        precisions[row] = (hits / places).mean()
    return precisions


def interval_of_roc_auc(rows: EvaluatedRows) -> Interval:
    """A row of each side, spread over the labels, is ranked at random."""
    references, probabilities, classes = rows.references, rows.probabilities, rows.classes
    labels = len(classes.names)
    if probabilities.size > RANKED_CELLS:
        columns = [
            (references == i, probabilities[:, i]) for i in _ranked_labels(references, classes)
        ]
        return _by_influence([_pair_influence(*column) for column in columns])
    generator = np.random.default_rng(SEED)
    draws = []
    for weights in resampled(len(references), RANKING_DRAWS):
        guesses = generator.poisson(2 / labels, (labels, 2, len(weights)))
        draws.append(roc_auc(references, probabilities, weights, classes, guesses))
    return percentiles(np.concatenate(draws))


@register_metric(
    "roc_auc",
    "single_label",
    predictions=Predictions.probabilities,
    interval=interval_of_roc_auc,
    formula=r"\Pr(p_{ik} > p_{jk} \mid y_i = k, y_j \ne k)",
    source="Hanley and McNeil 1982; of more than two labels the mean, one against the rest",
)
def roc_auc(
    references: np.ndarray,
    probabilities: np.ndarray,
    weights: np.ndarray,
    classes: Classes,
    guesses: np.ndarray | None = None,
) -> np.ndarray:
    """Of two labels; of more, one against the rest, averaged over those that the split has.

    Args:
        guesses: for each label, how many further rows of it and of the rest are ranked at random,
            [labels, 2, ...].
    """
    if guesses is None:
        guesses = np.zeros((len(classes.names), 2, *weights.shape[:-1]))
    by_row = np.ascontiguousarray(np.moveaxis(weights, -1, 0))
    labels = _ranked_labels(references, classes)
    each = [_ranked_right(references == i, probabilities[:, i], by_row, guesses[i]) for i in labels]
    return _mean_of_defined(np.stack(each))


def _ranked_labels(references: np.ndarray, classes: Classes) -> list[int]:
    """The labels that `roc_auc` is averaged over."""
    return [classes.positive] if len(classes.names) == 2 else np.unique(references).tolist()


def _mean_of_defined(by_label: np.ndarray) -> np.ndarray:
    """Over the first axis; NaN where no label has a value."""
    defined = ~np.isnan(by_label)
    total, count = np.where(defined, by_label, 0).sum(axis=0), defined.sum(axis=0)
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def _ranked_right(
    positive: np.ndarray, scores: np.ndarray, weights: np.ndarray, guesses: np.ndarray
) -> np.ndarray:
    """The share of pairs in which the positive row stands above, [...]; NaN without any.

    Args:
        positive: bool [rows].
        scores: float [rows].
        weights: [rows, ...].
        guesses: positive and negative rows that are ranked at random, [2, ...].
    """
    order = np.argsort(scores, kind="stable")
    first = np.diff(scores[order], prepend=-np.inf) > 0  # of the rows with the same score
    each = weights[order]
    if not first.all():
        each = np.add.reduceat(each, np.flatnonzero(first), axis=0)
    ranks = np.cumsum(each, axis=0)
    theirs = weights[order[positive[order]]]
    positives, negatives = theirs.sum(axis=0), weights.sum(axis=0) - theirs.sum(axis=0)
    groups = np.cumsum(first)[positive[order]] - 1
    middle = ranks[groups] - each[groups] / 2  # ties count half
    above = (theirs * middle).sum(axis=0) - positives**2 / 2
    above += (guesses[0] * negatives + guesses[1] * positives + guesses[0] * guesses[1]) / 2
    pairs = (positives + guesses[0]) * (negatives + guesses[1])
    return np.divide(above, pairs, out=np.full_like(above, np.nan), where=pairs > 0)


def _pair_influence(positive: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Of each row on the area under one label's ROC, times rows, plus the area, [rows].

    The mean is the area (DeLong et al. 1988, structural components).
    """
    of_side = (np.sort(scores[~positive]), np.sort(scores[positive]))
    # For each row, the share of the other side that stands below it; ties count half.
    share = np.empty(len(scores))
    for here, other in zip((positive, ~positive), of_side, strict=True):
        below, up_to = (np.searchsorted(other, scores[here], side) for side in ("left", "right"))
        share[here] = (below + up_to) / 2 / max(len(other), 1)
    share[~positive] = 1 - share[~positive]
    area = share[positive].mean()
    counts = np.where(positive, positive.sum(), (~positive).sum())
    return area + (share - area) * len(scores) / counts


def interval_of_average_precision(rows: EvaluatedRows) -> Interval:
    """One row more, of some label, is ranked at random."""
    references, probabilities = rows.references, rows.probabilities
    if probabilities.size > RANKED_CELLS:
        labels = np.flatnonzero(references.any(axis=0))
        columns = zip(references.T[labels] > 0, probabilities.T[labels], strict=True)
        return _by_influence([_precision_influence(*column) for column in columns])
    generator = np.random.default_rng(SEED)
    count, labels = references.shape
    # Rows with one label each, which rank beside any row there is, and below all for the others.
    guesses = np.repeat(np.eye(labels), GUESSES, axis=0)
    beside = probabilities[generator.integers(0, count, len(guesses)), guesses.argmax(axis=1)]
    joined = np.concatenate([references, guesses])
    ranked = np.concatenate([probabilities, np.where(guesses > 0, beside[:, None], -1)])
    draws = []
    for weights in resampled(count, RANKING_DRAWS):
        more = generator.poisson(GUESSED / len(guesses), (len(weights), len(guesses)))
        draws.append(average_precision(joined, ranked, np.concatenate([weights, more], axis=1)))
    return percentiles(np.concatenate(draws))


@register_metric(
    "average_precision",
    "multi_label",
    predictions=Predictions.probabilities,
    interval=interval_of_average_precision,
    formula=MACRO + r"\sum_t (R_{kt} - R_{k,t-1})\, P_{kt}",
    source="Zhu 2004; thresholds $t$ from the most probable row down",
)
def average_precision(
    references: np.ndarray,
    probabilities: np.ndarray,
    weights: np.ndarray,
    _: Classes | None = None,
) -> np.ndarray:
    """How well each label ranks the texts, [...], averaged over the labels that there are."""
    by_row = np.ascontiguousarray(np.moveaxis(weights, -1, 0), dtype=np.float32)
    labels = np.flatnonzero(references.any(axis=0))
    columns = zip(references.T[labels] > 0, probabilities.T[labels], strict=True)
    each = [_ranked(*column, by_row) for column in columns]
    return _mean_of_defined(np.stack(each) if each else np.full((1, *weights.shape[:-1]), np.nan))


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


def _precision_influence(positive: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Of each row on one label's average precision, times rows, plus that precision, [rows]."""
    ranked = np.sort(scores[positive])
    count = len(ranked)
    # A row counts at every positive row that does not stand above it: so many.
    up_to = np.searchsorted(ranked, scores, "right")
    rows_at = np.cumsum(np.bincount(up_to, minlength=count + 1)[::-1])[-2::-1]
    hits_at = count - np.searchsorted(ranked, ranked, "left")
    precision = hits_at / rows_at
    gained, lost = (
        np.r_[0, np.cumsum(change)][up_to] for change in (1 / rows_at, precision / rows_at)
    )
    change = positive * gained - lost
    own = np.searchsorted(ranked, scores[positive], "left")
    change[positive] += precision[own] - precision.mean()
    return precision.mean() + change * len(scores) / count


def _by_influence(of_labels: list[np.ndarray]) -> Interval:
    """Of a metric that is the mean over labels of the means of these values [rows]."""
    values = np.zeros_like(of_labels[0])
    for one in of_labels:
        values += one / len(of_labels)
    table = moments(values, values.mean())
    return accelerated(values, resampled_means(len(table), table.__getitem__))
