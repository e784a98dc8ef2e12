"""The section on slices: each column with its parts on one scale."""

from __future__ import annotations

from typing import Any

from nlp_transfer.reporting import conclusions
from nlp_transfer.reporting.run_record import RunRecord
from nlp_transfer.utils.text import number


def slices(record: RunRecord) -> dict[str, Any]:
    """Each column with its parts on one scale, and the conclusions."""
    figures = record.metrics.get(record.split, {})
    cuts = [_cut(record, figures, by, parts) for by, parts in figures.get("slices", {}).items()]
    return {"cuts": cuts, "conclusions": list(conclusions.slices(cuts))} if cuts else {}


def _cut(
    record: RunRecord, figures: dict[str, Any], by: str, parts: list[dict[str, Any]]
) -> dict[str, Any]:
    name = record.shown(parts[0])
    ends = [end for part in parts for end in _ends(part, name)]
    whole = figures["metrics"].get(name)
    ends += [whole] if whole is not None else []
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    margin = 0.05 * (high - low) or 0.05
    scale = (low - margin, high + margin)
    if low >= 0 and high <= 1:  # a share: nothing lies beyond
        scale = (max(scale[0], 0.0), min(scale[1], 1.0))
    return {
        "by": by,
        "metric": name,
        "whole": None if whole is None else _position(whole, scale),
        "scale": [number(end) for end in scale],
        "parts": [_part(part, name, scale) for part in parts],
    }


def _part(part: dict[str, Any], name: str, scale: tuple[float, float]) -> dict[str, Any]:
    ends = [_position(end, scale) for end in _ends(part, name)]
    value = part["metrics"][name]
    return {
        "value": part["value"],
        "rows": part["rows"],
        "figure": value,
        "interval": part["intervals"].get(name),
        "at": None if value is None else _position(value, scale),
        "low": min(ends, default=0.0),
        "wide": max(ends, default=0.0) - min(ends, default=0.0),
    }


def _ends(part: dict[str, Any], name: str) -> list[float]:
    value = part["metrics"][name]
    return [*part["intervals"].get(name, ()), *([] if value is None else [value])]


def _position(value: float, scale: tuple[float, float]) -> float:
    """Percent of the way along a scale."""
    return 100 * (value - scale[0]) / (scale[1] - scale[0])
