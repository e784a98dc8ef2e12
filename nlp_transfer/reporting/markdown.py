"""Writes `report.md`, the report for terminals and code review, from Jinja templates."""

from __future__ import annotations

import re
from typing import Any

from nlp_transfer.evaluation.confusion import confusions_of
from nlp_transfer.reporting import conclusions
from nlp_transfer.reporting.run_record import RunRecord
from nlp_transfer.reporting.splits import figures_source, reported_split
from nlp_transfer.reporting.templates import environment
from nlp_transfer.utils.text import cell, with_interval

SHOWN_PAIRS = 5  # of confused labels
COVERAGES = (1.0, 0.9, 0.8, 0.5)


def markdown_report(record: RunRecord) -> str:
    """`report.md`: figures and findings, no text of the data."""
    findings = [
        finding for finding in record.data.get("findings", []) if finding["level"] != "good"
    ]
    metrics = record.metrics
    return render(
        "report.md.j2",
        record=record,
        overview=conclusions.overview(record),
        candidates=candidates(record.run),
        kept_epochs=kept_epochs(record),
        details=details(record.run, metrics) if metrics else "",
        names=list(metrics[record.split]["metrics"]) if metrics else [],
        source=figures_source(metrics) if metrics else "",
        slices=metrics[record.split].get("slices", {}) if metrics else {},
        findings=findings,
    )


def candidates(run: dict[str, Any]) -> str:
    """The table of the recipes that were compared before the final training, or nothing."""
    return render("candidates.md.j2", ladder=run.get("ladder", []))


def details(run: dict[str, Any], metrics: dict[str, Any]) -> str:
    """Calibration, coverage and confusions of the reported split."""
    split = reported_split(metrics)
    figures, calibration = metrics[split], run["calibration"]
    matrix = figures.get("confusion")
    return render(
        "details.md.j2",
        split=split,
        calibration=calibration,
        compared=calibration.get(split),
        verdict=conclusions.calibration_verdict(figures["reliability"], figures["rows"]).sentence
        if figures.get("reliability")
        else None,
        coverage=[p for p in figures.get("coverage", []) if p["coverage"] in COVERAGES],
        confused=confusions_of(matrix, run["labels"]).worst[:SHOWN_PAIRS] if matrix else [],
    )


def kept_epochs(record: RunRecord) -> dict[str, float]:
    """By stage, the epoch whose weights were kept."""
    if not record.config.training.keep_best:
        return {}
    entries = {stage.name: record.best_step(stage.log) for stage in record.stages}
    return {
        name: entry["epoch"]
        for name, entry in entries.items()
        if entry is not None and "epoch" in entry
    }


def render(template: str, **context: Any) -> str:
    """A Markdown template; blank lines are never doubled, and none end it."""
    templates = environment(autoescape=False)
    templates.filters.update(cell=cell)
    templates.globals.update(with_interval=with_interval)
    return tidy(templates.get_template(template).render(**context))


def tidy(text: str) -> str:
    """Without doubled blank lines, and with one line break at its end where there is any text."""
    text = re.sub(r"\n{3,}", "\n\n", text).strip("\n")
    return f"{text}\n" if text else ""
