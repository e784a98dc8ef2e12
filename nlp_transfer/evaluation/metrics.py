"""Every metric as one function of weighted counts, broadcast over as many weightings as there are.

A weighting says how often each row counts: once for the metric itself, as a bootstrap drew it for
an interval.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

BINS = 15  # of confidence, equally wide
SMALLEST = float(np.finfo(np.float64).eps)  # a probability in a logarithm, as in scikit-learn


@dataclass(frozen=True)
class Classes:
    """What a metric has to know about the labels."""

    names: tuple[str, ...]
    positive: int  # index of the positive label of a binary metric


@dataclass(frozen=True)
class Counts:
    """Rows by label, float [..., labels]."""

    hits: np.ndarray  # predicted so, and it is so
    predicted: np.ndarray
    actual: np.ndarray

    @classmethod
    def of(cls, confusion: np.ndarray) -> Counts:
        """From confusion matrices [..., references, predictions]."""
        hits = np.diagonal(confusion, axis1=-2, axis2=-1)
        return cls(hits, confusion.sum(axis=-2), confusion.sum(axis=-1))

    @property
    def precision(self) -> np.ndarray:
        """By label; 0 for one that is never predicted."""
        return _share(self.hits, self.predicted)

    @property
    def recall(self) -> np.ndarray:
        """By label; 0 for one that has no row."""
        return _share(self.hits, self.actual)

    @property
    def f1(self) -> np.ndarray:
        """By label; 0 for one that is nowhere."""
        return _share(2 * self.hits, self.predicted + self.actual)


def confusion_matrix(references: np.ndarray, predictions: np.ndarray, labels: int) -> np.ndarray:
    """int [references, predictions]."""
    cells = np.bincount(references * labels + predictions, minlength=labels * labels)
    return cells.reshape(labels, labels)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros(np.shape(whole)), where=whole > 0)


def _weighted_f1(counts: Counts, _: Classes) -> np.ndarray:
    return _share((counts.f1 * counts.actual).sum(axis=-1), counts.actual.sum(axis=-1))


def _matthews(counts: Counts, _: Classes) -> np.ndarray:
    """Gorodkin 2004; 0 where only one label is predicted, or only one is there."""
    hits, predicted, actual = counts.hits.sum(axis=-1), counts.predicted, counts.actual
    rows = actual.sum(axis=-1)
    spread = (rows**2 - (predicted**2).sum(axis=-1)) * (rows**2 - (actual**2).sum(axis=-1))
    agreed = hits * rows - (predicted * actual).sum(axis=-1)
    return _share(agreed, np.sqrt(np.maximum(spread, 0)))


# name: (score [...] of counts [..., labels] and the classes)
BY_LABEL: dict[str, Callable[[Counts, Classes], np.ndarray]] = {
    "accuracy": lambda counts, _: _share(counts.hits.sum(axis=-1), counts.actual.sum(axis=-1)),
    "f1": lambda counts, classes: counts.f1[..., classes.positive],
    "f1_macro": lambda counts, _: counts.f1.mean(axis=-1),
    "f1_weighted": _weighted_f1,
    "precision": lambda counts, classes: counts.precision[..., classes.positive],
    "precision_macro": lambda counts, _: counts.precision.mean(axis=-1),
    "recall": lambda counts, classes: counts.recall[..., classes.positive],
    "recall_macro": lambda counts, _: counts.recall.mean(axis=-1),
    "matthews": _matthews,
}


def log_losses(references: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """By row, [rows]."""
    given = probabilities[np.arange(len(references)), references]
    return -np.log(np.clip(given, SMALLEST, 1))


def brier_losses(references: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Squared distance from the truth by row, [rows]; half of it for two labels, as is usual."""
    labels = probabilities.shape[1]
    squared = ((probabilities - np.eye(labels)[references]) ** 2).sum(axis=1)
    return squared / 2 if labels == 2 else squared


def bins_of(confidence: np.ndarray) -> np.ndarray:
    """The bin of each confidence, 0 to `BINS - 1`."""
    return np.minimum((confidence * BINS).astype(int), BINS - 1)


def gaps(references: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Confidence minus correctness of each row, in the bin of its confidence, [rows, BINS]."""
    confidence = probabilities.max(axis=1)
    found = np.zeros((len(references), BINS))
    right = probabilities.argmax(axis=1) == references
    found[np.arange(len(references)), bins_of(confidence)] = confidence - right
    return found


def roc_auc(
    references: np.ndarray,
    probabilities: np.ndarray,
    classes: Classes,
    weights: np.ndarray,
    guessed: np.ndarray | None = None,
) -> np.ndarray:
    """Of two labels; of more, one against the rest, averaged over those that the split has.

    Args:
        guessed: for each label, how many further rows of it and of the rest are ranked at random,
            [labels, 2, ...].
    """
    if guessed is None:
        guessed = np.zeros((len(classes.names), 2, *weights.shape[:-1]))
    by_row = np.ascontiguousarray(np.moveaxis(weights, -1, 0))
    wanted = [classes.positive] if len(classes.names) == 2 else np.unique(references).tolist()
    each = np.stack(
        [_ranked_right(references == i, probabilities[:, i], by_row, guessed[i]) for i in wanted]
    )
    defined = ~np.isnan(each)
    total, count = np.where(defined, each, 0).sum(axis=0), defined.sum(axis=0)
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def _ranked_right(
    positive: np.ndarray, scores: np.ndarray, weights: np.ndarray, guessed: np.ndarray
) -> np.ndarray:
    """The share of pairs in which the positive row stands above, [...]; NaN without any.

    Args:
        positive: bool [rows].
        scores: float [rows].
        weights: [rows, ...].
        guessed: positive and negative rows that are ranked at random, [2, ...].
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
    above += (guessed[0] * negatives + guessed[1] * positives + guessed[0] * guessed[1]) / 2
    pairs = (positives + guessed[0]) * (negatives + guessed[1])
    return np.divide(above, pairs, out=np.full_like(above, np.nan), where=pairs > 0)


Losses = Callable[[np.ndarray, np.ndarray], np.ndarray]
LOSSES: dict[str, Losses] = {"log_loss": log_losses, "brier": brier_losses}


def _mean_of(losses: Losses) -> Callable[..., np.ndarray]:
    def score(
        references: np.ndarray, probabilities: np.ndarray, _: Classes, weights: np.ndarray
    ) -> np.ndarray:
        return weights @ losses(references, probabilities) / weights.sum(axis=-1)

    return score


def _calibration_error(
    references: np.ndarray, probabilities: np.ndarray, _: Classes, weights: np.ndarray
) -> np.ndarray:
    """Guo et al. 2017, eq. 3, of the confidence in the answer."""
    summed = np.abs(weights @ gaps(references, probabilities)).sum(axis=-1)
    return summed / weights.sum(axis=-1)


# name: (score [...] of references [rows], probabilities [rows, labels], the classes and
# weights [..., rows])
BY_PROBABILITY: dict[str, Callable[..., np.ndarray]] = {
    "roc_auc": roc_auc,
    **{name: _mean_of(losses) for name, losses in LOSSES.items()},
    "ece": _calibration_error,
}
BINARY = ("f1", "precision", "recall")
LOWER_IS_BETTER = {"log_loss", "brier", "ece", "mse", "mae"}
