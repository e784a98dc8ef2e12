"""Writes a comparison of runs for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nlp_transfer.analysis.compare import Comparison, Entry, rows_of
from nlp_transfer.evaluation.evaluator import Metrics
from nlp_transfer.evaluation.registry import Interval, metrics_of
from nlp_transfer.evaluation.significance import LEVEL
from nlp_transfer.reporting.console import INTERVALS
from nlp_transfer.utils.text import aligned, with_interval


def table(found: Comparison) -> str:
    """All of it, for a terminal."""
    parts = (_score_lines(found), _cost_lines(found), _pair_lines(found), _verdict(found))
    notes = [f"Note: {note}" for note in found.notes]
    return "\n".join([*notes, *(line for part in parts for line in ("", *part))]).strip("\n")


def _score_lines(found: Comparison) -> Iterator[str]:
    first = found.entries[0].runs[0].measured[found.split]["metrics"]
    metrics = [found.metric, *(name for name in first if name != found.metric)]
    rows = [
        [entry.name, str(len(entry.runs)), *(_score(entry, found, metric) for metric in metrics)]
        for entry in found.entries
    ]
    yield from aligned([[f"{found.split} ({found.rows:,} rows)", found.over, *metrics], *rows])
    if any(entry.is_one_run for entry in found.entries):
        yield f"In brackets: {INTERVALS}."
    if not all(entry.is_one_run for entry in found.entries):
        yield f"Several {found.over}: their mean ± standard deviation."


def _score(entry: Entry, found: Comparison, metric: str) -> str:
    measured = [run.measured[found.split] for run in entry.runs]
    values = [said["metrics"].get(metric) for said in measured]
    if metric == found.metric:
        values = entry.contender.scores.tolist()
    if None in values:
        return "undefined"
    if not entry.is_one_run:
        return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"
    told = measured[0]
    if metric == found.metric and metric not in told["intervals"]:
        told = {"metrics": {metric: values[0]}, "intervals": _between(entry, found)}
    return with_interval(metric, told)


def _between(entry: Entry, found: Comparison) -> dict[str, Interval]:
    """The interval of a metric that the run itself did not measure."""
    run, value = entry.runs[0], entry.contender.score
    rows, answers = rows_of(run, found.split, found.metric), run.answers(found.split)
    thresholds = answers.decoder.thresholds
    registered = metrics_of(run.problem.metric_kind)[found.metric]
    metrics = Metrics(found.metric, rows.classes, (registered,), run.problem, thresholds)
    return metrics.intervals({found.metric: value}, answers.logits, rows.references)


def _cost_lines(found: Comparison) -> Iterator[str]:
    rows = [
        [
            entry.name,
            f"{entry.mean('learns'):,.0f}",
            f"{entry.mean('parameters'):,.0f}",
            f"{entry.mean('megabytes'):.1f}",
            f"{entry.mean('ms_per_text'):.2f}",
            f"{entry.mean('seconds'):.0f} s",
        ]
        for entry in found.entries
    ]
    yield from aligned([["", "learns", "parameters", "MB", "ms a text", "training"], *rows])


def _pair_lines(found: Comparison) -> Iterator[str]:
    if not found.pairs:
        return
    exact = any(pair.mcnemar is not None for pair in found.pairs)
    rows = [
        [
            f"{pair.one} − {pair.other}",
            f"{pair.difference.value:+.3f}",
            "[{:+.3f}, {:+.3f}]".format(*pair.difference.interval),
            f"{pair.difference.p:.2g}",
            *([f"{pair.mcnemar:.2g}" if pair.mcnemar is not None else "–"] if exact else []),
            "a tie" if pair.tie else "",
        ]
        for pair in found.pairs
    ]
    title = [f"difference of {found.metric}", "", "95%", "p", *(["McNemar"] if exact else []), ""]
    yield from aligned([title, *rows])


def _verdict(found: Comparison) -> Iterator[str]:
    if not found.pairs:
        return
    best = found.entries[0]
    ties = [pair for pair in found.pairs if pair.one == best.name and pair.tie]
    said = f"Best: {best.name} ({found.metric} {best.contender.score:.3f})"
    if ties:
        names = [pair.other for pair in ties]
        yield f"{said}; these {found.rows:,} rows and seeds do not tell it from {', '.join(names)}."
        if any(pair.difference.by_seeds > 0.5 for pair in ties):
            yield "Most of that doubt is between seeds: more of them would tell more."
        tied = [entry for entry in found.entries if entry.name in (best.name, *names)]
        quickest = min(tied, key=lambda entry: entry.mean("seconds"))
        yield f"Of these, {quickest.name} was trained in the least time."
    else:
        yield f"{said}, told apart from all others."
    if len(found.pairs) > 1:
        yield f"(A tie is p ≥ {LEVEL} of all {len(found.pairs)} comparisons together, by Holm.)"
    if any(entry.is_one_run for entry in found.entries):
        yield "A single run stands for itself: other seeds might give something else."
