"""Logits and references into numbers.

The metrics are `evaluate.Metric`s of our own, because `evaluate.load("accuracy")` fetches code from
the Hub; a name we do not have is loaded from there, and tried before training starts.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import datasets
import evaluate
import numpy as np
from sklearn import metrics as sk
from sklearn.exceptions import UndefinedMetricWarning

from nlp_transfer.config import DEFAULT_METRICS, EvaluationConfig, Problem
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.inference import probabilities_of
from nlp_transfer.machine import logger
from nlp_transfer.problem_metrics import PROBLEM_METRICS

LOWER_IS_BETTER = {"log_loss", "mse", "mae"}


@dataclass(frozen=True)
class Classes:
    """What a metric has to know about the labels."""

    names: tuple[str, ...]
    positive: int  # index of the positive label of a binary metric

    @property
    def ids(self) -> list[int]:
        """All of them, whether a split has them or not."""
        return list(range(len(self.names)))


def _averaged(score: Callable[..., float], average: str) -> Callable[..., float]:
    def compute(references: np.ndarray, predictions: np.ndarray, classes: Classes) -> float:
        wanted = [classes.positive] if average == "binary" else classes.ids
        return score(
            references,
            predictions,
            labels=wanted,
            average="macro" if average == "binary" else average,
            zero_division=0.0,
        )

    return compute


def _roc_auc(references: np.ndarray, probabilities: np.ndarray, classes: Classes) -> float:
    if len(classes.names) == 2:
        return sk.roc_auc_score(references == classes.positive, probabilities[:, classes.positive])
    # One label against the rest, averaged over the labels that the split has.
    present = [i for i in classes.ids if 0 < (references == i).sum() < len(references)]
    if not present:
        return math.nan
    return float(np.mean([sk.roc_auc_score(references == i, probabilities[:, i]) for i in present]))


# name: (score of references, predicted label ids and the classes)
BY_LABEL: dict[str, Callable[[np.ndarray, np.ndarray, Classes], float]] = {
    "accuracy": lambda references, predictions, _: sk.accuracy_score(references, predictions),
    "f1": _averaged(sk.f1_score, "binary"),
    "f1_macro": _averaged(sk.f1_score, "macro"),
    "f1_weighted": _averaged(sk.f1_score, "weighted"),
    "precision": _averaged(sk.precision_score, "binary"),
    "precision_macro": _averaged(sk.precision_score, "macro"),
    "recall": _averaged(sk.recall_score, "binary"),
    "recall_macro": _averaged(sk.recall_score, "macro"),
    "matthews": lambda references, predictions, _: sk.matthews_corrcoef(references, predictions),
}
# name: (score of references, probabilities [rows, labels] and the classes)
BY_PROBABILITY: dict[str, Callable[[np.ndarray, np.ndarray, Classes], float]] = {
    "roc_auc": _roc_auc,
    "log_loss": lambda references, probabilities, classes: sk.log_loss(
        references, probabilities, labels=classes.ids
    ),
}
BINARY = ("f1", "precision", "recall")


class _OurMetric(evaluate.Metric):
    """One of our scores in the shape of the `evaluate` library."""

    prediction: Any
    reference: Any = datasets.Value("int64")

    def __init__(self, name: str, score: Callable[..., float], classes: Classes) -> None:
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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UndefinedMetricWarning)
            warnings.filterwarnings("ignore", "A single label was found", UserWarning)
            value = self._score(np.asarray(references), np.asarray(predictions), self._classes)
        return {self._score_name: float(value)}


class LabelMetric(_OurMetric):
    """A score of predicted labels (`predictions`: one id a row)."""

    prediction = datasets.Value("int64")


class ProbabilityMetric(_OurMetric):
    """A score of probabilities (`predictions`: one per label a row)."""

    prediction = datasets.Sequence(datasets.Value("float64"))


class SeveralLabelsMetric(_OurMetric):
    """A score of several labels a text (`predictions`: a probability for each, references 0/1)."""

    prediction = datasets.Sequence(datasets.Value("float64"))
    reference = datasets.Sequence(datasets.Value("int64"))


class ScoreMetric(_OurMetric):
    """A score of scores (`predictions`: one a row)."""

    prediction = reference = datasets.Value("float64")


@dataclass(frozen=True)
class Metrics:
    """The metrics of a run."""

    best: str
    by_label: Any  # evaluate.CombinedEvaluations or None
    by_probability: Any
    problem: Problem = Problem.single_label

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
            (self.by_label, logits.argmax(axis=1)),
            (self.by_probability, self._probabilities(logits)),
        ):
            if metrics is not None:
                values |= metrics.compute(predictions=predictions, references=references)
        return {name: None if math.isnan(value) else float(value) for name, value in values.items()}

    def _probabilities(self, logits: np.ndarray) -> np.ndarray:
        found = probabilities_of(logits, self.problem)
        return found[:, 0] if self.problem is Problem.regression else found


@dataclass(frozen=True)
class SplitEvaluation:
    """What the model is worth on one split."""

    logits: np.ndarray  # float32 [rows, labels]
    references: np.ndarray  # as `Corpus.references` gives them
    metrics: dict[str, float | None]
    per_class: list[dict[str, Any]]  # label, precision, recall, f1, support


def load_metrics(
    config: EvaluationConfig, labels: tuple[str, ...], problem: Problem = Problem.single_label
) -> Metrics:
    """The metrics that were asked for, each tried on two made-up rows.

    Raises:
        UserError: for one that does not exist or does not fit the labels.
    """
    if problem in PROBLEM_METRICS:
        return _of_problem(config, labels, problem)
    asked = config.metrics or list(DEFAULT_METRICS[problem])
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
    asked = config.metrics or list(DEFAULT_METRICS[problem])
    best = config.best or asked[0]
    known = PROBLEM_METRICS[problem]
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
    kind = SeveralLabelsMetric if problem is Problem.multi_label else ScoreMetric
    classes = Classes(labels, 0)
    ours = [kind(name, lambda r, p, _, score=known[name]: score(r, p), classes) for name in asked]
    return Metrics(best, None, evaluate.combine(ours), problem)


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
    logits: np.ndarray, references: np.ndarray, metrics: Metrics, labels: tuple[str, ...]
) -> SplitEvaluation:
    """Metrics and the per-class table of one split (of scores there is none)."""
    values = metrics.compute(logits, references)
    if metrics.problem is Problem.regression:
        return SplitEvaluation(logits, references, values, [])
    decided = logits > 0 if metrics.problem is Problem.multi_label else logits.argmax(axis=1)
    precision, recall, f1, support = sk.precision_recall_fscore_support(
        references, decided, labels=range(len(labels)), average=None, zero_division=0.0
    )
    per_class = [
        {
            "label": label,
            "precision": float(precision[i]),
            "recall": float(recall[i]),
            "f1": float(f1[i]),
            "support": int(support[i]),
        }
        for i, label in enumerate(labels)
    ]
    return SplitEvaluation(logits, references, values, per_class)


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
