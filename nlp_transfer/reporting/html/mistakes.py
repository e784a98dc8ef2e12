"""Collects the errors to read, and the words that answers rest on, for `report.html`."""

from __future__ import annotations

from typing import Any

from nlp_transfer.config.constants import CROSS_VALIDATION
from nlp_transfer.reporting import conclusions
from nlp_transfer.reporting.html import plots
from nlp_transfer.reporting.run_record import RunRecord
from nlp_transfer.reporting.splits import split_title


def errors(record: RunRecord) -> dict[str, Any]:
    """Kinds of error with examples, and the error by text length."""
    if not record.mistakes:
        return {}
    scored = record.problem is not None and not record.problem.has_labels
    axis = "mean absolute error" if scored else "share of errors"
    parts = record.mistakes["by_length"]
    curve = plots.by_length(parts, axis, not scored) if len(parts) > 1 else None
    title = split_title(record.mistakes["split"])
    conclusion = conclusions.errors(record)
    explained = {
        (each["file"], each["row"]): each for each in record.explanations.get("mistakes", ())
    }
    kinds = [
        {
            **kind,
            "examples": [
                {**row, "explained": explained.get((row.get("file"), row["row"]))}
                for row in kind["examples"]
            ],
        }
        for kind in record.mistakes["kinds"]
    ]
    return {
        **record.mistakes,
        "kinds": kinds,
        "explained": bool(explained),
        "curve": curve,
        "title": title,
        "conclusion": conclusion,
    }


def explanations(record: RunRecord) -> dict[str, Any]:
    """The words of each class, and the curves against chance."""
    entries, check = record.explanations, record.explanations.get("check")
    if not entries:
        return {}
    figure = None
    if check is not None:
        curves = (check[name] for name in ("deletion", "insertion", "random"))
        figure = plots.removal(check["fractions"], *curves)
    return {
        "classes": [each for each in entries["classes"] if each["for"] or each["against"]],
        "rows": entries["rows"],
        "title": split_title(entries["split"]),
        "of_train": entries["split"] == CROSS_VALIDATION,
        "verdicts": entries.get("verdicts", []),
        "figure": figure,
    }
