"""Logits and references into numbers.

The metrics are `evaluate.Metric`s of our own, because `evaluate.load("accuracy")` fetches code from
the Hub; a name we do not have is loaded from there, and tried before training starts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import datasets
import evaluate
import numpy as np

from nlp_transfer.classifier import softmax
from nlp_transfer.config import EvaluationConfig
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.intervals import Interval, intervals
from nlp_transfer.machine import logger
from nlp_transfer.scores import (
    BINARY,
    BY_LABEL,
    BY_PROBABILITY,
    LOWER_IS_BETTER,
    Classes,
    Counts,
    confusion_matrix,
)
from nlp_transfer.slices import Slices


class _OurMetric(evaluate.Metric):
    """One of our scores in the shape of the `evaluate` library."""

    prediction: Any

    def __init__(self, name: str, score: Callable[..., np.ndarray], classes: Classes) -> None:
        self._score_name = name
        self._score = score
        self._classes = classes
        super().__init__(keep_in_memory=True)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=f"{self._score_name} over {len(self._classes.names)} labels",
            citation="",
            features=datasets.Features(
                {"predictions": self.prediction, "references": datasets.Value("int64")}
            ),
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        value = self._of(np.asarray(references), np.asarray(predictions))
        return {self._score_name: float(value)}


class LabelMetric(_OurMetric):
    """A score of predicted labels (`predictions`: one id a row)."""

    prediction = datasets.Value("int64")

    def _of(self, references: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        confusion = confusion_matrix(references, predictions, len(self._classes.names))
        return self._score(Counts.of(confusion), self._classes)


class ProbabilityMetric(_OurMetric):
    """A score of probabilities (`predictions`: one per label a row)."""

    prediction = datasets.Sequence(datasets.Value("float64"))

    def _of(self, references: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        once = np.ones(len(references))
        return self._score(references, probabilities, self._classes, once)


@dataclass(frozen=True)
class Metrics:
    """The metrics of a run."""

    best: str
    classes: Classes
    by_label: Any  # evaluate.CombinedEvaluations or None
    by_probability: Any

    @property
    def greater_is_better(self) -> bool:
        """Whether more of the metric that chooses the epoch is better."""
        return self.best not in LOWER_IS_BETTER

    def compute(self, logits: np.ndarray, references: np.ndarray) -> dict[str, float | None]:
        """Every metric by name; None where a split has too few labels to define it.

        Args:
            logits: float [rows, labels].
            references: int [rows].
        """
        values: dict[str, float] = {}
        for metrics, predictions in (
            (self.by_label, logits.argmax(axis=1)),
            (self.by_probability, softmax(logits)),
        ):
            if metrics is not None:
                values |= metrics.compute(predictions=predictions, references=references)
        return {name: None if math.isnan(value) else float(value) for name, value in values.items()}

    def intervals(
        self, values: dict[str, float | None], logits: np.ndarray, references: np.ndarray
    ) -> dict[str, Interval]:
        """Of what `compute` gave for these rows; none for a metric of the Hub."""
        defined = {name: value for name, value in values.items() if value is not None}
        return intervals(defined, references, softmax(logits), self.classes)

    def of_rows(self, logits: np.ndarray, references: np.ndarray) -> dict[str, Any]:
        """How many rows there are, the metrics and their intervals, as in `metrics.json`."""
        values = self.compute(logits, references)
        between = self.intervals(values, logits, references)
        return {
            "rows": len(references),
            "metrics": values,
            "intervals": {name: [*pair] for name, pair in between.items()},
        }


@dataclass(frozen=True)
class SplitEvaluation:
    """What the model is worth on one split."""

    logits: np.ndarray  # float32 [rows, labels]
    references: np.ndarray  # int64 [rows]
    metrics: dict[str, float | None]
    intervals: dict[str, Interval]
    per_class: list[dict[str, Any]]  # label, precision, recall, f1, support
    confusion: np.ndarray  # int64 [references, predictions]
    slices: dict[str, list[dict[str, Any]]]  # by what: value, rows, metrics, intervals

    @property
    def probabilities(self) -> np.ndarray:
        """float64 [rows, labels]."""
        return softmax(self.logits)


def load_metrics(config: EvaluationConfig, labels: tuple[str, ...]) -> Metrics:
    """The metrics that were asked for, each tried on two made-up rows.

    Raises:
        UserError: for one that does not exist or does not fit the labels.
    """
    classes = Classes(labels, _positive(config, labels))
    by_label: list[Any] = []
    by_probability: list[Any] = []
    for name in config.metrics:
        if name in BINARY and len(labels) != 2:
            raise UserError(
                ExitCode.CONFIG,
                f"evaluation.metrics has {name}, which is for two labels; there are {len(labels)}. "
                f"Use {name}_macro.",
            )
        if name in BY_LABEL:
            by_label.append(LabelMetric(name, BY_LABEL[name], classes))
        elif name in BY_PROBABILITY:
            by_probability.append(ProbabilityMetric(name, BY_PROBABILITY[name], classes))
        else:
            by_label.append(_metric_of_the_hub(name))
    if config.best not in (*BY_LABEL, *BY_PROBABILITY):
        raise UserError(
            ExitCode.CONFIG,
            f"evaluation.best={config.best!r} must be one of ours, whose direction is known: "
            f"{', '.join([*BY_LABEL, *BY_PROBABILITY])}.",
        )
    metrics = Metrics(
        config.best,
        classes,
        evaluate.combine(by_label) if by_label else None,
        evaluate.combine(by_probability) if by_probability else None,
    )
    tried = metrics.compute(np.eye(2, len(labels), dtype=np.float32), np.array([0, 1]))
    if config.best not in tried:
        raise UserError(
            ExitCode.CONFIG,
            f"evaluation.best={config.best!r} is not among what is measured: {', '.join(tried)}.",
        )
    return metrics


def refuse_undefined_best(metrics: Metrics, references: np.ndarray, labels: int) -> None:
    """The metric that chooses the epoch must have a value on these references.

    Raises:
        UserError: where it has none, as ROC-AUC with a single label.
    """
    dummy = np.random.default_rng(0).normal(size=(len(references), labels)).astype(np.float32)
    if metrics.compute(dummy, references)[metrics.best] is None:
        raise UserError(
            ExitCode.DATA,
            f"evaluation.best={metrics.best} is undefined on validation: it has too few labels. "
            "Choose another metric, or give a validation split with every label.",
        )


def evaluate_split(
    logits: np.ndarray,
    references: np.ndarray,
    metrics: Metrics,
    labels: tuple[str, ...],
    slices: Slices | None = None,
) -> SplitEvaluation:
    """Metrics with their intervals, the tables by class, and the metrics of slices of one split."""
    values = metrics.compute(logits, references)
    confusion = confusion_matrix(references, logits.argmax(axis=1), len(labels))
    counts = Counts.of(confusion)
    per_class = [
        {
            "label": label,
            "precision": float(counts.precision[i]),
            "recall": float(counts.recall[i]),
            "f1": float(counts.f1[i]),
            "support": int(counts.actual[i]),
        }
        for i, label in enumerate(labels)
    ]
    between = metrics.intervals(values, logits, references)
    sliced = {
        by: [
            {"value": value, **metrics.of_rows(logits[rows], references[rows])}
            for value, rows in parts.items()
        ]
        for by, parts in (slices or {}).items()
    }
    return SplitEvaluation(logits, references, values, between, per_class, confusion, sliced)


def _positive(config: EvaluationConfig, labels: tuple[str, ...]) -> int:
    if config.positive_label is None:
        return len(labels) - 1
    if config.positive_label not in labels:
        raise UserError(
            ExitCode.CONFIG,
            f"evaluation.positive_label={config.positive_label!r} is not a label; "
            f"there are {', '.join(labels)}.",
        )
    return labels.index(config.positive_label)


def _metric_of_the_hub(name: str) -> Any:
    try:
        metric = evaluate.load(name)
        metric.compute(predictions=[0, 1], references=[0, 1])
    except Exception as error:  # noqa: BLE001 (it is code from the Hub: anything can come)
        ours = ", ".join([*BY_LABEL, *BY_PROBABILITY])
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            ExitCode.CONFIG,
            f"evaluation.metrics has {name!r}, which is not one of ours ({ours}) "
            f"and cannot be used from the Hub: {reason}",
        ) from error
    logger.info("metric %s comes from the Hub", name)
    return metric
