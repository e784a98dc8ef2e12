"""The registry of metrics.

Everything that has to know about a metric reads it here: its value, its interval, whether more is
better, where it can lie. A metric is registered for a kind of labels (`Problem.metric_kind`):

    @metric("top_two", "single_label", predictions=Predictions.probabilities)
    def top_two(references, probabilities, weights, classes):
        best = np.argsort(-probabilities, axis=1)[:, :2]
        return weights @ (best == references[:, None]).any(axis=1) / weights.sum(axis=-1)

Another package offers metrics by an entry point of the group `nlp_transfer.metrics` that names a
module with such functions, or a `Metric`.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.evaluation.rows import EvaluatedRows, Predictions
from nlp_transfer.registry import load_all

ENTRY_POINTS = "nlp_transfer.metrics"
BUILT_IN = tuple(
    f"nlp_transfer.evaluation.metrics.{module}"
    for module in ("classification", "ranking", "ordinal", "soft")
)
UNBOUNDED = (-np.inf, np.inf)
MIN_ROWS = 10  # of fewer, intervals and calibration figures say nothing

Interval = tuple[float, float]


class Form(StrEnum):
    """What the function of a metric takes and returns."""

    counts = "counts"
    """`fn(counts, classes)`: scores [...] of `Counts` [..., labels]."""
    mean = "mean"
    """`fn(references, predictions)`: values [rows]; the metric is their weighted mean."""
    weighted = "weighted"
    """`fn(references, predictions, weights, classes)`: scores [...] of weights [..., rows]."""
    plain = "plain"
    """`fn(references, predictions)`: one number."""
    hub = "hub"
    """`fn(references, predictions)`: numbers by name; better is not known to be more or less."""


class IntervalMethod(StrEnum):
    """How the interval follows from resampled rows (see `bootstrap`)."""

    percentile = "percentile"
    bootstrap_t = "bootstrap_t"
    """Of a mean whose values have a long tail."""
    bca = "bca"
    """Of a mean of bounded values."""
    share = "share"
    """Of a mean of zeros and ones."""
    calibration = "calibration"
    """Of a sum of absolute means, which noise alone makes positive."""
    none = "none"


@dataclass(frozen=True)
class Kind:
    """What a metric needs."""

    problem: str  # a `Problem.metric_kind`
    predictions: Predictions
    form: Form


@dataclass(frozen=True)
class Metric:
    """One metric of one kind of labels."""

    name: str
    kind: Kind
    weighted_fn: Callable[..., Any]  # as `kind.form` says
    greater_is_better: bool = True
    bounds: tuple[float, float] = (0.0, 1.0)
    interval: IntervalMethod | Callable[[EvaluatedRows], Interval] = IntervalMethod.percentile
    binary: bool = False
    """Of two labels only: the score of the positive one."""
    macro: bool = False
    """A mean over the labels that are there."""
    min_rows: int = 1
    """Of fewer rows it is undefined."""
    reduce: Callable[[np.ndarray], np.ndarray] | None = None
    """Of a mean of values [rows, k]: the score [...] of their weighted sums [..., k], times the
    sum of the weights."""

    def __repr__(self) -> str:
        better = "greater" if self.greater_is_better else "lower"
        return f"Metric({self.name}, {self.kind.problem}, {better} is better)"

    @classmethod
    def from_callable(
        cls,
        fn: Callable[[np.ndarray, np.ndarray], float],
        problem: str = "single_label",
        predictions: Predictions = Predictions.decisions,
        *,
        name: str | None = None,
        greater_is_better: bool = True,
    ) -> Metric:
        """A metric of `fn(references, predictions)`, a number; its interval is of resampled rows.

        Raises:
            UserError: for a function without a name, such as a lambda or a partial.

        >>> def misses(references, decisions):
        ...     return float((references != decisions).sum())
        >>> Metric.from_callable(misses, greater_is_better=False).name
        'misses'
        """
        name = name or str(getattr(fn, "__name__", "<lambda>"))
        if not name.isidentifier():
            raise UserError(
                ExitCode.CONFIG,
                f"The metric {fn!r} has no name. Use Metric.from_callable(fn, name='my_metric').",
            )
        kind = Kind(problem, Predictions(predictions), Form.plain)
        return cls(name, kind, fn, greater_is_better, UNBOUNDED)

    def on(self, rows: EvaluatedRows) -> Callable[[np.ndarray], np.ndarray]:
        """The metric as a function of how often each row counts: weights [..., rows] to [...].

        NaN where it is undefined.
        """
        fn, classes = self.weighted_fn, rows.classes
        pair = (rows.references, rows.predictions(self.kind.predictions))
        match self.kind.form:
            case Form.counts:
                return lambda weights: fn(rows.counts(weights), classes)
            case Form.mean:
                values, reduce = self.by_row(rows), self.reduce or (lambda sums: sums)
                return lambda weights: reduce(weights @ values) / weights.sum(axis=-1)
            case Form.weighted:
                return lambda weights: fn(*pair, weights, classes)
            case _:
                return functools.partial(_of_repeated_rows, fn, *pair)

    def by_row(self, rows: EvaluatedRows) -> np.ndarray:
        """The values whose mean it is, [rows] or [rows, k]."""
        predictions = rows.predictions(self.kind.predictions)
        compute = functools.partial(self.weighted_fn, rows.references, predictions)
        return rows.values_by_row(self.name, compute)

    def values(self, rows: EvaluatedRows) -> dict[str, float]:
        """Of these rows, each counted once, by name; NaN where it is undefined."""
        if len(rows) < self.min_rows:
            return {self.name: float("nan")}
        if self.kind.form is Form.hub:
            predictions = rows.predictions(self.kind.predictions)
            figures = self.weighted_fn(rows.references, predictions)
            return {name: float(figure) for name, figure in figures.items()}
        return {self.name: float(self.on(rows)(np.ones(len(rows))))}

    @property
    def is_slow(self) -> bool:
        """Whether thousands of resamples would take long."""
        return self.kind.form in (Form.weighted, Form.plain) or self.kind.problem != "single_label"


def _of_repeated_rows(
    fn: Callable[..., float], references: np.ndarray, predictions: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """One score for each weighting, [...]."""
    scores = [
        fn(references[rows], predictions[rows])
        for counts in weights.reshape(-1, len(references)).astype(int)
        for rows in [np.repeat(np.arange(len(references)), counts)]
    ]
    return np.array(scores, dtype=np.float64).reshape(weights.shape[:-1])


_METRICS: dict[str, dict[str, Metric]] = {}


def register(metric: Metric) -> Metric:
    """Make a metric known by its name.

    Raises:
        ValueError: where the name is taken, or is that of a metric with the other direction.
    """
    of_kind = _METRICS.setdefault(metric.kind.problem, {})
    if metric.name in of_kind:
        raise ValueError(f"the metric {metric.name!r} of {metric.kind.problem} exists already")
    for same in _named(metric.name):
        if same.greater_is_better is not metric.greater_is_better:
            raise ValueError(f"another metric {metric.name!r} has the other greater_is_better")
    of_kind[metric.name] = metric
    return metric


def metric(
    name: str,
    *problems: str,
    predictions: Predictions = Predictions.decisions,
    form: Form = Form.weighted,
    **options: Any,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator that registers a function as a metric of these kinds of labels.

    Args:
        options: fields of `Metric`.
    """

    def decorate(fn: Callable[..., Any]) -> Callable[..., Any]:
        for problem in problems:
            kind = Kind(problem, Predictions(predictions), Form(form))
            register(Metric(name, kind, fn, **options))
        return fn

    return decorate


def metrics_of(problem: str) -> dict[str, Metric]:
    """Every registered metric of a kind of labels, by name."""
    _load()
    return dict(_METRICS.get(problem, {}))


def known_names() -> list[str]:
    """Of all kinds of labels."""
    _load()
    return list(dict.fromkeys(name for of_kind in _METRICS.values() for name in of_kind))


def greater_is_better(name: str) -> bool:
    """Whether more of a metric is better; of one that is not registered, True."""
    _load()
    return all(metric.greater_is_better for metric in _named(name))


def bounds_of(name: str) -> tuple[float, float]:
    """Between which values a metric lies; without limits where it is not registered."""
    _load()
    same = _named(name)
    return same[0].bounds if same else UNBOUNDED


def _named(name: str) -> list[Metric]:
    return [of_kind[name] for of_kind in _METRICS.values() if name in of_kind]


@functools.cache
def _load() -> None:
    """Import the metrics of this package, then those that other packages offer.

    Raises:
        UserError: for an entry point that cannot be loaded.
    """
    for module in BUILT_IN:
        importlib.import_module(module)
    for offered in load_all(ENTRY_POINTS):
        for one in offered if isinstance(offered, Iterable) else [offered]:
            if isinstance(one, Metric):
                register(one)
