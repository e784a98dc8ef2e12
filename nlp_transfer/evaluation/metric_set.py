"""The metrics of a run: which they are, what they are measured on, and which of them decides."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from nlp_transfer.config.sections.evaluation import EvaluationConfig
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.evaluation.intervals.bootstrap import intervals
from nlp_transfer.evaluation.metrics.hub import hub_metric, untrusted_metric
from nlp_transfer.evaluation.registry import (
    Form,
    Interval,
    Metric,
    known_names,
    metrics_of,
)
from nlp_transfer.evaluation.rows import Classes, EvaluatedRows, Predictions
from nlp_transfer.problems import Problem, problems
from nlp_transfer.problems.base import some_of
from nlp_transfer.problems.decoder import Decoder
from nlp_transfer.problems.single_label import SINGLE_LABEL
from nlp_transfer.utils.logging import logger


@dataclass(frozen=True)
class Metrics:
    """The metrics of a run."""

    best: str
    """The name of the metric that chooses the epoch."""
    classes: Classes
    metrics: tuple[Metric, ...]
    problem: Problem = SINGLE_LABEL
    thresholds: Mapping[str, float] = field(default_factory=dict)
    width: float = 1.0
    """Of the intervals, compared with those of independent answers."""

    @property
    def decoder(self) -> Decoder:
        """How probabilities become the labels that are judged."""
        return Decoder(self.classes.names, self.problem, self.thresholds)

    @property
    def greater_is_better(self) -> bool:
        """Whether more of the metric that chooses the epoch is better."""
        return all(m.greater_is_better for m in self.metrics if m.name == self.best)

    def rows(self, logits: np.ndarray, references: np.ndarray) -> EvaluatedRows:
        """What the metrics are measured on.

        Args:
            logits: float [rows, labels].
            references: as `Corpus.references` gives them.
        """
        return evaluated_rows(logits, references, self.decoder, self.classes)

    def compute(self, logits: np.ndarray, references: np.ndarray) -> dict[str, float | None]:
        """Every metric by name; None where these rows do not define it."""
        return self.values_of(self.rows(logits, references))

    def intervals(
        self, values: Mapping[str, float | None], logits: np.ndarray, references: np.ndarray
    ) -> dict[str, Interval]:
        """Of what `compute` gave for these rows; none for a metric of the Hub."""
        return self._intervals(values, self.rows(logits, references))

    def of_rows(self, logits: np.ndarray, references: np.ndarray) -> dict[str, Any]:
        """As `figures`, of a slice for example."""
        return self.figures(self.rows(logits, references))

    def figures(self, rows: EvaluatedRows) -> dict[str, Any]:
        """How many rows there are, the metrics and their intervals, as in `metrics.json`.

        `labels` is there where a macro average leaves out labels that these rows lack: over how
        many it is.
        """
        values = self.values_of(rows)
        between = self._intervals(values, rows)
        return {
            "rows": len(rows),
            "metrics": values,
            "intervals": {name: [*pair] for name, pair in between.items()},
            **self._labels_averaged(rows),
        }

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """float64 [rows, labels]; of scores, [rows]."""
        return _of_decoder(self.decoder.probabilities(logits), self.decoder)

    def decide(self, logits: np.ndarray) -> np.ndarray:
        """The label of each row, int64 [rows]; of several, 0/1 [rows, labels]."""
        return self.decoder.decide(self.decoder.probabilities(logits)).astype(np.int64)

    def values_of(self, rows: EvaluatedRows) -> dict[str, float | None]:
        """As `compute`."""
        values: dict[str, float] = {}
        for metric in self.metrics:
            values |= metric.values(rows)
        return {name: None if math.isnan(value) else value for name, value in values.items()}

    def _intervals(
        self, values: Mapping[str, float | None], rows: EvaluatedRows
    ) -> dict[str, Interval]:
        defined = {name: value for name, value in values.items() if value is not None}
        return intervals(self.metrics, defined, rows, self.width)

    def _labels_averaged(self, rows: EvaluatedRows) -> dict[str, int]:
        if not any(metric.macro for metric in self.metrics):
            return {}
        present = int(rows.totals.present.sum())
        return {"labels": present} if present < len(self.classes.names) else {}


def evaluated_rows(
    logits: np.ndarray, references: np.ndarray, decoder: Decoder, classes: Classes
) -> EvaluatedRows:
    """What metrics are measured on, from what a model answered."""
    probabilities = decoder.probabilities(logits)
    decisions = decoder.decide(probabilities).astype(np.int64)
    answers, labels = _of_decoder(probabilities, decoder), decoder.problem.classes(references)
    return EvaluatedRows(references, answers, decisions, classes, labels)


def _of_decoder(probabilities: np.ndarray, decoder: Decoder) -> np.ndarray:
    return probabilities if decoder.problem.has_labels else probabilities[:, 0]


def load_metrics(
    config: EvaluationConfig,
    labels: tuple[str, ...],
    problem: Problem = SINGLE_LABEL,
    more: Sequence[Metric | Callable[..., float]] = (),
) -> Metrics:
    """The metrics of a configuration, and those given from Python, each tried on made-up rows.

    Args:
        more: a `Metric`, or `fn(references, decisions)` that gives a number.

    Raises:
        UserError: for one that does not exist or does not fit the labels.
    """
    kind = problem.metric_kind
    names = config.metrics or list(problem.default_metrics)
    classes = Classes(labels, _positive(config, labels, problem))
    metrics = [_metric_named(name, kind, labels, config) for name in dict.fromkeys(names)]
    metrics += [m if isinstance(m, Metric) else Metric.from_callable(m, kind) for m in more]
    counts = Counter(metric.name for metric in metrics)
    doubled = [name for name, count in counts.items() if count > 1]
    if doubled:
        raise UserError(
            ExitCode.CONFIG,
            f"metrics has a second {doubled[0]!r}: give your function or Metric another name.",
        )
    # In the files, those of decisions stand first.
    metrics.sort(key=lambda metric: metric.kind.predictions is not Predictions.decisions)
    best = config.best or names[0]
    comparable = [m.name for m in metrics if m.kind.form is not Form.hub]
    if best not in comparable:
        raise UserError(
            ExitCode.CONFIG,
            f"evaluation.best={best!r} must be one of the metrics that are measured and whose "
            f"direction is known: {', '.join(comparable)}. Add it to evaluation.metrics.",
        )
    return Metrics(best, classes, tuple(metrics), problem)


def refuse_unknown_metrics(config: EvaluationConfig) -> None:
    """Names in `evaluation.metrics` that no kind of labels has, before any data is read.

    Raises:
        UserError: for one that is not registered where the code of the Hub is not trusted.
    """
    kinds = dict.fromkeys(problem.metric_kind for problem in problems().values())
    for name in config.metrics or ():
        if not config.trust_remote_code and not any(name in metrics_of(kind) for kind in kinds):
            registered = dict.fromkeys(one for kind in kinds for one in metrics_of(kind))
            raise untrusted_metric(name, list(registered))


def _metric_named(
    name: str, kind: str, labels: tuple[str, ...], config: EvaluationConfig
) -> Metric:
    registered = metrics_of(kind)
    metric = registered.get(name)
    if metric is None and name not in known_names() and kind == SINGLE_LABEL.metric_kind:
        return hub_metric(name, kind, trust_remote_code=config.trust_remote_code)
    if metric is None:
        raise UserError(
            ExitCode.CONFIG,
            f"evaluation.metrics has {name!r}, which is not for {kind}; "
            f"there are {', '.join(registered)}.",
        )
    if metric.binary and len(labels) != 2:
        raise UserError(
            ExitCode.CONFIG,
            f"evaluation.metrics has {name}, which is for two labels; there are {len(labels)}. "
            f"Use {name}_macro.",
        )
    return metric


def with_defined_best(
    metrics: Metrics, references: np.ndarray, labels: int, named: bool
) -> Metrics:
    """With a metric that has a value on these references as the one that chooses the epoch.

    Args:
        named: whether a person named the metric (`evaluation.best`): then no other is taken.

    Raises:
        UserError: where it has none, as ROC-AUC with a single label.
    """
    dummy = np.random.default_rng(0).normal(size=(len(references), labels)).astype(np.float32)
    values = metrics.compute(dummy, references)
    if values[metrics.best] is not None:
        return metrics
    others = [
        m.name
        for m in metrics.metrics
        if m.kind.form is not Form.hub and values.get(m.name) is not None
    ]
    if others and not named:
        logger.info(
            "%s chooses the epoch: %s is undefined on these rows of validation",
            others[0],
            metrics.best,
        )
        return replace(metrics, best=others[0])
    best = next(metric for metric in metrics.metrics if metric.name == metrics.best)
    reason, needed = "has too few labels", "every label"
    if not metrics.problem.has_labels:
        reason, needed = "has one score alone", "scores that differ"
    if len(references) < best.min_rows:
        reason, needed = f"has {len(references)} rows", f"at least {best.min_rows} rows"
    raise UserError(
        ExitCode.DATA,
        f"evaluation.best={metrics.best} is undefined on validation: it {reason}. "
        f"Choose another metric, or give a validation split with {needed}.",
    )


def _positive(config: EvaluationConfig, labels: tuple[str, ...], problem: Problem) -> int:
    """The index of the positive label."""
    if config.positive_label is None:
        return len(labels) - 1
    if not problem.one_label:
        raise UserError(
            ExitCode.CONFIG,
            f"evaluation.positive_label={config.positive_label!r} is for two labels; leave it out "
            f"({problem.name}).",
        )
    if config.positive_label not in labels:
        raise UserError(
            ExitCode.CONFIG,
            f"evaluation.positive_label={config.positive_label!r} is not a label; "
            f"there are {some_of(labels)}.",
        )
    return labels.index(config.positive_label)
