"""Tells whether one model is better than another on the same rows, or whether that is chance.

Documents are drawn again (Efron and Tibshirani 1993, ch. 16), the same ones for every run, so that
what is hard for all of them cancels. Runs that differ only in the seed count as one contender, and
its score is the mean of theirs. What other seeds would give is not in the documents: their spread
widens the draws as Student's t of a mean of so few; of the differences by seed, where both have the
same seeds. (The multi-bootstrap of Sellam et al. 2022 draws seeds again, too; of two or three seeds
that makes too little of their spread.) It errs towards a tie: equal methods with three seeds each
are told apart in 1 to 3 of 100 samples. A contender of one run stands for that run alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from nlp_transfer.evaluation.intervals.bootstrap import PERCENTILES
from nlp_transfer.evaluation.intervals.resampling import SEED, resampled
from nlp_transfer.evaluation.metric_set import evaluated_rows
from nlp_transfer.evaluation.registry import Interval, Metric, metrics_of
from nlp_transfer.evaluation.rows import Classes
from nlp_transfer.problems.decoder import Decoder

DRAWS = 10_000  # so that the p of many comparisons together can still be small
SLOW_DRAWS = 1000  # of ranks, and of metrics that look at one draw at a time
LEVEL = 0.05  # of all comparisons together

Weighted = Callable[[np.ndarray], np.ndarray]  # scores [draws] of weights [draws, rows]


@dataclass(frozen=True)
class Rows:
    """What is right."""

    classes: Classes
    references: np.ndarray  # as `Corpus.references` gives them


@dataclass(frozen=True)
class Answers:
    """What one run answered."""

    logits: np.ndarray  # [rows, labels]
    decoder: Decoder

    def decisions(self) -> np.ndarray:
        """The label of each row, int64 [rows]; of several, bool [rows, labels]."""
        return self.decoder.decide(self.decoder.probabilities(self.logits))


@dataclass(frozen=True)
class Contender:
    """A run, or runs that differ only in the seed (or the fold), by one metric."""

    seeds: tuple[int, ...]
    scores: np.ndarray  # [seeds]
    draws: np.ndarray  # of the same documents for every contender, [seeds, draws]

    @property
    def score(self) -> float:
        """The mean over the seeds."""
        return float(self.scores.mean())

    @property
    def spread(self) -> float | None:
        """Standard deviation over the seeds; None of a single one."""
        return float(self.scores.std(ddof=1)) if len(self.seeds) > 1 else None


@dataclass(frozen=True)
class Difference:
    """One contender's score minus another's."""

    value: float
    interval: Interval
    p: float  # of a difference as large, either way, where there is none
    by_seeds: float  # share of the doubt, as a variance, that is between seeds


def score_of(metric: str, rows: Rows, answers: Answers) -> float:
    """The score of one run."""
    weighted = _weighted(_metric(metric, answers), rows, answers)
    return float(weighted(np.ones((1, len(rows.references))))[0])


def draw_scores(
    metric: str, rows: Rows, answers: Sequence[Answers]
) -> tuple[np.ndarray, np.ndarray]:
    """The score of each run, and of each run on the same drawn documents.

    Returns:
        [runs] and [runs, draws]; NaN where a draw does not define the metric.
    """
    registered = _metric(metric, answers[0])
    weighted = [_weighted(registered, rows, of_run) for of_run in answers]
    once = np.ones((1, len(rows.references)))
    scores = np.array([float(score(once)[0]) for score in weighted])
    parts = [
        np.stack([score(weights) for score in weighted])
        for weights in resampled(len(rows.references), SLOW_DRAWS if registered.is_slow else DRAWS)
    ]
    return scores, np.concatenate(parts, axis=1)


def difference(one: Contender, other: Contender) -> Difference:
    """How much better `one` scores than `other`, with a 95% interval."""
    draws = one.draws.mean(axis=0) - other.draws.mean(axis=0)
    draws = draws[np.isfinite(draws)]  # a draw of one label alone does not define every metric
    value, by_documents = one.score - other.score, float(draws.var())
    seeds = _errors_of_seeds(one, other)
    draws = _with_seed_variance(draws, value, seeds)
    by_seeds = sum(error for error, _ in seeds)
    low, high = np.percentile(draws, PERCENTILES)
    beyond = int(min((draws <= 0).sum(), (draws >= 0).sum()))
    return Difference(
        value,
        (min(float(low), value), max(float(high), value)),
        min(2 * (beyond + 1) / (len(draws) + 1), 1.0),
        by_seeds / (by_seeds + by_documents) if by_seeds else 0.0,
    )


def mcnemar(references: np.ndarray, one: np.ndarray, other: np.ndarray) -> float:
    """The exact p of two accuracies: are as many rows better as are worse (McNemar 1947)?

    Args:
        references: int [rows].
        one: predicted ids, int [rows].
        other: those of the other model.
    """
    from scipy.stats import binomtest  # takes 0.6 s to import; not every command compares

    better = int(((one == references) & (other != references)).sum())
    worse = int(((one != references) & (other == references)).sum())
    return float(binomtest(better, better + worse).pvalue) if better + worse else 1.0


def holm(ps: Sequence[float]) -> list[float]:
    """Each p as it counts among all of them (Holm 1979)."""
    adjusted = [0.0] * len(ps)
    largest = 0.0
    for rank, i in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        largest = max(largest, min((len(ps) - rank) * ps[i], 1.0))
        adjusted[i] = largest
    return adjusted


def _with_seed_variance(
    draws: np.ndarray, value: float, seeds: list[tuple[float, int]]
) -> np.ndarray:
    """Draws of a difference, wider by what other seeds might have given.

    Student's t, with the degrees of freedom of Welch and Satterthwaite: as many as the seeds have
    where the doubt is all theirs, and none too few to matter where it is all the documents'.
    """
    squared = sum(error for error, _ in seeds)
    if squared == 0:
        return draws
    freedom = (squared + draws.var()) ** 2 / sum(error**2 / n for error, n in seeds)
    generator = np.random.default_rng(SEED)
    seed_errors = squared**0.5 * generator.standard_normal(len(draws))
    wider = np.sqrt(freedom / generator.chisquare(freedom, len(draws)))
    return value + (draws - value + seed_errors) * wider


def _errors_of_seeds(one: Contender, other: Contender) -> list[tuple[float, int]]:
    """Squared standard errors of means over seeds, with their degrees of freedom."""
    apart = [one.scores, other.scores]
    if one.seeds == other.seeds:
        apart = [one.scores - other.scores]
    return [
        (float(scores.var(ddof=1)) / len(scores), len(scores) - 1)
        for scores in apart
        if len(scores) > 1
    ]


def _metric(name: str, answers: Answers) -> Metric:
    return metrics_of(answers.decoder.problem.metric_kind)[name]


def _weighted(metric: Metric, rows: Rows, answers: Answers) -> Weighted:
    """The metric of one run as a function of how often each row counts."""
    evaluated = evaluated_rows(answers.logits, rows.references, answers.decoder, rows.classes)
    return metric.on(evaluated)
