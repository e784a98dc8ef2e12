"""Scores and costs of several checkpoints, in order."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from nlp_transfer.analysis.rank.checkpoint_costs import Costs
from nlp_transfer.evaluation.intervals.significance import Difference
from nlp_transfer.evaluation.registry import Interval


@dataclass(frozen=True)
class Scores:
    """What frozen features of one layer and pooling are worth."""

    pooling: str  # first or mean
    layer: int
    cross_validated: float  # the metric, by a solved head on rows that it has not seen
    interval: Interval | None  # 95%
    logme: float
    h_score: float | None  # None: a row has not exactly one label
    neighbours: float | None  # the metric, by the vote of the nearest rows
    logits: np.ndarray = field(repr=False, compare=False)  # of the solved head, [rows, labels]


@dataclass(frozen=True)
class Candidate:
    """One checkpoint: its scores and costs, or why it has none."""

    name: str
    command: str  # that trains it
    failed: str | None = None
    layers: int = 0
    costs: Costs | None = None
    scores: list[Scores] = field(default_factory=list)  # of every pooling (and layer)
    best: Scores | None = None
    gain: Difference | None = None  # of the best layer over the last; None: it is the last
    tied: bool = False  # it is not the first, but the data cannot tell it from the best score

    def as_dict(self) -> dict[str, Any]:
        """All but the logits."""
        entries = asdict(self)
        for scores in (*entries["scores"], entries["best"] or {}):
            scores.pop("logits", None)
        return entries


@dataclass(frozen=True)
class Ranking:
    """Checkpoints, the best first; those that failed last."""

    metric: str
    greater_is_better: bool
    rows: int  # of train that were used
    of_rows: int  # that train has
    by_layer: bool
    candidates: list[Candidate]

    def as_json(self) -> str:
        """All of it, for other programs."""
        entries = {
            "metric": self.metric,
            "greater_is_better": self.greater_is_better,
            "rows": self.rows,
            "of_rows": self.of_rows,
            "candidates": [candidate.as_dict() for candidate in self.candidates],
        }
        return json.dumps(entries, indent=2, ensure_ascii=False) + "\n"
