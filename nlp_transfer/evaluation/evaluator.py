"""Logits and references into numbers.

The metrics are `evaluate.Metric`s of our own, because `evaluate.load("accuracy")` fetches code from
the Hub; a name we do not have is loaded from there, and tried before training starts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import datasets
import evaluate
import numpy as np

from nlp_transfer.config.schema import EvaluationConfig
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.evaluation.bootstrap import Interval, intervals
from nlp_transfer.evaluation.metrics import (
    BINARY,
    BY_LABEL,
    BY_PROBABILITY,
    LOWER_IS_BETTER,
    Classes,
    Counts,
    confusion_matrix,
)
from nlp_transfer.evaluation.problem_bootstrap import intervals_of_scores, intervals_of_several
from nlp_transfer.evaluation.problem_metrics import BY_DECISION, BY_VALUE, decision_columns
from nlp_transfer.evaluation.slices import Slices
from nlp_transfer.problems import Problem
from nlp_transfer.problems.decoder import Decoder
from nlp_transfer.problems.single_label import SINGLE_LABEL
from nlp_transfer.utils.logging import logger


class _OurMetric(evaluate.Metric):
    """One of our scores in the shape of the `evaluate` library."""

    prediction: Any
    reference: Any = datasets.Value("int64")

    def __init__(self, name: str, score: Callable[..., Any], classes: Classes) -> None:
        self._score_name = name
        self._score = score
        self._classes = classes
        super().__init__(keep_in_memory=True)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=f"{self._score_name} over {len(self._classes.names)} labels",
            citation="",
            features=datasets.Features(
                {"predictions": self.prediction, "references": self.reference}
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


class _ProblemMetric(_OurMetric):
    """A score of references and of what is predicted."""

    def _of(self, references: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        return self._score(references, predictions, np.ones(len(references)))


class DecisionMetric(_ProblemMetric):
    """A score of several labels a text (`predictions` and references: 0/1 for each)."""

    prediction = reference = datasets.Sequence(datasets.Value("int64"))


class RankingMetric(_ProblemMetric):
    """A score of several labels a text (`predictions`: a probability for each, references 0/1)."""

    prediction = datasets.Sequence(datasets.Value("float64"))
    reference = datasets.Sequence(datasets.Value("int64"))


class ScoreMetric(_ProblemMetric):
    """A score of scores (`predictions`: one a row)."""

    prediction = reference = datasets.Value("float64")


@dataclass(frozen=True)
class Metrics:
    """The metrics of a run."""

    best: str
    classes: Classes
    by_label: Any  # evaluate.CombinedEvaluations or None
    by_probability: Any
    problem: Problem = SINGLE_LABEL
    thresholds: Mapping[str, float] = field(default_factory=dict)

    @property
    def decoder(self) -> Decoder:
        """How probabilities become the labels that are judged."""
        return Decoder(self.classes.names, self.problem, self.thresholds)

    @property
    def greater_is_better(self) -> bool:
        """Whether more of the metric that chooses the epoch is better."""
        return self.best not in LOWER_IS_BETTER

    def compute(self, logits: np.ndarray, references: np.ndarray) -> dict[str, float | None]:
        """Every metric by name; None where a split has too few labels to define it.

        Args:
            logits: float [rows, labels].
            references: as `Corpus.references` gives them.
        """
        values: dict[str, float] = {}
        for metrics, predictions in (
            (self.by_label, self.decide(logits)),
            (self.by_probability, self.probabilities(logits)),
        ):
            if metrics is not None:
                values |= metrics.compute(predictions=predictions, references=references)
        return {name: None if math.isnan(value) else float(value) for name, value in values.items()}

    def intervals(
        self, values: dict[str, float | None], logits: np.ndarray, references: np.ndarray
    ) -> dict[str, Interval]:
        """Of what `compute` gave for these rows; none for a metric of the Hub."""
        defined = {name: value for name, value in values.items() if value is not None}
        probabilities = self.probabilities(logits)
        given = (defined, references, probabilities)
        match self.problem.metric_kind:
            case "multi_label":
                return intervals_of_several(*given, self.decide(logits))
            case "regression":
                return intervals_of_scores(*given)
            case _:
                return intervals(*given, self.classes, self.decide(logits))

    def of_rows(self, logits: np.ndarray, references: np.ndarray) -> dict[str, Any]:
        """How many rows there are, the metrics and their intervals, as in `metrics.json`."""
        values = self.compute(logits, references)
        between = self.intervals(values, logits, references)
        return {
            "rows": len(references),
            "metrics": values,
            "intervals": {name: [*pair] for name, pair in between.items()},
        }

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """float64 [rows, labels]; of a regression, the scores [rows]."""
        found = self.decoder.probabilities(logits)
        return found if self.problem.has_labels else found[:, 0]

    def decide(self, logits: np.ndarray) -> np.ndarray:
        """The label of each row, int64 [rows]; of several, 0/1 [rows, labels]."""
        return self.decoder.decide(self.decoder.probabilities(logits)).astype(np.int64)


@dataclass(frozen=True)
class SplitEvaluation:
    """What the model is worth on one split."""

    logits: np.ndarray  # float32 [rows, labels]
    references: np.ndarray  # as `Corpus.references` gives them
    metrics: dict[str, float | None]
    intervals: dict[str, Interval]
    per_class: list[dict[str, Any]]  # label, precision, recall, f1, support
    confusion: np.ndarray | None  # int64 [references, predictions]; None: not one label a text
    slices: dict[str, list[dict[str, Any]]]  # by what: value, rows, metrics, intervals
    decoder: Decoder
    # Metrics and intervals without the chosen thresholds; None: there are none.
    at_one_half: dict[str, Any] | None = None

    @property
    def probabilities(self) -> np.ndarray:
        """float64 [rows, labels]; of a regression, the scores."""
        return self.decoder.probabilities(self.logits)

    @property
    def decisions(self) -> np.ndarray:
        """The label of each row, int64 [rows]; of several, bool [rows, labels]."""
        return self.decoder.decide(self.probabilities)


def load_metrics(
    config: EvaluationConfig, labels: tuple[str, ...], problem: Problem = SINGLE_LABEL
) -> Metrics:
    """The metrics that were asked for, each tried on two made-up rows.

    Raises:
        UserError: for one that does not exist or does not fit the labels.
    """
    if problem.metric_kind != SINGLE_LABEL.metric_kind:
        return _of_problem(config, labels, problem)
    asked = config.metrics or list(problem.default_metrics)
    best = config.best or asked[0]
    classes = Classes(labels, _positive(config, labels))
    by_label: list[Any] = []
    by_probability: list[Any] = []
    for name in asked:
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
    if best not in (*BY_LABEL, *BY_PROBABILITY):
        raise UserError(
            ExitCode.CONFIG,
            f"evaluation.best={best!r} must be one of ours, whose direction is known: "
            f"{', '.join([*BY_LABEL, *BY_PROBABILITY])}.",
        )
    metrics = Metrics(
        best,
        classes,
        evaluate.combine(by_label) if by_label else None,
        evaluate.combine(by_probability) if by_probability else None,
    )
    tried = metrics.compute(np.eye(2, len(labels), dtype=np.float32), np.array([0, 1]))
    if best not in tried:
        raise UserError(
            ExitCode.CONFIG,
            f"evaluation.best={best!r} is not among what is measured: {', '.join(tried)}.",
        )
    return metrics


def _of_problem(config: EvaluationConfig, labels: tuple[str, ...], problem: Problem) -> Metrics:
    """Metrics of several labels a text, or of scores."""
    asked = config.metrics or list(problem.default_metrics)
    best = config.best or asked[0]
    by_decision = BY_DECISION if problem.several else {}
    known = {**by_decision, **BY_VALUE[problem.metric_kind]}
    if config.positive_label is not None:
        raise UserError(
            ExitCode.CONFIG,
            f"evaluation.positive_label={config.positive_label!r} is for two labels; leave it out "
            f"({problem.name}).",
        )
    for key, name in (*(("metrics", name) for name in asked), ("best", best)):
        if name not in (known if key == "metrics" else asked):
            raise UserError(
                ExitCode.CONFIG,
                f"evaluation.{key} has {name!r}, which is not for {problem.name}; "
                f"there are {', '.join(known)}.",
            )
    classes = Classes(labels, 0)
    of_values = RankingMetric if problem.several else ScoreMetric
    groups: dict[Any, list[Any]] = {DecisionMetric: [], of_values: []}
    for name in asked:
        kind = DecisionMetric if name in by_decision else of_values
        groups[kind].append(kind(name, known[name], classes))
    decisions, values = (evaluate.combine(g) if g else None for g in groups.values())
    return Metrics(best, classes, decisions, values, problem)


def refuse_undefined_best(metrics: Metrics, references: np.ndarray, labels: int) -> None:
    """The metric that chooses the epoch must have a value on these references.

    Raises:
        UserError: where it has none, as ROC-AUC with a single label.
    """
    dummy = np.random.default_rng(0).normal(size=(len(references), labels)).astype(np.float32)
    if metrics.compute(dummy, references)[metrics.best] is None:
        alike, wanted = "has too few labels", "every label"
        if not metrics.problem.has_labels:
            alike, wanted = "has one score alone", "scores that differ"
        raise UserError(
            ExitCode.DATA,
            f"evaluation.best={metrics.best} is undefined on validation: it {alike}. "
            f"Choose another metric, or give a validation split with {wanted}.",
        )


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
    values = metrics.compute(logits, references)
    between = metrics.intervals(values, logits, references)
    sliced = {
        by: [
            {"value": value, **metrics.of_rows(logits[rows], references[rows])}
            for value, rows in parts.items()
        ]
        for by, parts in (slices or {}).items()
    }
    decoder = replace(metrics.decoder, labels=labels)
    per_class, confusion = _by_class(metrics.decide(logits), references, decoder)
    plain = None
    if metrics.thresholds:
        plain = replace(metrics, thresholds={}).of_rows(logits, references)
    return SplitEvaluation(
        logits, references, values, between, per_class, confusion, sliced, decoder, plain
    )


def _by_class(
    decided: np.ndarray, references: np.ndarray, decoder: Decoder
) -> tuple[list[dict[str, Any]], np.ndarray | None]:
    """How each label fares; and the confusion matrix, where a text has one label."""
    confusion, labels = None, decoder.labels
    if not decoder.problem.has_labels:
        return [], None
    classes = decoder.problem.classes(references)
    if classes is None:
        counts = Counts(*decision_columns(references, decided).sum(axis=1))
    else:
        confusion = confusion_matrix(classes, decided, len(labels))
        counts = Counts.of(confusion)
    thresholds = decoder.thresholds
    per_class = [
        {
            "label": label,
            "precision": float(counts.precision[i]),
            "recall": float(counts.recall[i]),
            "f1": float(counts.f1[i]),
            "support": int(counts.actual[i]),
            **({"threshold": thresholds[label]} if label in thresholds else {}),
        }
        for i, label in enumerate(labels)
    ]
    return per_class, confusion


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
