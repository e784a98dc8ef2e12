"""How far each metric of several labels, or of scores, could be off: 95% bootstrap intervals.

Documents are drawn again as for one label (`intervals`). What is taken from the draws: percentiles,
but bootstrap-t for errors, whose tails are long, and BCa for the ranking precision. Of a label's
yes and no, three quarters of a right and of a wrong one more than was seen, spread over the labels,
may be drawn; in average precision one row more, of some label, is ranked at random. A label that a
draw has nowhere fares in it as in the whole split: what is not drawn has not been missed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nlp_transfer.evaluation.bootstrap import (
    DRAWS,
    RANKING_DRAWS,
    SEED,
    UNSEEN,
    Interval,
    accelerated,
    enclosing,
    intervals,
    moments,
    percentiles,
    resampled,
    studentized,
)
from nlp_transfer.evaluation.metrics import Classes, Counts
from nlp_transfer.evaluation.problem_metrics import (
    BY_COUNT,
    BY_VALUE,
    MEANS,
    NO_CLASSES,
    average_precision,
    decision_columns,
)

RIGHT_OR_WRONG = Classes(("right", "wrong"), 0)
OF_MEANS = {"ranking_precision": accelerated}  # which is bounded, as errors are not
GUESSED = 1.0  # rows of some label that a draw ranks at random, all labels together
GUESSES = 8  # places for them, of each label
SELDOM = 1e-9  # a weight that lets a label stand in a mean of labels, and nowhere else


def intervals_of_several(
    scores: dict[str, float],
    references: np.ndarray,
    probabilities: np.ndarray,
    decisions: np.ndarray,
) -> dict[str, Interval]:
    """Low and high of every score of several labels that has a value; they always enclose it.

    Args:
        scores: by name, as measured on these rows.
        references: 0/1 [rows, labels].
        decisions: which labels are given, bool [rows, labels].
    """
    if len(references) < 2:
        return {}
    found = _of_counts(scores, references, decisions)
    found |= _of_means(scores, references, probabilities)
    if "average_precision" in scores:
        found["average_precision"] = _of_ranks(references, probabilities)
    if "accuracy" in scores:
        wrong = (references != decisions).any(axis=1).astype(int)
        given = (np.zeros_like(wrong), np.eye(2)[wrong], RIGHT_OR_WRONG)
        found |= intervals({"accuracy": scores["accuracy"]}, *given)
    return enclosing(found, scores)


def intervals_of_scores(
    scores: dict[str, float], references: np.ndarray, predictions: np.ndarray
) -> dict[str, Interval]:
    """The same of a regression; both [rows]."""
    if len(references) < 2:
        return {}
    known = BY_VALUE["regression"]
    names = [name for name in scores if name in known and name not in MEANS]
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for weights in resampled(len(references), DRAWS) if names else ():
        for name in names:
            drawn[name].append(known[name](references, predictions, weights))
    found = {name: percentiles(np.concatenate(parts)) for name, parts in drawn.items()}
    return enclosing(found | _of_means(scores, references, predictions), scores)


def _of_counts(
    scores: dict[str, float], references: np.ndarray, decisions: np.ndarray
) -> dict[str, Interval]:
    names = [name for name in scores if name in BY_COUNT]
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for counts in _drawn_counts(decision_columns(references, decisions)) if names else ():
        for name in names:
            drawn[name].append(BY_COUNT[name](counts, NO_CLASSES))
    return {name: percentiles(np.concatenate(parts)) for name, parts in drawn.items()}


def _drawn_counts(columns: np.ndarray) -> Iterator[Counts]:
    """Counts [some draws, labels].

    Args:
        columns: hits, yes, and references of each row, [3, rows, labels].
    """
    generator = np.random.default_rng(SEED)
    _, rows, labels = columns.shape
    flat = columns.transpose(1, 0, 2).reshape(rows, 3 * labels)
    seen = columns.sum(axis=1)
    for weights in resampled(rows, DRAWS):
        hits, yes, actual = (weights @ flat).reshape(len(weights), 3, labels).transpose(1, 0, 2)
        right, wrongly, missed = (
            generator.poisson(unseen / labels, hits.shape)
            for unseen in (UNSEEN, UNSEEN / 2, UNSEEN / 2)
        )
        drawn = np.stack([hits + right, yes + right + wrongly, actual + right + missed])
        absent = drawn[1] + drawn[2] == 0
        yield Counts(*np.where(absent, SELDOM * seen[:, None], drawn))


def _of_ranks(references: np.ndarray, probabilities: np.ndarray) -> Interval:
    """Of average precision."""
    generator = np.random.default_rng(SEED)
    rows, labels = references.shape
    # Rows with one label each, which rank beside any row there is, and below all for the others.
    guessed = np.repeat(np.eye(labels), GUESSES, axis=0)
    beside = probabilities[generator.integers(0, rows, len(guessed)), guessed.argmax(axis=1)]
    given = np.concatenate([references, guessed])
    ranked = np.concatenate([probabilities, np.where(guessed > 0, beside[:, None], -1)])
    drawn = []
    for weights in resampled(rows, RANKING_DRAWS):
        more = generator.poisson(GUESSED / len(guessed), (len(weights), len(guessed)))
        drawn.append(average_precision(given, ranked, np.concatenate([weights, more], axis=1)))
    return percentiles(np.concatenate(drawn))


def _of_means(
    scores: dict[str, float], references: np.ndarray, predictions: np.ndarray
) -> dict[str, Interval]:
    names = [name for name in scores if name in MEANS]
    values = {name: MEANS[name](references, predictions) for name in names}
    if not names:
        return {}
    table = np.stack([column for name in names for column in moments(values[name])], axis=1)
    parts = [weights @ table for weights in resampled(len(references), DRAWS)]
    means = np.concatenate(parts) / len(references)
    return {
        name: OF_MEANS.get(name, studentized)(values[name], means[:, 2 * i], means[:, 2 * i + 1])
        for i, name in enumerate(names)
    }
