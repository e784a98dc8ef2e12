"""Draws the figures of a report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from nlp_transfer.reporting.html.figures import (
    FIRST,
    INK,
    SECOND,
    SOFT,
    WIDTH,
    add_legend,
    as_svg,
    new_axes,
)

MOST_POINTS = 1500  # of a cloud


@as_svg
def curves(
    lines: Mapping[str, Sequence[tuple[float, float]]],
    borders: Sequence[tuple[str, float]],
    best: Sequence[tuple[float, float]],
    y: str,
) -> tuple[Figure, str]:
    """Values by step, where each stage begins, and the weights that were kept.

    Args:
        lines: by name, (step, value).
        borders: name and first step of each stage.
        best: (step, value).
    """
    figure, axes = new_axes("step", y)
    styles = [(FIRST, "o"), (SECOND, "s")]
    for (name, points), (colour, marker) in zip(lines.items(), styles, strict=False):
        at, values = _apart(points, [step for _, step in borders])
        few = len(points) <= 40
        look: dict[str, Any] = {"color": colour, "marker": marker if few else "", "ms": 3.5}
        axes.plot(at, values, lw=1.8 if few else 1.0, alpha=1.0 if few else 0.6, **look)
        axes.plot([], [], lw=1.8, label=name, **look)
    for step, value in best:
        axes.plot(step, value, "o", ms=11, mfc="none", mec=INK, mew=1.6)
    axes.set_xlim(left=0)
    _stage_borders(axes, borders)
    if best:
        axes.plot([], [], "o", ms=9, mfc="none", mec=INK, mew=1.6, label="kept")
    axes.margins(y=0.12)
    add_legend(axes)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    stages = ", ".join(name for name, _ in borders)
    return figure, f"{y} by step, stages {stages}; rings mark the weights that were kept"


def _apart(
    points: Sequence[tuple[float, float]], borders: Sequence[float]
) -> tuple[list[float], list[float]]:
    """Steps and values with a gap where a stage begins: it starts from weights that were kept."""
    at: list[float] = []
    values: list[float] = []
    for step, value in points:
        if at and any(at[-1] <= border < step for border in borders):
            at.append(at[-1])
            values.append(math.nan)
        at.append(step)
        values.append(value)
    return at, values


def _stage_borders(axes: Axes, borders: Sequence[tuple[str, float]]) -> None:
    if len(borders) < 2:
        return
    low, high = axes.get_xlim()
    last, row = -math.inf, 0
    for index, (name, at) in enumerate(borders):
        # In two rows where the names would run into each other.
        row = 1 - row if (at - last) / (high - low) < 0.03 * len(name) + 0.05 else 0
        last = at
        if index:
            axes.axvline(at, color=SOFT, lw=1, ls=(0, (4, 3)))
        axes.annotate(
            name,
            (at, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(3, 2 + 11 * row),
            textcoords="offset points",
            color=SOFT,
            annotation_clip=False,
        )


@as_svg
def reliability(
    after: Sequence[dict[str, Any]], before: Sequence[dict[str, Any]] | None
) -> tuple[Figure, str]:
    """Reliability diagram: accuracy by confidence, and the share of rows in each bin."""
    figure = Figure(figsize=(WIDTH, 3.8))
    axes, counts = figure.subplots(
        2, 1, sharex=True, gridspec_kw={"height_ratios": (4, 1), "hspace": 0}
    )
    axes.plot([0, 1], [0, 1], color=SOFT, lw=1, ls=(0, (4, 3)))
    if before is not None:
        _bins(axes, before, SECOND, "s", "before calibration")
    name = "without calibration" if before is None else "after calibration"
    _bins(axes, after, FIRST, "o", name)
    rows = sum(part["rows"] for part in after)
    counts.bar(
        [(part["low"] + part["high"]) / 2 for part in after],
        [part["rows"] / rows for part in after],
        width=[0.9 * (part["high"] - part["low"]) for part in after],
        color=FIRST,
        alpha=0.55,
    )
    low = min([part["low"] for part in [*after, *(before or [])]])
    axes.set_xlim(low - 0.01, 1.01)
    axes.set_ylim(-0.03, 1.03)
    axes.set_ylabel("accuracy")
    counts.set_ylabel("rows")
    counts.set_xlabel("confidence")
    for each in (axes.yaxis, counts.yaxis, counts.xaxis):
        each.set_major_formatter(PercentFormatter(1.0, decimals=None))
    counts.yaxis.set_major_locator(MaxNLocator(2))
    add_legend(axes)
    return figure, "accuracy by confidence; on the diagonal, confidence equals accuracy"


def _bins(axes: Axes, parts: Sequence[dict[str, Any]], colour: str, marker: str, name: str) -> None:
    most = max(part["rows"] for part in parts)
    at = [part["confidence"] for part in parts]
    values = [part["accuracy"] for part in parts]
    axes.plot(at, values, color=colour, lw=1, alpha=0.4)
    axes.plot(at, values, marker, color=colour, ms=3, label=name)
    sizes = [10 + 110 * part["rows"] / most for part in parts]
    axes.scatter(at, values, s=sizes, color=colour, alpha=0.35, lw=0, marker=marker)


@as_svg
def coverage(points: Sequence[dict[str, Any]], what: str) -> tuple[Figure, str]:
    """Accuracy of the most confident predictions by coverage."""
    figure, axes = new_axes("coverage", what)
    at = [point["coverage"] for point in points]
    axes.plot(at, [point["accuracy"] for point in points], color=FIRST, lw=1.8, marker="o", ms=4)
    axes.set_xlim(1.02, 0.08)
    for each in (axes.xaxis, axes.yaxis):
        each.set_major_formatter(PercentFormatter(1.0, decimals=None))
    axes.margins(y=0.15)
    return figure, f"{what} by coverage, the share of rows that are answered"


@as_svg
def by_length(parts: Sequence[dict[str, Any]], what: str, share: bool) -> tuple[Figure, str]:
    """Error by text length, with intervals."""
    figure, axes = new_axes("characters", what)
    values = [part["error"] for part in parts]
    below = [part["error"] - part["interval"][0] for part in parts]
    above = [part["interval"][1] - part["error"] for part in parts]
    at = range(len(parts))
    axes.bar(at, values, color=FIRST, alpha=0.55, width=0.8)
    axes.errorbar(at, values, yerr=(below, above), fmt="none", ecolor=INK, elinewidth=1.2)
    axes.set_xticks(at, [_range(part["low"], part["high"]) for part in parts])
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="x", visible=False)
    axes.set_ylim(bottom=0)
    if share:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    return figure, f"{what} by text length in characters, with 95% intervals"


def _range(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,}\n–{high:,}"


@as_svg
def scores(references: Sequence[float], answers: Sequence[float]) -> tuple[Figure, str]:
    """Predicted against true scores."""
    figure, axes = new_axes("true score", "predicted score")
    every = -(-len(references) // MOST_POINTS)
    axes.scatter(references[::every], answers[::every], s=14, color=FIRST, alpha=0.5, lw=0)
    both = [*references, *answers]
    axes.plot([min(both), max(both)], [min(both), max(both)], color=SOFT, lw=1, ls=(0, (4, 3)))
    return figure, "predicted against true scores; on the diagonal they are equal"


@as_svg
def removal(
    shares: Sequence[float],
    deletion: Sequence[float],
    insertion: Sequence[float],
    random: Sequence[float],
) -> tuple[Figure, str]:
    """Probability of the answer by the share of words that are left out, or put in."""
    figure, axes = new_axes("share of the words", "probability of the answer")
    axes.plot(shares, deletion, color=FIRST, lw=1.8, marker="o", ms=4, label="left out")
    axes.plot(shares, insertion, color=SECOND, lw=1.8, marker="s", ms=4, label="put in")
    dashed: dict[str, Any] = {"lw": 1.2, "ls": (0, (4, 3))}
    axes.plot(shares, random, color=FIRST, label="at random", **dashed)
    axes.plot(shares, random[::-1], color=SECOND, **dashed)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    add_legend(axes)
    words = "words with most weight first, and in random order"
    return figure, f"probability of the answer by the share of words left out or put in: {words}"


@as_svg
def frontier(
    points: Sequence[tuple[str, float, float, tuple[float, float] | None]], y: str
) -> tuple[Figure, str]:
    """Scores of checkpoints against their time a text.

    Args:
        points: name, milliseconds, score, and its interval.
    """
    figure, axes = new_axes("milliseconds a text, in batches of 32", y)
    for name, milliseconds, value, interval in points:
        low, high = interval or (value, value)
        error = [[value - low], [high - value]]
        axes.errorbar(milliseconds, value, yerr=error, fmt="o", color=FIRST, ms=6, elinewidth=1.2)
        place: dict[str, Any] = {"xytext": (6, 4), "textcoords": "offset points", "fontsize": 9}
        axes.annotate(name, (milliseconds, value), **place)
    axes.set_xlim(left=0)
    axes.margins(x=0.25, y=0.15)
    return figure, f"{y} by milliseconds a text for each checkpoint, with 95% intervals"
