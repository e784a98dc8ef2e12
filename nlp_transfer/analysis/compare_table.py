"""Writes a comparison of runs for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nlp_transfer.analysis.compare import Comparison, Entry, rows_of
from nlp_transfer.evaluation.evaluator import of_split
from nlp_transfer.evaluation.intervals.significance import LEVEL
from nlp_transfer.evaluation.metric_set import Metrics
from nlp_transfer.evaluation.registry import Interval, metrics_of
from nlp_transfer.reporting.console import INTERVALS
from nlp_transfer.utils.text import COLUMNS, aligned, with_interval


def table(result: Comparison) -> str:
    """All of it, for a terminal."""
    parts = (_score_lines(result), _cost_lines(result), _pair_lines(result), _verdict(result))
    notes = [f"Note: {note}" for note in result.notes]
    return "\n".join([*notes, *(line for part in parts for line in ("", *part))]).strip("\n")


def _score_lines(result: Comparison) -> Iterator[str]:
    first = result.entries[0].runs[0].measured[result.split]["metrics"]
    metrics = [result.metric, *(name for name in first if name != result.metric)]
    columns = [
        [metric, *(_score(entry, result, metric) for entry in result.entries)] for metric in metrics
    ]
    names = [f"{result.split} ({result.rows:,} rows)", *(entry.name for entry in result.entries)]
    runs = [result.over, *(str(len(entry.runs)) for entry in result.entries)]
    for beginning, part in _that_fit([names, runs], columns):
        yield from aligned([list(row) for row in zip(*beginning, *part, strict=True)])
    if any(entry.is_one_run for entry in result.entries):
        yield f"In brackets: {INTERVALS}."
    if not all(entry.is_one_run for entry in result.entries):
        yield f"Several {result.over}: their mean ± standard deviation."


def _that_fit(
    beginning: list[list[str]], columns: list[list[str]]
) -> Iterator[tuple[list[list[str]], list[list[str]]]]:
    """The columns in tables of at most `COLUMNS` signs, each of which begins with the names."""
    part: list[list[str]] = []
    for column in columns:
        wide = sum(2 + max(map(len, cells)) for cells in [*beginning, *part, column]) - 2
        if part and wide > COLUMNS:
            yield beginning, part
            beginning, part = [["", *beginning[0][1:]]], []
        part.append(column)
    yield beginning, part


def _score(entry: Entry, result: Comparison, metric: str) -> str:
    measured = [run.measured[result.split] for run in entry.runs]
    values = [figures["metrics"].get(metric) for figures in measured]
    if metric == result.metric:
        values = entry.contender.scores.tolist()
    if None in values:
        return "undefined"
    if not entry.is_one_run:
        return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"
    figures = measured[0]
    if metric == result.metric and metric not in figures["intervals"]:
        figures = {"metrics": {metric: values[0]}, "intervals": _between(entry, result)}
    return with_interval(metric, figures)


def _between(entry: Entry, result: Comparison) -> dict[str, Interval]:
    """The interval of a metric that the run itself did not measure."""
    run, value = entry.runs[0], entry.contender.score
    rows, answers = rows_of(run, result.split, result.metric), run.answers(result.split)
    thresholds = answers.decoder.thresholds
    registered = metrics_of(run.problem.metric_kind)[result.metric]
    metrics = Metrics(result.metric, rows.classes, (registered,), run.problem, thresholds)
    metrics = of_split(metrics, result.split)
    return metrics.intervals({result.metric: value}, answers.logits, rows.references)


def _cost_lines(result: Comparison) -> Iterator[str]:
    rows = [
        [
            entry.name,
            _cost(entry, "learns", ",.0f"),
            _cost(entry, "parameters", ",.0f"),
            _cost(entry, "megabytes", ".1f"),
            _cost(entry, "ms_per_text", ".2f"),
            _cost(entry, "seconds", ".0f") + " s",
        ]
        for entry in result.entries
    ]
    yield from aligned([["", "learns", "parameters", "MB", "ms a text", "training"], *rows])


def _cost(entry: Entry, name: str, form: str) -> str:
    mean = entry.mean(name)
    return "–" if mean is None else f"{mean:{form}}"


def _pair_lines(result: Comparison) -> Iterator[str]:
    if not result.pairs:
        return
    exact = any(pair.mcnemar is not None for pair in result.pairs)
    rows = [
        [
            f"{pair.one} − {pair.other}",
            f"{pair.difference.value:+.3f}",
            "[{:+.3f}, {:+.3f}]".format(*pair.difference.interval),
            f"{pair.difference.p:.2g}",
            *([f"{pair.mcnemar:.2g}" if pair.mcnemar is not None else "–"] if exact else []),
            "a tie" if pair.tie else "",
        ]
        for pair in result.pairs
    ]
    title = [f"difference of {result.metric}", "", "95%", "p", *(["McNemar"] if exact else []), ""]
    yield from aligned([title, *rows])


def _verdict(result: Comparison) -> Iterator[str]:
    if not result.pairs:
        return
    best = result.entries[0]
    ties = [pair for pair in result.pairs if pair.one == best.name and pair.tie]
    best_line = f"Best: {best.name} ({result.metric} {best.contender.score:.3f})"
    if ties:
        names = [pair.other for pair in ties]
        ties_with = ", ".join(names)
        yield (
            f"{best_line}; these {result.rows:,} rows and seeds show no significant difference "
            f"from {ties_with}."
        )
        if any(pair.difference.by_seeds > 0.5 for pair in ties):
            yield "Most of the uncertainty is between seeds: more seeds would reduce it."
        tied = [entry for entry in result.entries if entry.name in (best.name, *names)]
        quickest = min(tied, key=lambda entry: entry.mean("seconds") or 0.0)
        yield f"Of these, {quickest.name} was trained in the least time."
    else:
        yield f"{best_line}, significantly better than all others."
    if len(result.pairs) > 1:
        yield f"(A tie is p ≥ {LEVEL} of all {len(result.pairs)} comparisons together, by Holm.)"
    if any(entry.is_one_run for entry in result.entries):
        yield "One run for each configuration: other seeds may give other figures."
