"""Prepares a confusion matrix for reading: a table of few labels, a map of many, worst pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

IN_A_TABLE = 16  # labels whose counts can be read at a glance
IN_A_MAP = 200
WORST = 15  # pairs
TITLED = 4000  # cells with a tooltip


@dataclass(frozen=True)
class Confusions:
    """Which labels are taken for which."""

    labels: list[str]
    table: list[list[dict[str, Any]]] | None  # [label][answer]: rows, share of the label's
    cells: list[dict[str, Any]] | None  # of a map: x, y, share, and what it says
    titled: bool
    worst: list[dict[str, Any]]  # pairs with the most rows: label, answer, rows, share


def confusions_of(matrix: list[list[int]], labels: list[str]) -> Confusions:
    """Of counts [label][answer]."""
    counts = np.array(matrix)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    off = counts * (1 - np.eye(len(counts), dtype=int))
    order = np.argsort(-off, axis=None, kind="stable")[:WORST]
    pairs = [divmod(int(place), len(labels)) for place in order]
    fewest = min(max(int(off.max()), 1), 2)  # where some are confused twice, once says little
    worst = [_named(i, j, counts, shares, labels) for i, j in pairs if off[i, j] >= fewest]
    table = cells = None
    if len(labels) <= IN_A_TABLE:
        table = [
            [_named(i, j, counts, shares, labels) for j in range(len(labels))]
            for i in range(len(labels))
        ]
    elif len(labels) <= IN_A_MAP:
        cells = [
            {"x": int(j), "y": int(i), **_named(i, j, counts, shares, labels)}
            for i, j in np.argwhere(counts)
        ]
    return Confusions(labels, table, cells, len(cells or []) <= TITLED, worst)


def _named(
    i: int, j: int, counts: np.ndarray, shares: np.ndarray, labels: list[str]
) -> dict[str, Any]:
    return {
        "label": labels[i],
        "answer": labels[j],
        "right": bool(i == j),
        "rows": int(counts[i, j]),
        "share": round(float(shares[i, j]), 3),
    }
