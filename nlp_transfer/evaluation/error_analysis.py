"""Selects the errors worth reading, and measures the error by text length.

The result stays in the run folder: it holds rows of the data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from nlp_transfer.data.corpus import Corpus
from nlp_transfer.evaluation.evaluator import SplitEvaluation
from nlp_transfer.evaluation.slices import quantile_parts
from nlp_transfer.tokenization.encoding import texts_of
from nlp_transfer.tokenization.model_inputs import Pairs, Texts

GROUPS = 12  # kinds of error, the most frequent first
EACH = 5  # examples of a kind
LONGEST = 800  # characters of a text; two texts of a pair have as many each
LENGTHS = 8  # parts of a split with about as many rows each


@dataclass(frozen=True)
class _Rows:
    """The rows of a split as a person knows them."""

    texts: Texts
    origins: Sequence[Mapping[str, Any]]  # as `Corpus.origins` gives them

    def example(self, row: int, confidence: float | None) -> dict[str, Any]:
        """One row with its place in the person's own file."""
        if isinstance(self.texts, Pairs):
            first, second = self.texts.first[row], self.texts.second[row]
            texts = {"text": _beginning(first), "text_pair": _beginning(second)}
        else:
            texts = {"text": _beginning(self.texts[row])}
        rounded = None if confidence is None else round(float(confidence), 4)
        return {**self.origins[row], **texts, "confidence": rounded}


def mistakes_of(corpus: Corpus, evaluations: Mapping[str, SplitEvaluation]) -> dict[str, Any]:
    """The content of `mistakes.json`: of test where it was measured, else of the deciding rows."""
    split = "test" if "test" in evaluations else corpus.deciding_split
    texts, origins = texts_of(corpus.rows(split)), corpus.origins(split)
    return mistakes(split, evaluations[split], texts, corpus.labels, origins)


def mistakes(
    split: str,
    evaluation: SplitEvaluation,
    texts: Texts,
    labels: tuple[str, ...],
    origins: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The content of `mistakes.json` for one split: kinds of error with rows, error by length.

    Args:
        labels: their names, in the order of the logits.
        origins: of each row, its file, its number there and its id, as `Corpus.origins` gives them.
    """
    references, problem = evaluation.references, evaluation.decoder.problem
    decisions, rows = evaluation.decisions, _Rows(texts, origins)
    classes = problem.classes(references)
    if classes is not None:
        error = decisions != classes
        kinds = list(_confused(evaluation, decisions, classes, rows, labels))
    elif problem.several:
        error = (decisions != (references > 0)).any(axis=1)
        kinds = list(_missed_and_added(evaluation, decisions, rows, labels))
    else:
        error = np.abs(evaluation.logits[:, 0] - references)
        kinds = [_largest_errors(evaluation, error, rows)]
    kinds.sort(key=lambda kind: -kind["rows"])
    return {
        "split": split,
        "rows": len(error),
        "wrong": int(error.sum()) if problem.has_labels else None,
        "kinds": [kind for kind in kinds if kind["rows"]][:GROUPS],
        "by_length": list(_by_length(error, _lengths(texts))),
    }


def _confused(
    evaluation: SplitEvaluation,
    decisions: np.ndarray,
    classes: np.ndarray,
    rows: _Rows,
    labels: tuple[str, ...],
) -> Iterator[dict[str, Any]]:
    """By true and predicted label, the most confident errors first."""
    confidence = evaluation.probabilities[np.arange(len(decisions)), decisions]
    wrong = np.flatnonzero(decisions != classes)
    pairs = classes[wrong] * len(labels) + decisions[wrong]
    kinds, sizes = np.unique(pairs, return_counts=True)
    for pair in kinds[np.argsort(-sizes, kind="stable")][:GROUPS].tolist():
        label, answer = divmod(pair, len(labels))
        members = wrong[pairs == pair]
        first = members[np.argsort(-confidence[members], kind="stable")][:EACH].tolist()
        examples = [rows.example(row, confidence[row]) for row in first]
        yield _kind(labels[label], labels[answer], members, examples)


def _missed_and_added(
    evaluation: SplitEvaluation, decisions: np.ndarray, rows: _Rows, labels: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    """By label: false negatives and false positives, those with the clearest probability first."""
    probabilities, true = evaluation.probabilities, evaluation.references > 0
    for i, name in enumerate(labels):
        probability = probabilities[:, i]
        for label, answer, wrong, key in (
            (name, None, true[:, i] & ~decisions[:, i], probability),
            (None, name, ~true[:, i] & decisions[:, i], -probability),
        ):
            members = np.flatnonzero(wrong)
            sample = members[np.argsort(key[members], kind="stable")][:EACH].tolist()
            examples = [
                {
                    **rows.example(row, probability[row]),
                    "label": ", ".join(np.array(labels)[true[row]].tolist()) or "none",
                }
                for row in sample
            ]
            yield _kind(label, answer, members, examples)


def _largest_errors(evaluation: SplitEvaluation, error: np.ndarray, rows: _Rows) -> dict[str, Any]:
    members = np.argsort(-error, kind="stable")[: 2 * EACH]
    examples = [
        {
            **rows.example(row, None),
            "label": f"{evaluation.references[row]:.4g}",
            "answer": f"{evaluation.logits[row, 0]:.4g}",
        }
        for row in members.tolist()
    ]
    return _kind(None, None, members, examples)


def _kind(
    label: str | None, answer: str | None, rows: np.ndarray, examples: list[dict[str, Any]]
) -> dict[str, Any]:
    """One kind of error; of several labels, None stands for the label's absence."""
    return {"label": label, "answer": answer, "rows": len(rows), "examples": examples}


def _beginning(text: str) -> str:
    """The beginning of a text, with unpaired surrogates (which no file can hold) replaced."""
    excerpt = text if len(text) <= LONGEST else f"{text[:LONGEST]} …"
    return excerpt.encode("utf-8", "replace").decode("utf-8")


def _lengths(texts: Texts) -> np.ndarray:
    """Characters of each row, int64 [rows]; of a pair, of both texts."""
    if isinstance(texts, Pairs):
        return np.array([len(a) + len(b) for a, b in zip(texts.first, texts.second, strict=True)])
    return np.array([len(text) for text in texts])


def _by_length(error: np.ndarray, lengths: np.ndarray) -> Iterator[dict[str, Any]]:
    """Mean error (of labels: the share that is wrong) with its 95% interval."""
    for members in quantile_parts(lengths, LENGTHS):
        yield {
            "low": int(lengths[members].min()),
            "high": int(lengths[members].max()),
            "rows": len(members),
            "error": float(error[members].mean()),
            "interval": _interval(error[members]),
        }


def _interval(error: np.ndarray) -> list[float]:
    """95%: of a share Wilson's, of a mean the normal approximation."""
    if error.dtype == bool:
        wilson = stats.binomtest(int(error.sum()), len(error)).proportion_ci(method="wilson")
        return [float(wilson.low), float(wilson.high)]
    half = 1.96 * float(error.std()) / len(error) ** 0.5
    mean = float(error.mean())
    return [max(mean - half, 0.0), mean + half]
