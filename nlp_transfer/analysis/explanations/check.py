"""Compares explanations with random orders of words: deletion and insertion curves.

Deletion and insertion curves (Samek et al. 2017, Petsiuk et al. 2018): an explanation that names
the words an answer rests on makes its probability fall faster than a random order of words does,
and rise faster where the words come back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nlp_transfer.data.splitters import stratified_part
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.evaluation.intervals.bootstrap import PERCENTILES
from nlp_transfer.evaluation.intervals.resampling import resampled_means
from nlp_transfer.evaluation.registry import Interval
from nlp_transfer.inference.classifier import Classifier
from nlp_transfer.inference.explanation import AT_ONCE, Explanation, Question, answers
from nlp_transfer.reporting.html.plots import removal
from nlp_transfer.reporting.html.small_page import as_written, small_page
from nlp_transfer.runs.reopen import reopen
from nlp_transfer.tokenization.encoding import select_texts, texts_of
from nlp_transfer.tokenization.model_inputs import Pairs

FRACTIONS = np.array([0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0])  # of the words; the same from both ends
ORDERS = 3  # random ones of each text
FEWEST_WORDS = 3
ROWS = 50
GIVE_AGAIN = (
    "Give texts instead: from nlp_transfer.analysis.explanations.check import removal_curves."
)


@dataclass(frozen=True)
class Gain:
    """The area between the curve of the explanations and that of random orders, and its 95%."""

    value: float
    interval: Interval

    @property
    def better(self) -> bool:
        """Than a random order, beyond chance."""
        return self.interval[0] > 0


@dataclass(frozen=True)
class Check:
    """Mean probability of the answer by the share of words that are left out (or put in)."""

    method: str
    rows: int
    deletion: list[float]
    insertion: list[float]
    random: list[float]  # by deletion; by insertion it is the same from the other end
    gains: dict[str, Gain]  # deletion, insertion
    fractions: list[float] = field(default_factory=FRACTIONS.tolist)  # of the words

    def verdicts(self) -> list[str]:
        """Of deletion and insertion, in words."""
        lines = []
        for name, gain in self.gains.items():
            low, high = gain.interval
            verdict = "better than" if gain.better else "no better than"
            lines.append(
                f"{name}: {gain.value:+.3f} [{low:+.3f}, {high:+.3f}], {verdict} a random order"
            )
        return lines

    def __str__(self) -> str:
        lines = self.verdicts()
        head = f"{self.method} on {self.rows} texts, area to the curve of random orders of words:"
        return "\n  ".join([head, *lines])

    def page(self) -> str:
        """A page with the figure."""
        figure = removal(list(FRACTIONS), self.deletion, self.insertion, self.random)
        parts = [
            as_written(str(self)),
            str(figure),
            "<p>Deletion: the words with most weight are left out first, and the curve should "
            "fall faster than the random one. Insertion: they come first into an empty text, and "
            "the curve should rise faster.</p>",
        ]
        return small_page("Explanations against chance", parts)


def check_run(classifier: Classifier, folder: Path, method: str, rows: int = ROWS) -> Check:
    """The check on rows of the run's validation set (of its folds: of train), drawn by label.

    Raises:
        UserError: if the data of the run cannot be read again.
    """
    _, corpus = reopen(folder, "or train on it as it is now", GIVE_AGAIN)
    split = corpus.deciding_split
    strata = corpus.problem.strata(corpus.references(split))
    chosen = stratified_part(strata, min(rows, len(strata)), seed=0)
    texts = select_texts(texts_of(corpus.rows(split)), chosen)
    if isinstance(texts, Pairs):
        explanations = classifier.explain(texts.first, texts.second, method=method)
    else:
        explanations = classifier.explain(texts, method=method)
    return removal_curves(classifier, [each for each in explanations if each is not None])


def removal_curves(
    classifier: Classifier, explanations: Sequence[Explanation], seed: int = 0
) -> Check:
    """Both curves of explanations, for the first label of each, against random orders.

    Raises:
        UserError: where no text has enough words.
    """
    usable = [each for each in explanations if len(each.words) >= FEWEST_WORDS]
    if not usable:
        raise UserError(
            ExitCode.DATA,
            f"Explanations are compared with random orders of words: expected texts of at least "
            f"{FEWEST_WORDS} words, found none.",
        )
    generator = np.random.default_rng(seed)
    parts = [
        _curves(classifier, usable[start : start + AT_ONCE], generator)
        for start in range(0, len(usable), AT_ONCE)
    ]
    curves = np.concatenate(parts)  # [texts, 3, fractions]
    deletion, insertion, random = curves.transpose(1, 0, 2)
    areas = {
        "deletion": _area(random) - _area(deletion),
        "insertion": _area(insertion) - _area(random[:, ::-1]),
    }
    means = curves.mean(axis=0)
    return Check(
        usable[0].method,
        len(usable),
        means[0].tolist(),
        means[1].tolist(),
        means[2].tolist(),
        {name: _gain(values) for name, values in areas.items()},
    )


def _curves(
    classifier: Classifier, explanations: Sequence[Explanation], generator: np.random.Generator
) -> np.ndarray:
    """Probability of each answer [texts, 3 (deletion, insertion, random), fractions]."""
    variants: list[tuple[str, str]] = []
    for explanation in explanations:
        count = len(explanation.words)
        question = Question(
            explanation.text, explanation.text_pair, explanation.words, explanation.prediction, ()
        )
        order = np.argsort(-explanation.weights[0], kind="stable")
        orders = [order, order[::-1], *(generator.permutation(count) for _ in range(ORDERS))]
        for one in orders:
            sizes = np.rint(FRACTIONS * count).astype(int)
            variants += [question.without(one[:size].tolist()) for size in sizes]
    logits = answers(classifier, variants, explanations[0].text_pair is not None)
    probabilities = classifier.decoder.probabilities(logits)
    of_orders = probabilities.reshape(len(explanations), 2 + ORDERS, len(FRACTIONS), -1)
    label = [classifier.labels.index(explanation.labels[0]) for explanation in explanations]
    values = of_orders[np.arange(len(label)), :, :, label]
    # The last words of the order leave first: seen from the other end, the first ones come first.
    deletion, insertion, random = values[:, 0], values[:, 1, ::-1], values[:, 2:].mean(axis=1)
    return np.stack([deletion, insertion, random], axis=1)


def _area(curves: np.ndarray) -> np.ndarray:
    return np.trapezoid(curves, FRACTIONS, axis=1)


def _gain(values: np.ndarray) -> Gain:
    means = resampled_means(len(values), values[:, None].__getitem__)
    low, high = np.percentile(means[:, 0], PERCENTILES)
    return Gain(float(values.mean()), (float(low), float(high)))
