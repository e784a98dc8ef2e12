"""Metrics of several labels and of scores: scikit-learn's, and intervals that are scipy's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from scipy import special, stats
from sklearn import metrics as sk

from nlp_transfer.config.sections.evaluation import EvaluationConfig
from nlp_transfer.evaluation.calibration import fit_temperature
from nlp_transfer.evaluation.intervals.resampling import resampled
from nlp_transfer.evaluation.metric_set import Metrics, load_metrics
from nlp_transfer.evaluation.registry import Interval, metrics_of
from nlp_transfer.evaluation.rows import Classes, EvaluatedRows
from nlp_transfer.problems import Problem
from nlp_transfer.problems.multi_label import MULTI_LABEL
from nlp_transfer.problems.regression import REGRESSION

SEVERAL = metrics_of("multi_label")
SCORES = metrics_of("regression")
CLASSES = Classes(tuple("abcd"), 0)


def several(rows: int, labels: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """References with rare labels, and logits that know a little; some of them are the same."""
    generator = np.random.default_rng(seed)
    shares = np.linspace(0.4, 0.05, labels)
    references = (generator.random((rows, labels)) < shares).astype(np.float32)
    logits = generator.normal(size=(rows, labels)) + 3 * references - 2
    return references, logits.round(1).astype(np.float32)


def scores(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """References, some of them the same, and logits that know a little."""
    generator = np.random.default_rng(seed)
    references = generator.normal(size=rows).round(1).astype(np.float32)
    return references, (references + generator.normal(size=rows)).astype(np.float32)[:, None]


def metrics_for(problem: Problem, labels: int, *names: str) -> Metrics:
    config = EvaluationConfig(list(names or (SEVERAL if problem is MULTI_LABEL else SCORES)))
    return load_metrics(config, tuple("abcdefghijklmnopqrstuvwxyzäö"[:labels]), problem)


def between(metrics: Metrics, references: np.ndarray, logits: np.ndarray) -> dict[str, Interval]:
    return metrics.intervals(metrics.compute(logits, references), logits, references)


def of_each_label(
    references: np.ndarray, probabilities: np.ndarray, sample_weight: object
) -> float:
    each = [
        sk.average_precision_score(
            references[:, i], probabilities[:, i], sample_weight=sample_weight
        )
        for i in range(references.shape[1])
    ]
    return float(np.mean(each))


def of_each_answer(
    references: np.ndarray, probabilities: np.ndarray, sample_weight: object
) -> float:
    weights = np.repeat(np.asarray(sample_weight), references.shape[1])
    return sk.log_loss(references.ravel(), probabilities.ravel(), sample_weight=weights)


def repeated(
    of: Callable[..., tuple[float, float]], x: np.ndarray, y: np.ndarray, sample_weight: np.ndarray
) -> float:
    rows = np.repeat(np.arange(len(x)), sample_weight.astype(int))
    return float(of(x[rows], y[rows])[0])


# name: what scikit-learn or scipy says with weights
THEIRS: dict[str, Callable[..., float]] = {
    **{
        f"f1_{a}": partial(sk.f1_score, average=a, zero_division=0)
        for a in ("micro", "macro", "weighted")
    },
    **{
        f"precision_{a}": partial(sk.precision_score, average=a, zero_division=0)
        for a in ("micro", "macro")
    },
    **{
        f"recall_{a}": partial(sk.recall_score, average=a, zero_division=0)
        for a in ("micro", "macro")
    },
    "accuracy": sk.accuracy_score,
    "ranking_precision": sk.label_ranking_average_precision_score,
    "average_precision": of_each_label,
    "log_loss": of_each_answer,
    "pearson": partial(repeated, stats.pearsonr),
    "spearman": partial(repeated, stats.spearmanr),
    "mse": sk.mean_squared_error,
    "mae": sk.mean_absolute_error,
}


@pytest.mark.parametrize("name", THEIRS)
def test_every_metric_over_many_weightings_at_once_is_theirs(name: str) -> None:
    assert set(THEIRS) == {*SEVERAL, *SCORES}
    (weights,) = resampled(150, 5)
    if name in SCORES:
        references, logits = scores(150)
        predictions = logits[:, 0]
        rows = EvaluatedRows(references, predictions, predictions, Classes(("score",), 0))
    else:
        references, logits = several(150)
        probabilities = special.expit(logits.astype(float))
        rows = EvaluatedRows(references, probabilities, (probabilities > 0.5).astype(int), CLASSES)
        predictions = rows.predictions(SEVERAL[name].kind.predictions)
    ours = {**SEVERAL, **SCORES}[name].on(rows)
    values = ours(weights)
    assert values.shape == (5,)
    for value, drawn in zip(values, weights, strict=True):
        expected = THEIRS[name](references, predictions, sample_weight=drawn)
        assert value == pytest.approx(expected, abs=1e-6)
    once = ours(np.ones(150))
    assert float(once) == pytest.approx(
        THEIRS[name](references, predictions, sample_weight=np.ones(150)), abs=1e-6
    )


@pytest.mark.parametrize(
    "name", ["f1_micro", "f1_macro", "ranking_precision", "pearson", "spearman"]
)
def test_intervals_are_those_of_scipy(name: str) -> None:
    problem = REGRESSION if name in SCORES else MULTI_LABEL
    references, logits = scores(400) if name in SCORES else several(400)
    metrics = metrics_for(problem, logits.shape[1], name)
    low, high = between(metrics, references, logits)[name]
    theirs = stats.bootstrap(
        (np.arange(400),),
        lambda rows: metrics.compute(logits[rows], references[rows])[name],
        vectorized=False,
        n_resamples=1000,
        method="percentile",
        rng=1,
    )
    np.testing.assert_allclose(
        (low, high), theirs.confidence_interval, atol=theirs.standard_error / 3
    )


@pytest.mark.parametrize("name", ["mse", "mae", "log_loss"])
def test_the_interval_of_an_error_of_many_rows_is_the_normal_one(name: str) -> None:
    if name == "log_loss":
        references, logits = several(4000)
        losses = np.logaddexp(0, np.where(references > 0, -logits, logits)).mean(axis=1)
        metrics = metrics_for(MULTI_LABEL, 4, name)
    else:
        references, logits = scores(4000)
        losses = np.abs(references - logits[:, 0]) ** (2 if name == "mse" else 1)
        metrics = metrics_for(REGRESSION, 1, name)
    error = losses.std() / np.sqrt(4000)
    expected = losses.mean() + 1.96 * error * np.array([-1, 1])
    intervals = between(metrics, references, logits)[name]
    np.testing.assert_allclose(intervals, expected, atol=error / 4)


def test_intervals_enclose_every_metric_and_come_out_the_same_again() -> None:
    for problem, (references, logits) in (
        (MULTI_LABEL, several(60)),
        (REGRESSION, scores(60)),
    ):
        metrics = metrics_for(problem, logits.shape[1])
        values, intervals = (
            metrics.compute(logits, references),
            between(metrics, references, logits),
        )
        assert set(intervals) == set(values)
        for name, (low, high) in intervals.items():
            assert low <= values[name] <= high
            assert low < high
        assert intervals == between(metrics, references, logits)
        assert between(metrics, references[:1], logits[:1]) == {}


def test_all_right_is_not_certain_and_nothing_there_is_undefined() -> None:
    references = several(33)[0]
    sure = np.where(references > 0, 5.0, -5.0).astype(np.float32)
    intervals = between(
        metrics_for(MULTI_LABEL, 4, "f1_micro", "f1_macro", "accuracy"), references, sure
    )
    for low, high in intervals.values():
        assert high == 1
        assert 0.7 < low < 0.99
    none = np.zeros_like(references)
    values = metrics_for(MULTI_LABEL, 4).compute(sure, none)
    assert values["average_precision"] is None
    assert values["ranking_precision"] == 1
    same = np.ones((20, 1), dtype=np.float32)
    values = metrics_for(REGRESSION, 1).compute(same, scores(20)[0])
    assert values["pearson"] is None and values["spearman"] is None
    assert set(between(metrics_for(REGRESSION, 1), scores(20)[0], same)) == {"mse", "mae"}


@pytest.mark.slow
def test_intervals_hold_the_truth_in_95_of_100_samples() -> None:
    measured = ("f1_macro", "f1_micro", "average_precision", "pearson", "spearman", "mse")
    many, held = 400, dict.fromkeys(measured, 0)
    truth = {}
    for problem, (references, logits) in (
        (MULTI_LABEL, several(200_000, seed=10)),
        (REGRESSION, scores(200_000, seed=10)),
    ):
        names = [name for name in held if name in (SCORES if references.ndim == 1 else SEVERAL)]
        metrics = metrics_for(problem, logits.shape[1], *names)
        truth |= metrics.compute(logits, references)
        for sample in range(many):
            rows = slice(300 * sample, 300 * (sample + 1))
            for name, (low, high) in between(metrics, references[rows], logits[rows]).items():
                held[name] += low <= truth[name] <= high
    # The share of 400 may itself be off by 2 points.
    for name, count in held.items():
        assert 0.92 <= count / many <= 0.985, name


def test_the_temperature_of_several_labels_is_the_one_of_least_log_loss() -> None:
    generator = np.random.default_rng(0)
    right = generator.normal(size=(400, 5)) * 2 - 1
    references = (generator.random(right.shape) < special.expit(right)).astype(np.float32)
    fitted = fit_temperature(3 * right, references, MULTI_LABEL)
    assert fitted == pytest.approx(3, rel=0.15)

    def loss(temperature: float) -> float:
        return sk.log_loss(references.ravel(), special.expit(3 * right / temperature).ravel())

    assert loss(fitted) < min(loss(fitted * 1.01), loss(fitted / 1.01))
    # Where every answer is right the log loss has no minimum: the prior keeps it above the limit.
    assert 0.05 <= fit_temperature(right, (right > 0).astype(np.float32), MULTI_LABEL) < 1
    assert fit_temperature(right, (right < 0).astype(np.float32), MULTI_LABEL) is None
