"""The registry of metrics.

Everything that has to know about a metric reads it here: its value, its interval, whether more is
better, where it can lie, its formula. A metric is registered for kinds of labels
(`Problem.metric_kind`):

    @register_metric("misses", "single_label", greater_is_better=False)
    def misses(references, decisions):
        return float((references != decisions).sum())
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.evaluation.rows import ByRow, EvaluatedRows, Predictions
from nlp_transfer.registry import Registry, has_two_parameters

BUILT_IN = tuple(
    f"nlp_transfer.evaluation.metrics.{module}"
    for module in ("classification", "probabilities", "ranking", "regression", "ordinal", "soft")
)
UNBOUNDED = (-np.inf, np.inf)
UP_FROM_ZERO = (0.0, np.inf)
MIN_ROWS = 10  # of fewer, intervals and calibration figures say nothing

Interval = tuple[float, float]


class Form(StrEnum):
    """What the function of a metric takes and returns."""

    counts = "counts"
    """`fn(counts, classes)`: scores [...] of `Counts` [..., labels]."""
    mean = "mean"
    """`fn(references, predictions)`: values [rows], or [rows, k] for `Metric.reduce` (a csr_array
    where most are zero); the metric is their weighted mean."""
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
    formula: str = ""
    """In LaTeX, for the reference page; see `docs/reference/metrics.md` for the symbols."""
    source: str = ""
    """Who defined it, or what it is of, for the reference page."""

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

    def by_row(self, rows: EvaluatedRows) -> ByRow:
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
        if self.kind.form is Form.counts:
            return {self.name: float(self.weighted_fn(rows.totals, rows.classes))}
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


class _Metrics(Registry[Metric]):
    """The metrics by kind of labels and name."""

    def _accept(self, name: str, entry: Any) -> None:
        del name  # a Metric has its own
        if isinstance(entry, Metric):
            register(entry)


METRICS = _Metrics("evaluation.metrics", "a metric", "nlp_transfer.metrics", BUILT_IN)


def key_of(problem: str, name: str) -> str:
    """The name of a metric in `METRICS`."""
    return f"{problem} {name}"


def register(metric: Metric, origin: Callable[..., Any] | None = None) -> Metric:
    """Make a metric known by its name.

    Args:
        origin: the function that a person wrote; None: the metric itself.

    Raises:
        ValueError: where the name is taken, or is that of a metric with the other direction.
    """
    key = key_of(metric.kind.problem, metric.name)
    for same in _named(metric.name):
        if same.greater_is_better is not metric.greater_is_better and same.kind != metric.kind:
            raise ValueError(f"another metric {metric.name!r} has the other greater_is_better")
    return METRICS.add(key, metric, origin)


def register_metric(
    name: str,
    *problems: str,
    predictions: Predictions = Predictions.decisions,
    form: Form | None = None,
    **options: Any,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a function known as a metric of these kinds of labels; a decorator.

    Args:
        form: what the function takes; None: `(references, predictions)` and gives one number, or
            `(references, predictions, weights, classes)`, by the number of its parameters.
        predictions: what it is given: decisions, probabilities or scores.
        options: fields of `Metric`, such as `greater_is_better=False` or `bounds=(0, 1)`.

    Raises:
        ValueError: where the name is taken.
    """

    def decorate(fn: Callable[..., Any]) -> Callable[..., Any]:
        inferred = Form.plain if has_two_parameters(fn) else Form.weighted
        if form is None and inferred is Form.plain:
            options.setdefault("bounds", UNBOUNDED)
        for problem in problems:
            kind = Kind(problem, Predictions(predictions), Form(form or inferred))
            register(Metric(name, kind, fn, **options), fn)
        return fn

    return decorate


def register_mean_error(
    name: str,
    *problems: str,
    predictions: Predictions,
    bounds: tuple[float, float] = UP_FROM_ZERO,
    interval: IntervalMethod = IntervalMethod.bootstrap_t,
    **options: Any,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """As `register_metric`, for `fn(references, predictions)` that gives an error of each row.

    The metric is their weighted mean; less is better.
    """
    return register_metric(
        name,
        *problems,
        predictions=predictions,
        form=Form.mean,
        greater_is_better=False,
        bounds=bounds,
        interval=interval,
        **options,
    )


def metrics_of(problem: str) -> dict[str, Metric]:
    """Every registered metric of a kind of labels, by name."""
    return {m.name: m for m in METRICS.complete().values() if m.kind.problem == problem}


def known_names() -> list[str]:
    """Of all kinds of labels."""
    return list(dict.fromkeys(metric.name for metric in METRICS.complete().values()))


def greater_is_better(name: str) -> bool:
    """Whether more of a metric is better; of one that is not registered, True."""
    METRICS.complete()
    return all(metric.greater_is_better for metric in _named(name))


def bounds_of(name: str) -> tuple[float, float]:
    """Between which values a metric lies; without limits where it is not registered."""
    METRICS.complete()
    same = _named(name)
    return same[0].bounds if same else UNBOUNDED


def _named(name: str) -> list[Metric]:
    return [metric for metric in METRICS.values() if metric.name == name]
