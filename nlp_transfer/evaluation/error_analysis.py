"""Finds the mistakes worth reading, and whether long texts have more of them.

What it gives stays in the run folder: it holds rows of the data.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import stats

from nlp_transfer.evaluation.evaluator import SplitEvaluation
from nlp_transfer.evaluation.slices import quantile_parts
from nlp_transfer.tokenization.model_inputs import Pairs, Texts

GROUPS = 12  # kinds of mistake, the most frequent first
EACH = 5  # of a kind
LONGEST = 800  # characters of a text; two texts of a pair have as many each
LENGTHS = 8  # parts of a split with about as many rows each


def mistakes(
    split: str, evaluation: SplitEvaluation, texts: Texts, labels: tuple[str, ...]
) -> dict[str, Any]:
    """What `mistakes.json` says of a split: kinds of mistake with rows to read, error by length.

    Args:
        labels: their names, in the order of the logits.
    """
    references, problem = evaluation.references, evaluation.decoder.problem
    decisions = evaluation.decisions
    classes = problem.classes(references)
    if classes is not None:
        error = decisions != classes
        kinds = list(_confused(evaluation, decisions, classes, texts, labels))
    elif problem.several:
        error = (decisions != (references > 0)).any(axis=1)
        kinds = list(_missed_and_added(evaluation, decisions, texts, labels))
    else:
        error = np.abs(evaluation.logits[:, 0] - references)
        kinds = [_furthest(evaluation, error, texts)]
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
    answers: np.ndarray,
    classes: np.ndarray,
    texts: Texts,
    labels: tuple[str, ...],
) -> Iterator[dict[str, Any]]:
    """By what it is and what is answered: the answers that were surest."""
    sure = evaluation.probabilities[np.arange(len(answers)), answers]
    wrong = np.flatnonzero(answers != classes)
    pairs = classes[wrong] * len(labels) + answers[wrong]
    kinds, sizes = np.unique(pairs, return_counts=True)
    for pair in kinds[np.argsort(-sizes, kind="stable")][:GROUPS].tolist():
        label, answer = divmod(pair, len(labels))
        rows = wrong[pairs == pair]
        first = rows[np.argsort(-sure[rows], kind="stable")][:EACH].tolist()
        examples = [_row(row, texts, sure[row]) for row in first]
        yield _kind(labels[label], labels[answer], rows, examples)


def _missed_and_added(
    evaluation: SplitEvaluation, decisions: np.ndarray, texts: Texts, labels: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    """By label: where it is and was not answered, and the other way round."""
    has, probabilities, names = (
        evaluation.references > 0,
        evaluation.probabilities,
        np.array(labels),
    )
    missed, added = has & ~decisions, ~has & decisions
    sizes = np.stack([missed.sum(axis=0), added.sum(axis=0)], axis=1).ravel()
    for place in np.argsort(-sizes, kind="stable")[:GROUPS].tolist():
        column, is_added = divmod(place, 2)
        rows = np.flatnonzero((added if is_added else missed)[:, column])
        confidence = probabilities[:, column]
        order = np.argsort(-confidence[rows] if is_added else confidence[rows], kind="stable")
        examples = [
            {
                **_row(row, texts, confidence[row]),
                "label": ", ".join(names[has[row]].tolist()) or "none",
            }
            for row in rows[order][:EACH].tolist()
        ]
        name = labels[column]
        yield _kind(None if is_added else name, name if is_added else None, rows, examples)


def _furthest(evaluation: SplitEvaluation, error: np.ndarray, texts: Texts) -> dict[str, Any]:
    rows = np.argsort(-error, kind="stable")[: 2 * EACH]
    examples = [
        {
            **_row(row, texts, None),
            "label": f"{evaluation.references[row]:.4g}",
            "answer": f"{evaluation.logits[row, 0]:.4g}",
        }
        for row in rows.tolist()
    ]
    return _kind(None, None, rows, examples)


def _kind(
    label: str | None, answer: str | None, rows: np.ndarray, examples: list[dict[str, Any]]
) -> dict[str, Any]:
    """One kind of mistake; of several labels, None stands for its absence."""
    return {"label": label, "answer": answer, "rows": len(rows), "examples": examples}


def _row(row: int, texts: Texts, confidence: float | None) -> dict[str, Any]:
    shown = (
        {"text": _shown(texts.first[row]), "text_pair": _shown(texts.second[row])}
        if isinstance(texts, Pairs)
        else {"text": _shown(texts[row])}
    )
    sure = None if confidence is None else round(float(confidence), 4)
    return {"row": row, **shown, "confidence": sure}


def _shown(text: str) -> str:
    """Its beginning, without what no file can hold: halves of surrogate pairs."""
    shown = text if len(text) <= LONGEST else f"{text[:LONGEST]} …"
    return shown.encode("utf-8", "replace").decode("utf-8")


def _lengths(texts: Texts) -> np.ndarray:
    if isinstance(texts, Pairs):
        return np.array([len(a) + len(b) for a, b in zip(texts.first, texts.second, strict=True)])
    return np.array([len(text) for text in texts])


def _by_length(error: np.ndarray, lengths: np.ndarray) -> Iterator[dict[str, Any]]:
    """Mean error (of labels: the share that is wrong) with its 95% interval."""
    for rows in quantile_parts(lengths, LENGTHS):
        yield {
            "low": int(lengths[rows].min()),
            "high": int(lengths[rows].max()),
            "rows": len(rows),
            "error": float(error[rows].mean()),
            "interval": _interval(error[rows]),
        }


def _interval(error: np.ndarray) -> list[float]:
    """Of a share Wilson's, of a mean the normal one."""
    if error.dtype == bool:
        interval = stats.binomtest(int(error.sum()), len(error)).proportion_ci(method="wilson")
        return [float(interval.low), float(interval.high)]
    half = 1.96 * float(error.std()) / len(error) ** 0.5
    mean = float(error.mean())
    return [max(mean - half, 0.0), mean + half]
