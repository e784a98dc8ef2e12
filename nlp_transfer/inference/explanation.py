"""Which words an answer rests on: the effect of leaving each out, with any engine."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.problems import Problem
from nlp_transfer.problems.decoder import Prediction

if TYPE_CHECKING:
    from nlp_transfer.inference.classifier import Classifier

METHODS = ("occlusion", "gradients")
MOST_UNITS = 256  # of a text; in longer ones, neighbouring words are left out together
ROUNDING = 1e-6  # of the largest logit: less is a difference of float32 arithmetic
# Signs of scripts that put no spaces between words stand alone.
ALONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
WORD = re.compile(rf"[{ALONE}]|[^\W{ALONE}]+(?:['’-][^\W{ALONE}]+)*|[^\w\s]")
AT_ONCE = 16  # texts whose variants are answered together


@dataclass(frozen=True)
class Word:
    """A word or sign of a text (or, in a very long one, a few of them)."""

    text: str
    start: int  # characters of its text
    end: int
    second: bool = False  # of a pair, whether it is in the second text


@dataclass(frozen=True)
class Explanation:
    """How much each word speaks for (more than 0) or against each explained label.

    The weights are differences of `margins`: of one label among several that exclude each other,
    log-odds; else the logit or the score.
    """

    text: str
    text_pair: str | None
    prediction: Prediction
    method: str
    words: tuple[Word, ...]
    labels: tuple[str, ...]  # that are explained
    weights: np.ndarray  # float64 [labels, words]
    # Of gradients, by label: the sum of the weights minus the difference it should be.
    errors: tuple[float, ...] | None = None

    def of(self, label: str) -> list[tuple[str, float]]:
        """Each word with its weight for a label, in the order of the text."""
        weights = self.weights[self.labels.index(label)]
        return [(word.text, float(w)) for word, w in zip(self.words, weights, strict=True)]

    def as_dict(self) -> dict[str, Any]:
        """All of it, for other programs."""
        entries: dict[str, Any] = {"text": self.text}
        if self.text_pair is not None:
            entries["text_pair"] = self.text_pair
        answer = self.prediction
        entries |= {"label": answer.label, "score": answer.score, "method": self.method}
        entries["labels"] = {
            label: {
                "words": [_entry(*pair) for pair in zip(self.words, self.weights[i], strict=True)],
                **({} if self.errors is None else {"error": self.errors[i]}),
            }
            for i, label in enumerate(self.labels)
        }
        return entries


def _entry(word: Word, weight: float) -> dict[str, Any]:
    second = {"second_text": True} if word.second else {}
    place = {"start": word.start, "end": word.end}
    return {"word": word.text, **place, **second, "weight": float(weight)}


def explain(
    classifier: Classifier,
    texts: Sequence[str | None],
    text_pairs: Sequence[str | None] | None,
    labels: Sequence[str] | None,
    method: str,
) -> list[Explanation | None]:
    """See `Classifier.explain`."""
    _refuse(classifier, labels, method)
    classifier.refuse(texts, text_pairs)
    predictions = classifier.predict(texts, text_pairs)
    explanations: list[Explanation | None] = [None] * len(texts)
    filled = [row for row, prediction in enumerate(predictions) if prediction is not None]
    by_method = _by_gradients if method == "gradients" else _by_occlusion
    for start in range(0, len(filled), AT_ONCE):
        rows = filled[start : start + AT_ONCE]
        questions = []
        for row in rows:
            pair = None if text_pairs is None else text_pairs[row] or ""
            one = _question(classifier, texts[row], pair, labels, predictions[row])
            questions.append(one)
        for row, explanation in zip(rows, by_method(classifier, questions), strict=True):
            explanations[row] = explanation
    return explanations


@dataclass(frozen=True)
class Question:
    """One text whose answer is to be explained."""

    text: str
    pair: str | None
    words: tuple[Word, ...]
    prediction: Prediction
    labels: tuple[int, ...]  # that are explained

    def without(self, words: Collection[int]) -> tuple[str, str]:
        """Both texts without some of the words."""
        left_out = [self.words[i] for i in words]
        return (
            without(self.text, [word for word in left_out if not word.second]),
            without(self.pair or "", [word for word in left_out if word.second]),
        )


def _refuse(classifier: Classifier, labels: Sequence[str] | None, method: str) -> None:
    if method not in METHODS:
        raise UserError(
            ExitCode.CONFIG,
            f"{method!r} is no method of explaining; there are {', '.join(METHODS)}.",
        )
    unknown = [label for label in labels or () if label not in classifier.labels]
    if unknown:
        raise UserError(
            ExitCode.CONFIG,
            f"{unknown[0]!r} is no label of this model; there are {', '.join(classifier.labels)}.",
        )
    if method == "gradients" and not hasattr(classifier.engine, "gradients"):
        raise UserError(
            ExitCode.CONFIG,
            "Gradients need the backend torch. Use it, or the method occlusion, which every "
            "backend can.",
        )


def _question(
    classifier: Classifier,
    text: str | None,
    pair: str | None,
    labels: Sequence[str] | None,
    prediction: Prediction | None,
) -> Question:
    assert text is not None and prediction is not None
    words = [*words_of(text), *(words_of(pair, second=True) if pair is not None else ())]
    explained = labels
    if explained is None:  # of several labels those of the answer; none: the likeliest
        explained = prediction.labels or (prediction.label,)
    indices = tuple(classifier.labels.index(label) for label in explained)
    return Question(text, pair, tuple(_joined(words, (text, pair or ""))), prediction, indices)


def words_of(text: str, second: bool = False) -> list[Word]:
    """Words and signs; every character that is no space belongs to one."""
    return [Word(match[0], match.start(), match.end(), second) for match in WORD.finditer(text)]


def _joined(words: list[Word], texts: tuple[str, str]) -> list[Word]:
    """At most about `MOST_UNITS`: neighbours become one where there are more."""
    size = -(-len(words) // MOST_UNITS)
    if size <= 1:
        return words
    units = []
    for second in (False, True):
        own = [word for word in words if word.second is second]
        for i in range(0, len(own), size):
            start, end = own[i].start, own[i : i + size][-1].end
            units.append(Word(texts[second][start:end], start, end, second))
    return units


def without(text: str, words: Collection[Word]) -> str:
    """A text without some of its words, and without the spaces before them."""
    parts: list[str] = []
    place = 0
    for word in sorted(words, key=lambda word: word.start):
        parts.append(text[place : word.start].rstrip())
        place = word.end
    parts.append(text[place:])
    joined = parts[0]
    for part in parts[1:]:
        touching = joined[-1:].isalnum() and part[:1].isalnum()
        joined += f" {part}" if touching else part
    return joined.strip()


def margins(logits: np.ndarray, label: int, problem: Problem) -> np.ndarray:
    """How much the logits say for a label: float64 [rows].

    The log-odds of one label among several that exclude each other, else the logit or the score.
    """
    values = logits.astype(np.float64)
    if not problem.one_label or values.shape[1] == 1:
        return values[:, label]
    others = np.delete(values, label, axis=1)
    return values[:, label] - np.logaddexp.reduce(others, axis=1)


def answers(classifier: Classifier, texts: Sequence[tuple[str, str]], paired: bool) -> np.ndarray:
    """Logits of texts, or of pairs."""
    firsts, seconds = [first for first, _ in texts], [second for _, second in texts]
    return classifier.logits(firsts, seconds if paired else None)


def _by_occlusion(classifier: Classifier, questions: Sequence[Question]) -> list[Explanation]:
    """The margin of the text minus that without each word (Li et al. 2016)."""
    variants = [
        variant
        for question in questions
        for variant in (
            (question.text, question.pair or ""),
            *(question.without([i]) for i in range(len(question.words))),
        )
    ]
    logits = answers(classifier, variants, questions[0].pair is not None)
    explanations, start = [], 0
    for question in questions:
        own = logits[start : start + len(question.words) + 1]
        start += len(own)
        of_labels = [margins(own, label, classifier.decoder.problem) for label in question.labels]
        weights = np.array([values[0] - values[1:] for values in of_labels])
        # Which texts share a batch changes the last digits of a logit.
        weights[np.abs(weights) < ROUNDING * max(1.0, float(np.abs(own).max()))] = 0.0
        explanations.append(_explanation(classifier, question, "occlusion", weights))
    return explanations


def _by_gradients(classifier: Classifier, questions: Sequence[Question]) -> list[Explanation]:
    gradients: Callable[[Question], tuple[np.ndarray, tuple[float, ...]]]
    gradients = classifier.engine.gradients  # type: ignore[attr-defined]
    return [
        _explanation(classifier, question, "gradients", *gradients(question))
        for question in questions
    ]


def _explanation(
    classifier: Classifier,
    question: Question,
    method: str,
    weights: np.ndarray,
    errors: tuple[float, ...] | None = None,
) -> Explanation:
    labels = tuple(classifier.labels[i] for i in question.labels)
    return Explanation(
        question.text,
        question.pair,
        question.prediction,
        method,
        question.words,
        labels,
        weights.reshape(len(labels), len(question.words)),
        errors,
    )
