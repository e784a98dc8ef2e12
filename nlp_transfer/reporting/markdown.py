"""Says what the figures of a run mean, in a page of Markdown; the model card has a part of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nlp_transfer.evaluation.confusion import confusions_of
from nlp_transfer.reporting.run_record import RunRecord, best_step
from nlp_transfer.reporting.splits import reported_split, split_title
from nlp_transfer.utils.text import cell, with_interval

SHOWN_PAIRS = 5
COVERAGES = (1.0, 0.9, 0.8, 0.5)


def markdown_report(record: RunRecord) -> str:
    """`report.md`: figures and findings, no text of the data."""
    parts = [_title(record), candidates(record.run), _stages(record), _metrics(record.metrics)]
    if record.metrics:
        parts += [details(record.run, record.metrics), _slices(record)]
    parts.append(_findings(record.data))
    written = ("\n".join(part) for part in parts)
    return "\n\n".join(part for part in written if part) + "\n"


def details(run: dict[str, Any], metrics: dict[str, Any]) -> Iterator[str]:
    """What confidence is worth and what is confused, which a table of metrics does not say."""
    split = reported_split(metrics)
    found = metrics[split]
    lines = [
        *_calibration(run["calibration"], split),
        *_coverage(found, split),
        *_confused(found, run["labels"], split),
    ]
    if lines:
        yield "## Confidence and mistakes"
        yield ""
        yield from lines


def candidates(run: dict[str, Any]) -> Iterator[str]:
    """The recipes that were compared before the final training."""
    ladder = run.get("ladder", [])
    if not ladder:
        return
    yield "## Candidates"
    yield ""
    yield f"| recipe | {ladder[0]['metric']} | standard error | seconds | |"
    yield "|---|---|---|---|---|"
    for candidate in ladder:
        error = candidate["standard_error"]
        cells = [
            cell(candidate["recipe"]),
            f"{candidate['value']:.4f}",
            "–" if error is None else f"{error:.4f}",
            f"{candidate['seconds']:.0f}",
            "chosen" if candidate["chosen"] else "",
        ]
        yield f"| {' | '.join(cells)} |"


def _title(record: RunRecord) -> Iterator[str]:
    yield f"# {cell(record.path.name)}"
    if not record.finished:
        to_come = f" Still to come: {', '.join(record.to_come)}." if record.to_come else ""
        yield ""
        yield f"**This run is not finished**: the same command goes on.{to_come}"


def _stages(record: RunRecord) -> Iterator[str]:
    if not record.stages:
        return
    yield "## Stages"
    yield ""
    for stage in record.stages:
        if not stage.done:
            yield f"- {stage.name}: under way, step {stage.steps:,} of {stage.planned:,}"
            continue
        how = f"{stage.steps:,} steps" if stage.steps else "solved exactly"
        how += f", {stage.said['seconds']:.0f} s"
        kept = best_step(stage.log, record.best) if record.best is not None else None
        if kept is not None and "epoch" in kept and record.config.training.keep_best:
            how += f"; epoch {kept['epoch']:g} was kept"
        yield f"- {stage.name}: {stage.said['learns']}, {how}"


def _metrics(metrics: dict[str, Any]) -> Iterator[str]:
    if not metrics:
        return
    yield "## What it is worth"
    yield ""
    yield (
        "| metric | "
        + " | ".join(f"{split_title(s)} ({f['rows']:,} texts)" for s, f in metrics.items())
        + " |"
    )
    yield "|---" * (len(metrics) + 1) + "|"
    for name in metrics[reported_split(metrics)]["metrics"]:
        cells = (
            with_interval(name, found) if name in found["metrics"] else "–"
            for found in metrics.values()
        )
        yield f"| {name} | {' | '.join(cells)} |"


def _calibration(said: dict[str, Any], split: str) -> Iterator[str]:
    if said.get("left_out") is not None:
        yield f"- Confidence was left as trained: {said['left_out']}."
    elif split in said:
        before, after = said[split]["before"], said[split]["after"]
        told = [
            f"{words} {before[name]:.4f} → {after[name]:.4f}"
            for name, words in (("log_loss", "log loss"), ("ece", "calibration error"))
            if name in before
        ]
        yield f"- Calibrated by the temperature {said['temperature']:.3f}; {split}: " + ", ".join(
            told
        )


def _coverage(found: dict[str, Any], split: str) -> Iterator[str]:
    points = [point for point in found.get("coverage", []) if point["coverage"] in COVERAGES]
    if points:
        told = (f"{p['accuracy']:.1%} of the surest {p['coverage']:.0%}" for p in points)
        yield f"- Right on {split}: {', '.join(told)}"


def _confused(found: dict[str, Any], labels: list[str], split: str) -> Iterator[str]:
    if not found.get("confusion"):
        return
    worst = confusions_of(found["confusion"], labels).worst[:SHOWN_PAIRS]
    if worst:
        told = (f"`{cell(p['label'])}` for `{cell(p['answer'])}` ({p['rows']:,})" for p in worst)
        yield f"- Most often mistaken on {split}: {', '.join(told)}"


def _slices(record: RunRecord) -> Iterator[str]:
    slices = record.metrics[record.split].get("slices", {})
    for by, parts in slices.items():
        name = record.shown(parts[0])
        yield f"## {cell(by)}, on {record.split}"
        yield ""
        yield f"| part | rows | {name} |"
        yield "|---|---|---|"
        for part in parts:
            yield f"| {cell(part['value'])} | {part['rows']:,} | {with_interval(name, part)} |"
        yield ""


def _findings(data: dict[str, Any]) -> Iterator[str]:
    findings = [found for found in data.get("findings", []) if found["level"] != "good"]
    if findings:
        yield "## Data"
        yield ""
        for found in findings:
            yield f"- {found['level']}: {cell(found['sentence'])}"
