"""What a simulation has measured, as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
from scipy import stats

from nlp_transfer.utils.text import aligned

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean over the seeds and its 95% interval (Student's t)."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Point:
    """Accuracies with so many labels."""

    labels: int
    random: Interval
    suggested: Interval
    gain: Interval
    """Suggested less random, by seed."""


@dataclass(frozen=True)
class Simulation:
    """Accuracy against labels spent."""

    seeds: int
    pool: int
    """Rows to choose from."""
    judged: int
    """Rows that the accuracies are of."""
    by: str
    points: list[Point]
    area: Point
    """The mean accuracy along the curve, every doubling counting the same."""

    def as_json(self) -> str:
        """All of it, for other programs."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def point_of(labels: int, scores: np.ndarray) -> Point:
    """Of scores [seeds, 2]."""
    random, suggested = scores.T
    intervals = (_interval(random), _interval(suggested), _interval(suggested - random))
    return Point(labels, *intervals)


def _interval(values: np.ndarray) -> Interval:
    mean, count = float(values.mean()), len(values)
    if count < 2:
        return Interval(mean, float("-inf"), float("inf"))
    half = stats.t.ppf((1 + LEVEL) / 2, count - 1) * values.std(ddof=1) / np.sqrt(count)
    return Interval(mean, mean - float(half), mean + float(half))


def _lines(simulation: Simulation) -> Iterator[str]:
    rows = [["labels", "random rows", "suggested rows", "gain"]]
    for name, point in (
        *((f"{point.labels:,}", point) for point in simulation.points),
        ("area", simulation.area),
    ):
        gain = point.gain
        difference = f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
        rows.append([name, str(point.random), str(point.suggested), difference])
    yield from aligned(rows)
    yield (
        f"Accuracy on {simulation.judged:,} rows of heads solved on frozen features; rows chosen "
        f"from {simulation.pool:,}; means of {simulation.seeds} seeds, in brackets 95% intervals "
        "over the seeds. Area: the mean along the curve, each doubling counting the same."
    )
    yield _verdict(simulation.area.gain)


def _verdict(gain: Interval) -> str:
    if gain.low > 0:
        return "On these data suggested rows are worth more than random ones."
    if gain.high < 0:
        return "On these data suggested rows are worth less than random ones: label at random."
    return "These data cannot tell suggested rows from random ones."
