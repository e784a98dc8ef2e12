"""Writes `report.html`: one page about a run that opens from disk and needs nothing else."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from nlp_transfer.evaluation.confusion import confusions_of
from nlp_transfer.evaluation.registry import bounds_of, greater_is_better
from nlp_transfer.problems import Problem
from nlp_transfer.reporting import plots
from nlp_transfer.reporting.markdown import markdown_report
from nlp_transfer.reporting.run_record import (
    EVALUATED,
    RunRecord,
    best_step,
    is_solved,
    read_record,
)
from nlp_transfer.reporting.splits import figures_source, ordered, split_title
from nlp_transfer.runs.folder import REPORT_FILE, REPORT_MD_FILE
from nlp_transfer.runs.predictions import read_predictions
from nlp_transfer.utils.files import write_text

TEMPLATE = "report.html.j2"
LEVELS = ("problem", "warning", "good")
EXAMPLES = 3  # rows of a finding
# Of the tokens of a split's texts, what is shown, and how it is called.
TOKENS = {"p5": "5%", "p50": "median", "p95": "95%", "p99": "99%", "longest": "longest"}
FEW_LABELS = 12  # that all stand in the table of labels; of more, the weakest come first


def write_report(folder: Path) -> Path:
    """Draw `report.html`, and `report.md` beside it, from the files of a run, finished or not.

    Returns:
        The page.

    Raises:
        UserError: if there is no run.
    """
    record = read_record(folder)
    write_text(folder / REPORT_MD_FILE, markdown_report(record))
    write_text(folder / REPORT_FILE, page(record))
    return folder / REPORT_FILE


def page(record: RunRecord) -> str:
    """The page; every text in it is escaped."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        number=_number, split_title=split_title, percent=_percent, seconds=_seconds
    )
    short = re.split("[/:]", record.config.checkpoint.name.rstrip("/"))[-1]
    source = (
        resources.files("nlp_transfer.reporting").joinpath(TEMPLATE).read_text(encoding="utf-8")
    )
    return environment.from_string(source).render(
        record=record,
        run=record.run,
        title=f"{record.config.task} · {short}",
        asked=dict(_asked(record)),
        data=_data(record),
        learning=list(_learning(record)),
        worth=_worth(record),
        confidence=_confidence(record),
        slices=_slices(record),
        mistakes=_mistakes(record),
        commands=list(_commands(record)),
    )


def _asked(record: RunRecord) -> Iterator[tuple[str, str]]:
    config, run = record.config, record.run
    decisions = run.get("decisions", {})
    yield "task", config.task
    yield "checkpoint", config.checkpoint.name
    files = (config.dataset.train, config.dataset.validation, config.dataset.test)
    yield "data", config.dataset.name or ", ".join(file for file in files if file)
    if record.problem is not None:
        labels = run["labels"]
        listed = f": {', '.join(labels)}" if record.problem.has_labels and len(labels) <= 8 else ""
        yield "answers", record.problem.describe(len(labels)) + listed
    yield "strategy", decisions.get("strategy", config.strategy.name)
    yield "batch", f"{config.training.batch_size} texts"
    yield "precision", decisions.get("precision", config.training.precision.value)
    if "max_length" in run:
        yield "reads", f"{run['max_length']} tokens ({config.tokenization.long_text.value})"
    if record.best is not None:
        yield "chosen by", f"{record.best} on validation"
    yield "seed", str(config.seed)
    if "seconds" in run:
        yield "took", _seconds(run["seconds"])


def _data(record: RunRecord) -> dict[str, Any]:
    """Findings by how bad they are, and what each split holds."""
    findings = [
        {**found, "examples": list(zip(found["rows"], found["examples"], strict=False))[:EXAMPLES]}
        for found in record.data.get("findings", [])
    ]
    splits = record.data.get("splits", {})
    return {
        "findings": sorted(findings, key=lambda found: LEVELS.index(found["level"])),
        "splits": splits,
        "tokens": TOKENS,
        "scores": all("scores" in about for about in splits.values()),
        "rows": record.run.get("rows", {}),
        "cut": record.run.get("cut", {}),
    }


def _learning(record: RunRecord) -> Iterator[Markup]:
    """Curves over all stages, one after the other, of the loss and of the metric that chose."""
    losses: list[tuple[float, float]] = []
    looks: dict[str, list[tuple[float, float]]] = {"log_loss": []}
    kept: dict[str, list[tuple[float, float]]] = {"log_loss": []}
    if record.best is not None:
        looks.setdefault(record.best, [])
        kept.setdefault(record.best, [])
    borders, before = [], 0
    for stage in record.stages:
        borders.append((stage.name, float(before)))
        chosen = best_step(stage.log, record.best) if record.best is not None else None
        for entry in stage.log:
            at = float(before + entry.get("step", 0))
            if entry.get("loss") is not None:
                losses.append((at, entry["loss"]))
            for name, points in looks.items():
                value = entry.get(EVALUATED + name)
                if value is not None:
                    points.append((at, value))
                    if entry is chosen and (record.config.training.keep_best or is_solved(stage)):
                        kept[name].append((at, value))
        before += stage.steps
    drawn = {"training": losses, "validation": looks["log_loss"]}
    lines = {name: points for name, points in drawn.items() if len(points) > 1}
    if lines:
        marked = kept["log_loss"] if "validation" in lines else []
        yield plots.curves(lines, borders, marked, "loss")
    if record.best not in (None, "log_loss") and len(looks[record.best]) > 1:
        lines = {"validation": looks[record.best]}
        yield plots.curves(lines, borders, kept[record.best], record.best)


def _worth(record: RunRecord) -> dict[str, Any]:
    """Metrics, tables by class, and what is confused."""
    if not record.metrics:
        return {}
    found = record.metrics[record.split]
    classes = found.get("per_class", [])
    matrix = found.get("confusion")
    confused = None if matrix is None else confusions_of(matrix, record.run["labels"])
    drawn = None
    predictions = record.path / "predictions" / f"{record.split}.npz"
    scores = record.problem is not None and not record.problem.has_labels
    if scores and predictions.is_file():
        logits, references = read_predictions(record.path, record.split)
        drawn = plots.scores(references.tolist(), logits[:, 0].tolist())
    return {
        "split": record.split,
        "rows": found["rows"],
        "best": record.best,
        "splits": ordered(record.metrics),
        "names": list(found["metrics"]),
        "bars": {name: _bar(found, name) for name in found["metrics"]},
        "lower": {name for name in found["metrics"] if not greater_is_better(name)},
        "plain": found.get("at_one_half"),  # where thresholds were chosen
        "classes": classes,
        "weakest": sorted(classes, key=lambda row: row["f1"])[:FEW_LABELS],
        "few": len(classes) <= FEW_LABELS,
        "more": [name for name in (classes[0] if classes else {}) if name == "threshold"],
        "scores": drawn,
        "confused": confused,
        "source": figures_source(record.metrics),
        "baseline": _baseline(found, record.problem),
    }


def _bar(found: dict[str, Any], name: str) -> dict[str, float] | None:
    """Where a value and its interval lie between 0 and 1, in percent; None where they do not."""
    value, interval = found["metrics"][name], found["intervals"].get(name)
    if value is None or bounds_of(name)[1] > 2 or value < 0 or (interval and interval[0] < 0):
        return None
    low, high = interval or (value, value)
    return {"at": 100 * value, "low": 100 * low, "wide": 100 * (high - low)}


def _baseline(found: dict[str, Any], problem: Problem | None) -> dict[str, Any] | None:
    """What always giving the commonest answer would get."""
    if problem is None or not problem.one_label or not found.get("per_class"):
        return None
    common = max(found["per_class"], key=lambda row: row["support"])
    return {"label": common["label"], "share": common["support"] / found["rows"]}


def _confidence(record: RunRecord) -> dict[str, Any]:
    """What confidence is worth, before calibration and after."""
    found = record.metrics.get(record.split, {})
    said = record.run.get("calibration")
    if said is None:
        return {}
    calibrated = said.get("left_out") is None
    compared = said.get(record.split, {}) if calibrated else {}
    told: dict[str, Any] = {"said": said, "compared": compared, "split": record.split}
    told |= {"reliability": None, "coverage": None, "points": []}
    if found.get("reliability"):
        before = compared.get("before", {}).get("reliability")
        told["reliability"] = plots.reliability(found["reliability"], before)
    if found.get("coverage"):
        told["coverage"] = plots.coverage(found["coverage"], "share that is right")
        told["points"] = [p for p in found["coverage"] if p["coverage"] in (1.0, 0.9, 0.8, 0.5)]
    return told


def _slices(record: RunRecord) -> list[dict[str, Any]]:
    """Each cut of the split with its parts, on one scale."""
    found = record.metrics.get(record.split, {})
    cuts = []
    for by, parts in found.get("slices", {}).items():
        name = record.shown(parts[0])
        ends = [end for part in parts for end in _ends(part, name)]
        whole = found["metrics"].get(name)
        ends += [whole] if whole is not None else []
        low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
        room = 0.05 * (high - low) or 0.05
        scale = (low - room, high + room)
        cuts.append(
            {
                "by": by,
                "metric": name,
                "whole": None if whole is None else _place(whole, scale),
                "parts": [_part(part, name, scale) for part in parts],
            }
        )
    return cuts


def _part(part: dict[str, Any], name: str, scale: tuple[float, float]) -> dict[str, Any]:
    ends = [_place(end, scale) for end in _ends(part, name)]
    value = part["metrics"][name]
    return {
        "value": part["value"],
        "rows": part["rows"],
        "figure": value,
        "interval": part["intervals"].get(name),
        "at": None if value is None else _place(value, scale),
        "low": min(ends, default=0.0),
        "wide": max(ends, default=0.0) - min(ends, default=0.0),
    }


def _ends(part: dict[str, Any], name: str) -> list[float]:
    value = part["metrics"][name]
    return [*part["intervals"].get(name, ()), *([] if value is None else [value])]


def _place(value: float, scale: tuple[float, float]) -> float:
    return 100 * (value - scale[0]) / (scale[1] - scale[0])


def _mistakes(record: RunRecord) -> dict[str, Any]:
    said = record.mistakes
    if not said:
        return {}
    scored = record.problem is not None and not record.problem.has_labels
    what = "mean distance from the score" if scored else "share that is wrong"
    parts = said["by_length"]
    drawn = plots.by_length(parts, what, not scored) if len(parts) > 1 else None
    return {**said, "drawn": drawn}


def _commands(record: RunRecord) -> Iterator[tuple[str, str]]:
    folder = shlex.quote(str(record.path))
    if not record.finished:
        return
    paired = " --text-pair COLUMN2" if record.config.dataset.text_pair is not None else ""
    table = f"--file texts.csv --text COLUMN{paired} --out answers.csv"
    yield "Answer a table of texts", f"nlp-transfer predict {folder} {table}"
    yield "Answer over HTTP, with a page to try it", f"nlp-transfer serve {folder}"
    model = str(record.path / "model")
    called = 'predict(["a text"], ["its second"])'
    if record.config.dataset.text_pair is None:
        called = 'predict(["a text", "another"])'
    python = f"from nlp_transfer import Classifier\n\nClassifier.load({model!r}).{called}"
    yield "Answer from Python", python
    yield "Upload to the Hub", f"nlp-transfer push {folder} --repository user/name --private"
    yield "Do it all again and compare", f"nlp-transfer repeat {folder}"


def _number(value: float | None) -> str:
    if value is None:
        return "undefined"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3f}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _seconds(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(int(np.rint(seconds)), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"
