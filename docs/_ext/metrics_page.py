"""Every metric, from the registry, with its formula and source."""

from __future__ import annotations

import math

from markdown_tables import code, table

from nlp_transfer.evaluation.registry import IntervalMethod, Metric, metrics_of
from nlp_transfer.problems import problems

INTERVALS = {
    IntervalMethod.percentile: "percentile bootstrap",
    IntervalMethod.bootstrap_t: "bootstrap-t",
    IntervalMethod.bca: "BCa bootstrap",
    IntervalMethod.share: "of a share",
    IntervalMethod.calibration: "bootstrap, corrected for noise",
    IntervalMethod.none: "none",
}


def markdown() -> str:
    """A table a kind of label."""
    return "\n".join(_of_kind(kind) for kind in kinds())


def kinds() -> list[str]:
    """The kinds of labels that have metrics of their own."""
    return list(dict.fromkeys(problem.metric_kind for problem in problems().values()))


def _of_kind(kind: str) -> str:
    default = next(p.default_metrics for p in problems().values() if p.metric_kind == kind)
    rows = [_row(metric, metric.name in default) for metric in metrics_of(kind).values()]
    head = ("metric", "formula and source", "better, range", "95% interval")
    return f"## {kind}\n\n{table(head, rows)}"


def _row(metric: Metric, is_default: bool) -> tuple[str, ...]:
    method = metric.interval
    return (
        code(metric.name) + (" (default)" if is_default else ""),
        "<br>".join([f"${metric.formula}$"] * bool(metric.formula) + [metric.source]),
        f"{'higher' if metric.greater_is_better else 'lower'}, "
        + " to ".join(map(_limit, metric.bounds)),
        INTERVALS[method] if isinstance(method, IntervalMethod) else "bootstrap of the ranking",
    )


def _limit(value: float) -> str:
    return f"{value:g}" if math.isfinite(value) else ("∞" if value > 0 else "−∞")
