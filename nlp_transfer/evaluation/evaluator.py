"""Evaluates a split: metrics with intervals, figures by class and by slice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nlp_transfer.config.constants import CROSS_VALIDATION
from nlp_transfer.evaluation.intervals.bootstrap import CROSS_VALIDATED, PERCENTILE_LABELS
from nlp_transfer.evaluation.metric_set import Metrics
from nlp_transfer.evaluation.metrics.classification import confusion_matrix
from nlp_transfer.evaluation.registry import MIN_ROWS, Interval
from nlp_transfer.evaluation.rows import EvaluatedRows
from nlp_transfer.evaluation.slices import Slices, slices_of
from nlp_transfer.problems.decoder import Decoder

if TYPE_CHECKING:
    from nlp_transfer.data.corpus import Corpus

FEW_ROWS = 5  # of a label
SOME_LABELS = 0.1  # the share of labels with few rows from which on it is said


@dataclass(frozen=True)
class SplitEvaluation:
    """What the model is worth on one split."""

    logits: np.ndarray
    """float32 [rows, labels]."""
    references: np.ndarray
    """As `Corpus.references` gives them."""
    metrics: dict[str, float | None]
    intervals: dict[str, Interval]
    per_class: list[dict[str, Any]]
    """label, precision, recall, f1, support; of scores, empty."""
    confusion: np.ndarray | None
    """int64 [references, predictions]; None where a text has not exactly one label."""
    slices: dict[str, list[dict[str, Any]]]
    """By what: value, and what `Metrics.figures` gives."""
    decoder: Decoder
    at_one_half: dict[str, Any] | None = None
    """Metrics and intervals without the chosen thresholds; None where there are none."""
    notes: tuple[str, ...] = ()
    """What to know of these figures, in sentences."""

    @property
    def probabilities(self) -> np.ndarray:
        """float64 [rows, labels]; of scores, the scores."""
        return self.decoder.probabilities(self.logits)

    @property
    def decisions(self) -> np.ndarray:
        """The label of each row, int64 [rows]; of several, bool [rows, labels]."""
        return self.decoder.decide(self.probabilities)

    def with_note(self, note: str | None) -> SplitEvaluation:
        """The same with one more sentence, if there is one."""
        return self if note is None else replace(self, notes=(*self.notes, note))


def evaluate_split(
    logits: np.ndarray,
    references: np.ndarray,
    metrics: Metrics,
    labels: tuple[str, ...],
    slices: Slices | None = None,
) -> SplitEvaluation:
    """Metrics with their intervals, the tables by class, and the metrics of slices of one split.

    Of scores there is no table by class.
    """
    whole = metrics.rows(logits, references)
    figures = metrics.figures(whole)
    sliced = {
        by: [
            {"value": value, **metrics.of_rows(logits[rows], references[rows])}
            for value, rows in parts.items()
        ]
        for by, parts in (slices or {}).items()
    }
    decoder = replace(metrics.decoder, labels=labels)
    per_class, confusion = _by_class(whole, decoder)
    plain = None
    if metrics.thresholds:
        plain = replace(metrics, thresholds={}).of_rows(logits, references)
    return SplitEvaluation(
        logits,
        references,
        figures["metrics"],
        {name: (low, high) for name, (low, high) in figures["intervals"].items()},
        per_class,
        confusion,
        sliced,
        decoder,
        plain,
        tuple(_notes(figures, per_class)),
    )


def of_split(metrics: Metrics, split: str) -> Metrics:
    """With intervals as wide as the answers of this split ask for."""
    return replace(metrics, width=CROSS_VALIDATED if split == CROSS_VALIDATION else 1.0)


def evaluate_splits(
    answers: Mapping[str, np.ndarray], corpus: Corpus, metrics: Metrics, columns: Sequence[str]
) -> dict[str, SplitEvaluation]:
    """Every split that was answered.

    Args:
        answers: logits float32 [rows, labels] by split.
        columns: by whose values the rows are sliced, beside their length.
    """
    return {
        split: evaluate_split(
            logits,
            corpus.references(split),
            of_split(metrics, split),
            corpus.labels,
            slices_of(corpus.rows(split), columns),
        )
        for split, logits in answers.items()
    }


def _notes(figures: dict[str, Any], per_class: list[dict[str, Any]]) -> Iterator[str]:
    if figures["rows"] < MIN_ROWS:
        yield (
            f"{figures['rows']} rows are too few for intervals and calibration figures "
            f"(at least {MIN_ROWS})."
        )
    if "labels" in figures:
        yield (
            f"Macro averages are over {figures['labels']} of {len(per_class)} labels: the others "
            "are neither in these rows nor in the answers."
        )
    rare = sum(label["support"] < FEW_ROWS for label in per_class)
    if len(per_class) > PERCENTILE_LABELS and rare > SOME_LABELS * len(per_class):
        yield (
            f"{rare} of {len(per_class)} labels have fewer than {FEW_ROWS} rows here: macro "
            "averages lean on single rows, and their intervals are narrower than they should be."
        )


def _by_class(
    rows: EvaluatedRows, decoder: Decoder
) -> tuple[list[dict[str, Any]], np.ndarray | None]:
    """Figures of each label; and the confusion matrix, where a text has one label."""
    if not decoder.problem.has_labels:
        return [], None
    confusion = None
    if decoder.problem.one_label:
        confusion = confusion_matrix(rows.truth, rows.decisions, len(decoder.labels))
    counts = rows.totals
    thresholds = decoder.thresholds
    columns = (counts.precision, counts.recall, counts.f1, counts.actual)
    per_class = [
        {
            "label": label,
            "precision": float(precision),
            "recall": float(recall),
            "f1": float(f1),
            "support": int(support),
            **({"threshold": thresholds[label]} if label in thresholds else {}),
        }
        for label, precision, recall, f1, support in zip(decoder.labels, *columns, strict=True)
    ]
    return per_class, confusion
