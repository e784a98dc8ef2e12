"""How far each metric could be off: 95% bootstrap intervals.

Documents are drawn again, as many as there are, `DRAWS` times. What is taken from the draws depends
on the metric, and is what `scripts/interval_coverage.py` finds to hold the truth in 95 of 100
samples, also of 300 rows with a rare label:

- labels: percentiles. Three quarters of a right and of a wrong answer more than was seen, spread
  over the labels, may be drawn, so that 33 right of 33 is not certainty (half of each would be
  Jeffreys' prior, one of each Laplace's).
- ROC-AUC: percentiles too; a row of each side, spread over the labels, is ranked at random.
- means: bootstrap-t for log loss, whose tail is long, BCa for the Brier score, which is bounded
  (Efron and Tibshirani 1993, ch. 12 and 14).
- calibration error: noise alone gives one, so percentiles would miss a model that has none. The
  interval holds the errors, all bins scaled alike, from which the one that was seen is not rare.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy.special import ndtr, ndtri

from nlp_transfer.evaluation.metrics import (
    BY_LABEL,
    LOSSES,
    Classes,
    Counts,
    confusion_matrix,
    gaps,
    roc_auc,
)

DRAWS = 1000
RANKING_DRAWS = 200  # each of them sums over all rows, for every label
PERCENTILES = (2.5, 97.5)
SEED = 0  # the same answers have the same intervals, whatever the run's seed
UNSEEN = 0.75  # right answers, and as many wrong ones, that may be drawn besides
AT_ONCE = 250_000  # weights in memory
LARGEST_SCALE = 4.0  # of a calibration error, compared with the one that was seen

Interval = tuple[float, float]


def intervals(
    scores: dict[str, float],
    references: np.ndarray,
    probabilities: np.ndarray,
    classes: Classes,
    answers: np.ndarray | None = None,
) -> dict[str, Interval]:
    """Low and high of every score of ours that has a value; they always enclose it.

    Args:
        scores: by name, as measured on these rows.
        references: int [rows].
        probabilities: float64 [rows, labels].
        answers: int [rows]; None: the likeliest labels.
    """
    if len(references) < 2:
        return {}
    given = probabilities.argmax(axis=1) if answers is None else answers
    confusion = confusion_matrix(references, given, len(classes.names))
    found = _by_label(scores, confusion, classes)
    found |= _by_probability(scores, references, probabilities, classes)
    return enclosing(found, scores)


def enclosing(found: dict[str, Interval], scores: dict[str, float]) -> dict[str, Interval]:
    """Intervals that are defined, widened to hold what was seen."""
    return {
        name: (min(low, scores[name]), max(high, scores[name]))
        for name, (low, high) in found.items()
        if np.isfinite((low, high)).all()
    }


def resampled(rows: int, draws: int) -> Iterator[np.ndarray]:
    """How often each row is drawn, float [some draws, rows], until there are `draws` of them."""
    generator = np.random.default_rng(SEED)
    at_once = max(AT_ONCE // rows, 1)
    for start in range(0, draws, at_once):
        some = min(at_once, draws - start)
        drawn = generator.integers(0, rows, (some, rows)) + rows * np.arange(some)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=some * rows)
        yield counts.reshape(some, rows).astype(np.float64)


def resampled_confusion(confusion: np.ndarray, draws: int) -> Iterator[np.ndarray]:
    """Confusion matrices of drawn documents, [some draws, labels, labels].

    A metric of labels depends on nothing else of its documents. `UNSEEN` ones may be drawn too.
    """
    generator = np.random.default_rng(SEED)
    labels, rows = len(confusion), int(confusion.sum())
    smooth = np.where(np.eye(labels) == 1, 1 / labels, 1 / (labels * max(labels - 1, 1)))
    cells = (confusion + UNSEEN * smooth).ravel()
    at_once = max(AT_ONCE // cells.size, 1)
    for start in range(0, draws, at_once):
        some = min(at_once, draws - start)
        drawn = generator.multinomial(rows, cells / cells.sum(), size=some)
        yield drawn.reshape(some, labels, labels).astype(np.float64)


def _by_label(
    scores: dict[str, float], confusion: np.ndarray, classes: Classes
) -> dict[str, Interval]:
    names = [name for name in scores if name in BY_LABEL]
    if not names:
        return {}
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for matrices in resampled_confusion(confusion, DRAWS):
        counts = Counts.of(matrices)
        for name in names:
            drawn[name].append(BY_LABEL[name](counts, classes))
    return {name: percentiles(np.concatenate(parts)) for name, parts in drawn.items()}


def _by_probability(
    scores: dict[str, float], references: np.ndarray, probabilities: np.ndarray, classes: Classes
) -> dict[str, Interval]:
    found = {}
    losses = {name: loss(references, probabilities) for name, loss in LOSSES.items()}
    losses = {name: values for name, values in losses.items() if name in scores}
    columns = [column for name, values in losses.items() for column in moments(values)]
    columns += [*gaps(references, probabilities).T] if "ece" in scores else []
    if columns:
        table = np.stack(columns, axis=1)
        parts = [weights @ table for weights in resampled(len(references), DRAWS)]
        means = np.concatenate(parts) / len(references)
        for i, (name, values) in enumerate(losses.items()):
            found[name] = OF_MEANS[name](values, means[:, 2 * i], means[:, 2 * i + 1])
        if "ece" in scores:
            first = 2 * len(losses)
            found["ece"] = _inverted(table[:, first:].mean(axis=0), means[:, first:])
    if "roc_auc" in scores:
        found["roc_auc"] = _of_ranks(references, probabilities, classes)
    return found


def percentiles(drawn: np.ndarray) -> Interval:
    """The middle 95% of the draws; those in which the metric is undefined are left out."""
    low, high = np.nanpercentile(drawn, PERCENTILES)
    return float(low), float(high)


def moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Deviations from the mean, and their squares."""
    apart = values - values.mean()
    return apart, apart**2


def studentized(values: np.ndarray, shifts: np.ndarray, squares: np.ndarray) -> Interval:
    """Bootstrap-t of a mean, from the drawn means of its rows' deviations and their squares."""
    error = values.std() / np.sqrt(len(values))
    drawn = np.sqrt(np.maximum(squares - shifts**2, 0) / len(values))
    told = drawn > 1e-6 * error  # a draw of one row again and again tells nothing
    if not told.any():
        return float(values.mean()), float(values.mean())
    low, high = np.percentile(shifts[told] / drawn[told], PERCENTILES)
    return max(float(values.mean() - high * error), 0.0), float(values.mean() - low * error)


def accelerated(values: np.ndarray, shifts: np.ndarray, _: np.ndarray) -> Interval:
    """BCa of a mean: percentiles, moved for bias and skewness."""
    apart = values - values.mean()
    spread = (apart**2).sum()
    if spread == 0:
        return float(values.mean()), float(values.mean())
    skewness = (apart**3).sum() / (6 * spread**1.5)
    below = np.clip((shifts < 0).mean(), 1 / len(shifts), 1 - 1 / len(shifts))
    moved = ndtri(below) + ndtri(np.array(PERCENTILES) / 100)
    shares = ndtr(ndtri(below) + moved / (1 - skewness * moved))
    low, high = values.mean() + np.quantile(shifts, shares)
    return float(low), float(high)


OF_MEANS = {"log_loss": studentized, "brier": accelerated}


def _inverted(seen: np.ndarray, drawn: np.ndarray) -> Interval:
    """The calibration errors from which the one seen is within the middle 95% of the draws.

    Args:
        seen: mean gap by bin, [BINS]; the error is the sum of its sizes.
        drawn: the same of every draw, [draws, BINS].
    """
    error, noise = np.abs(seen).sum(), drawn - seen

    def is_too_large(scale: float) -> bool:
        return np.percentile(np.abs(scale * seen + noise).sum(axis=1), PERCENTILES[0]) > error

    def is_too_small(scale: float) -> bool:
        return np.percentile(np.abs(scale * seen + noise).sum(axis=1), PERCENTILES[1]) < error

    low, high = 0.0, LARGEST_SCALE
    if is_too_small(low):
        low = _border(lambda scale: not is_too_small(scale))
    high = 0.0 if is_too_large(0.0) else _border(is_too_large)
    return float(low * error), float(high * error)


def _border(holds: Callable[[float], bool]) -> float:
    """Where a condition begins to hold, between 0 and the largest scale."""
    low, high = 0.0, LARGEST_SCALE
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _of_ranks(references: np.ndarray, probabilities: np.ndarray, classes: Classes) -> Interval:
    generator = np.random.default_rng(SEED)
    labels = len(classes.names)
    drawn = []
    for weights in resampled(len(references), RANKING_DRAWS):
        guessed = generator.poisson(2 / labels, (labels, 2, len(weights)))
        drawn.append(roc_auc(references, probabilities, classes, weights, guessed))
    return percentiles(np.concatenate(drawn))
