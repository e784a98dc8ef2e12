"""Paired comparisons against scipy, against a calculation by hand, and against a known truth."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from conftest import slow_but
from scipy import stats
from sklearn import metrics as sk

from nlp_transfer.evaluation.intervals.significance import (
    Answers,
    Contender,
    Rows,
    difference,
    draw_scores,
    holm,
    mcnemar,
)
from nlp_transfer.evaluation.registry import metrics_of
from nlp_transfer.evaluation.rows import Classes
from nlp_transfer.problems import Problem
from nlp_transfer.problems.base import softmax
from nlp_transfer.problems.decoder import Decoder
from nlp_transfer.problems.multi_label import MULTI_LABEL
from nlp_transfer.problems.regression import REGRESSION
from nlp_transfer.problems.single_label import SINGLE_LABEL

CLASSES = Classes(("a", "b", "c"), 2)
Score = Callable[[np.ndarray, np.ndarray], float]

# What scikit-learn says of references and logits.
EXPECTED: dict[str, Score] = {
    "accuracy": lambda r, x: sk.accuracy_score(r, x.argmax(axis=1)),
    "f1_macro": lambda r, x: sk.f1_score(r, x.argmax(axis=1), average="macro"),
    "log_loss": lambda r, x: sk.log_loss(r, softmax(x), labels=[0, 1, 2]),
}


def answers(rows: int = 250, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """References and the logits of two models that find the same rows hard; the first is better."""
    generator = np.random.default_rng(seed)
    references = generator.permutation(np.arange(rows) % 3)
    shared = generator.normal(size=(rows, 3)) * 2 + 2 * np.eye(3)[references]
    first, second = (shared + generator.normal(size=(rows, 3)) * noise for noise in (0.3, 1.2))
    return references, first.astype(np.float32), second.astype(np.float32)


def of(logits: np.ndarray, problem: Problem = SINGLE_LABEL) -> Answers:
    return Answers(logits, Decoder(CLASSES.names, problem))


def contenders(metric: str, references: np.ndarray, *logits: np.ndarray) -> list[Contender]:
    rows = Rows(CLASSES, references)
    scores, drawn = draw_scores(metric, rows, [of(x) for x in logits])
    return [Contender((1,), scores[[i]], drawn[[i]]) for i in range(len(logits))]


@pytest.mark.parametrize("metric", slow_but(["accuracy"], EXPECTED))
def test_the_interval_is_that_of_scipy_and_narrower_than_without_pairs(metric: str) -> None:
    references, *logits = answers()
    one, other = contenders(metric, references, *logits)
    estimate, score = difference(one, other), EXPECTED[metric]
    value = score(references, logits[0]) - score(references, logits[1])
    assert estimate.value == pytest.approx(value, abs=1e-6)
    theirs = stats.bootstrap(
        (np.arange(250),),
        lambda rows: (
            score(references[rows], logits[0][rows]) - score(references[rows], logits[1][rows])
        ),
        vectorized=False,
        n_resamples=1000,
        method="percentile",
        rng=1,
    )
    spread = theirs.standard_error
    np.testing.assert_allclose(estimate.interval, theirs.confidence_interval, atol=spread / 4)
    apart = np.hypot(one.draws.std(), other.draws.std())
    assert estimate.interval[1] - estimate.interval[0] < 0.9 * 2 * 1.96 * apart


def test_accuracy_is_paired_as_in_scipy() -> None:
    references, *logits = answers(400)
    estimate = difference(*contenders("accuracy", references, *logits))
    right = [(x.argmax(axis=1) == references).astype(float) for x in logits]
    theirs = stats.bootstrap(
        right,
        lambda x, y, axis: (x - y).mean(axis=axis),
        paired=True,
        n_resamples=10_000,
        method="percentile",
        rng=1,
    )
    np.testing.assert_allclose(estimate.interval, theirs.confidence_interval, atol=0.004)
    # A mean of so many differences is normal.
    apart = right[0] - right[1]
    normal = 2 * stats.norm.sf(abs(apart.mean()) / (apart.std() / np.sqrt(400)))
    assert estimate.p == pytest.approx(normal, abs=0.02)


def test_every_metric_of_one_label_is_drawn_and_the_draws_are_the_same_documents() -> None:
    references, *logits = answers(60)
    rows = Rows(CLASSES, references)
    for metric in (m.name for m in metrics_of("single_label").values() if not m.binary):
        scores, drawn = draw_scores(metric, rows, [of(logits[i]) for i in (0, 1, 0)])
        assert drawn.shape == (3, 1000 if metric == "roc_auc" else 10_000)
        np.testing.assert_array_equal(drawn[0], drawn[2])
        assert abs(drawn[0].mean() - scores[0]) < 3 * drawn[0].std()


def test_several_labels_and_scores_are_drawn_too() -> None:
    generator = np.random.default_rng(0)
    references = (generator.random((80, 3)) < 0.4).astype(np.float32)
    logits = (2 * references - 1 + generator.normal(size=(80, 3))).astype(np.float32)
    rows = Rows(CLASSES, references)
    scores, drawn = draw_scores("f1_macro", rows, [of(logits, MULTI_LABEL)])
    expected = sk.f1_score(references, logits > 0, average="macro")
    assert scores[0] == pytest.approx(expected)
    low, high = np.percentile(drawn[0], [2.5, 97.5])
    assert low < expected < high
    targets = generator.normal(size=120).astype(np.float32)
    guesses = (targets + generator.normal(size=120))[:, None].astype(np.float32)
    scores, drawn = draw_scores("mse", Rows(CLASSES, targets), [of(guesses, REGRESSION)])
    errors = (targets - guesses[:, 0]) ** 2
    assert scores[0] == pytest.approx(errors.mean(), rel=1e-5)
    assert drawn[0].std() == pytest.approx(errors.std() / np.sqrt(120), rel=0.1)


def test_a_model_ties_with_itself() -> None:
    references, logits, _ = answers()
    estimate = difference(*contenders("f1_macro", references, logits, logits.copy()))
    assert (estimate.value, estimate.interval, estimate.p) == (0.0, (0.0, 0.0), 1.0)
    assert estimate.by_seeds == 0


def test_mcnemar_is_the_binomial_test_of_the_rows_that_changed() -> None:
    references = np.zeros(30, dtype=int)
    one, other = references.copy(), references.copy()
    one[:3], other[3:14] = 1, 1  # three rows only the other has right, eleven only the first
    one[20], other[20] = 1, 2  # and one that both have wrong
    by_hand = 2 * sum(math.comb(14, k) for k in range(4)) / 2**14
    assert mcnemar(references, one, other) == pytest.approx(by_hand)
    assert mcnemar(references, other, one) == pytest.approx(by_hand)
    assert mcnemar(references, one, one) == 1.0


def test_many_comparisons_together_are_held_by_holm() -> None:
    # 0.01 × 4, 0.013 × 3, 0.03 × 2, 0.04 × 1; never smaller than one that was smaller before.
    np.testing.assert_allclose(holm([0.03, 0.01, 0.04, 0.013]), [0.06, 0.04, 0.06, 0.04])
    assert holm([0.4, 0.9]) == [0.8, 0.9]


def seeded(scores: list[float], seeds: tuple[int, ...]) -> Contender:
    """As if all documents were alike: nothing varies but the seed."""
    values = np.array(scores)
    return Contender(seeds, values, np.repeat(values[:, None], 10_000, axis=1))


def test_seeds_are_a_t_test_where_documents_do_not_matter() -> None:
    ours, theirs = [0.86, 0.84, 0.87], [0.81, 0.80, 0.84]
    one = seeded(ours, (1, 2, 3))
    assert one.spread == pytest.approx(np.std(ours, ddof=1))
    estimate = difference(one, seeded(theirs, (1, 2, 3)))
    paired = stats.ttest_rel(ours, theirs)
    np.testing.assert_allclose(estimate.interval, paired.confidence_interval(), atol=0.004)
    assert estimate.p == pytest.approx(paired.pvalue, abs=0.005)
    assert estimate.by_seeds == 1
    # Of other seeds there is nothing to pair, and less to be sure of.
    apart = difference(one, seeded(theirs, (4, 5, 6)))
    assert apart.value == pytest.approx(estimate.value)
    welch = stats.ttest_ind(ours, theirs, equal_var=False)
    np.testing.assert_allclose(apart.interval, welch.confidence_interval(), atol=0.004)
    assert apart.p == pytest.approx(welch.pvalue, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["accuracy", "f1_macro", "log_loss"])
def test_equal_models_are_told_apart_in_five_of_a_hundred_samples_at_most(metric: str) -> None:
    rejections = 0
    for sample in range(400):
        generator = np.random.default_rng([sample, 1])
        references = generator.integers(0, 3, 200)
        shared = generator.normal(size=(200, 3)) + np.eye(3)[references]
        pair = [(shared + generator.normal(size=(200, 3))).astype(np.float32) for _ in range(2)]
        rejections += difference(*contenders(metric, references, *pair)).p < 0.05
    assert 0.025 < rejections / 400 < 0.08


@pytest.mark.slow
def test_three_seeds_of_equal_methods_are_told_apart_in_five_of_a_hundred_samples_at_most() -> None:
    rejections = 0
    for sample in range(400):
        generator = np.random.default_rng([sample, 2])
        references = generator.integers(0, 3, 200)
        shared = generator.normal(size=(200, 3)) + np.eye(3)[references]
        logits = []
        for _ in range(6):  # each seed has a bent of its own
            bent = generator.normal(size=3) * 0.7
            logits.append((shared + bent + generator.normal(size=(200, 3))).astype(np.float32))
        rows = Rows(CLASSES, references)
        scores, drawn = draw_scores("accuracy", rows, [of(x) for x in logits])
        one = Contender((1, 2, 3), scores[:3], drawn[:3])
        other = Contender((4, 5, 6), scores[3:], drawn[3:])
        rejections += difference(one, other).p < 0.05
    assert rejections / 400 < 0.06
