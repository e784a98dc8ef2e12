"""Collects what each section of `report.html` shows, from the record of a run."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

from markupsafe import Markup

from nlp_transfer.config.constants import CROSS_VALIDATION
from nlp_transfer.data.sources import IN_MEMORY, SPLITS
from nlp_transfer.evaluation.confusion import confusions_of
from nlp_transfer.evaluation.registry import bounds_of, greater_is_better
from nlp_transfer.problems import Problem
from nlp_transfer.reporting import conclusions
from nlp_transfer.reporting.html import plots
from nlp_transfer.reporting.run_record import EVALUATED, RunRecord, chosen_pooling, is_solved
from nlp_transfer.reporting.splits import figures_source, ordered
from nlp_transfer.runs.identity import given_code
from nlp_transfer.runs.names import CODE
from nlp_transfer.runs.predictions import read_predictions
from nlp_transfer.utils.text import seconds

LEVELS = ("problem", "warning", "good")
EXAMPLES = 3  # rows of a finding
# Token lengths of a split that are shown, and their titles.
TOKENS = {"p5": "5%", "p50": "median", "p95": "95%", "p99": "99%", "longest": "longest"}
FEW_LABELS = 12  # that all stand in the table of labels; of more, the weakest come first
NAMED_LABELS = 8  # whose names stand in the setup
COVERAGES = (1.0, 0.9, 0.8, 0.5)  # in the table under the curve


def setup(record: RunRecord) -> Iterator[tuple[str, str]]:
    """Name and value of what was configured, decided and used."""
    config, run = record.config, record.run
    decisions = run.get("decisions", {})
    if config.author is not None:
        yield "author", config.author
    if "finished" in run:
        yield "date", run["finished"][:10]
    yield "task", config.task
    yield "checkpoint", config.checkpoint.name
    yield "data", data_name(record)
    if record.problem is not None:
        yield "output", _output(record.problem, run["labels"])
    yield "strategy", decisions.get("strategy", config.strategy.name)
    yield "batch", f"{config.training.batch_size} texts"
    yield "precision", decisions.get("precision", config.training.precision.value)
    yield from chosen_pooling(run)
    if "max_length" in run:
        yield "input", f"{run['max_length']} tokens ({config.tokenization.long_text.value})"
    if record.best is not None:
        on = "cross-validation" if record.split == CROSS_VALIDATION else "validation"
        yield "chosen by", f"{record.best} on {on}"
    yield "seed", str(config.seed)
    if "seconds" in run:
        yield "time", seconds(run["seconds"])


def data_name(record: RunRecord) -> str:
    """The dataset, or the files of its splits."""
    dataset = record.config.dataset
    files = [file for split in SPLITS for file in dataset.places(split)]
    if dataset.name == IN_MEMORY:
        return "tables given from Python"
    return dataset.name or ", ".join(files)


def _output(problem: Problem, labels: list[str]) -> str:
    few = problem.has_labels and len(labels) <= NAMED_LABELS
    return problem.describe(len(labels)) + (f": {', '.join(labels)}" if few else "")


def data(record: RunRecord) -> dict[str, Any]:
    """Findings, the worst first, and the rows, labels and token lengths of each split."""
    findings = [
        {
            **finding,
            "examples": list(zip(finding["rows"], finding["examples"], strict=False))[:EXAMPLES],
        }
        for finding in record.data.get("findings", [])
    ]
    splits = record.data.get("splits", {})
    return {
        "conclusion": conclusions.data(record),
        "findings": sorted(findings, key=lambda finding: LEVELS.index(finding["level"])),
        "splits": splits,
        "tokens": TOKENS,
        "scores": all("scores" in split for split in splits.values()),
        "rows": record.run.get("rows", {}),
        "cut": record.run.get("cut", {}),
    }


def learning_curves(record: RunRecord) -> Iterator[Markup]:
    """Loss, and the metric that chose the epochs, by step over all stages."""
    losses: list[tuple[float, float]] = []
    measured: dict[str, list[tuple[float, float]]] = {"log_loss": []}
    best_points: dict[str, list[tuple[float, float]]] = {"log_loss": []}
    if record.best is not None:
        measured.setdefault(record.best, [])
        best_points.setdefault(record.best, [])
    borders, before = [], 0
    for stage in record.stages:
        borders.append((stage.name, float(before)))
        best = record.best_step(stage.log)
        for entry in stage.log:
            at = float(before + entry.get("step", 0))
            if entry.get("loss") is not None:
                losses.append((at, entry["loss"]))
            for name, points in measured.items():
                value = entry.get(EVALUATED + name)
                if value is not None:
                    points.append((at, value))
                    if entry is best and (record.config.training.keep_best or is_solved(stage)):
                        best_points[name].append((at, value))
        before += stage.steps
    curves = {"training": losses, "validation": measured["log_loss"]}
    lines = {name: points for name, points in curves.items() if len(points) > 1}
    if lines:
        marks = best_points["log_loss"] if "validation" in lines else []
        yield plots.curves(lines, borders, marks, "loss")
    if record.best not in (None, "log_loss") and len(measured[record.best]) > 1:
        lines = {"validation": measured[record.best]}
        yield plots.curves(lines, borders, best_points[record.best], record.best)


def results(record: RunRecord) -> dict[str, Any]:
    """Metrics, figures by label, and confusions of the reported split."""
    if not record.metrics:
        return {}
    figures = record.metrics[record.split]
    classes = figures.get("per_class", [])
    matrix = figures.get("confusion")
    weakest = conclusions.weakest_label(record)
    return {
        "split": record.split,
        "rows": figures["rows"],
        "best": record.best,
        "conclusion": conclusions.results(record),
        "weakest_sentence": weakest,
        "most_confused": conclusions.most_confused(record),
        "source": figures_source(record.metrics),
        "splits": ordered(record.metrics),
        "names": list(figures["metrics"]),
        "bars": {name: _bar(figures, name) for name in figures["metrics"]},
        "lower": {name for name in figures["metrics"] if not greater_is_better(name)},
        "plain": _without_thresholds(figures),
        "classes": classes,
        "weakest": conclusions.weakest_first(classes)[:FEW_LABELS],
        "few": len(classes) <= FEW_LABELS,
        "more": [name for name in (classes[0] if classes else {}) if name == "threshold"],
        "scores": _scores(record),
        "confused": None if matrix is None else confusions_of(matrix, record.run["labels"]),
    }


def _scores(record: RunRecord) -> Markup | None:
    """Predicted against true scores."""
    predictions = record.path / "predictions" / f"{record.split}.npz"
    if record.problem is None or record.problem.has_labels or not predictions.is_file():
        return None
    logits, references = read_predictions(record.path, record.split)
    return plots.scores(references.tolist(), logits[:, 0].tolist())


def _bar(figures: dict[str, Any], name: str) -> dict[str, float] | None:
    """Where a value and its interval lie between 0 and 1, in percent; None outside of it."""
    value, interval = figures["metrics"][name], figures["intervals"].get(name)
    if value is None or bounds_of(name)[1] > 2 or value < 0 or (interval and interval[0] < 0):
        return None
    low, high = interval or (value, value)
    return {"at": 100 * value, "low": 100 * low, "wide": 100 * (high - low)}


def confidence(record: RunRecord) -> dict[str, Any]:
    """Reliability and coverage of the reported split, before and after calibration."""
    figures = record.metrics.get(record.split, {})
    calibration = record.run.get("calibration")
    if calibration is None or not figures:
        return {}
    calibrated = calibration.get("left_out") is None
    errors = calibration.get(record.split, {}) if calibrated else {}
    bins, points = figures.get("reliability"), figures.get("coverage")
    before = errors.get("before", {}).get("reliability")
    return {
        "calibration": calibration,
        "compared": errors,
        "split": record.split,
        "verdict": conclusions.calibration_verdict(bins, figures["rows"]) if bins else None,
        "reliability": plots.reliability(bins, before) if bins else None,
        "coverage": plots.coverage(points, "accuracy") if points else None,
        "points": [point for point in points or () if point["coverage"] in COVERAGES],
    }


def _without_thresholds(figures: dict[str, Any]) -> dict[str, Any] | None:
    """The metrics that chosen thresholds have changed, as they were at one half."""
    plain = figures.get("at_one_half")
    if plain is None:
        return None
    metrics = figures["metrics"]
    changed = {k: value for k, value in plain["metrics"].items() if value != metrics.get(k)}
    return {**plain, "metrics": changed} if changed else None


def commands(record: RunRecord) -> Iterator[tuple[str, str]]:
    """What one can do with a finished run: a title and a command."""
    folder = shlex.quote(str(record.path))
    if not record.finished:
        return
    pair_option = " --text-pair COLUMN2" if record.config.dataset.text_pair is not None else ""
    table = f"--file texts.csv --text COLUMN{pair_option} --out answers.csv"
    yield "Predict a table of texts", f"nlp-transfer predict {folder} {table}"
    yield "Serve over HTTP, with a page to try it", f"nlp-transfer serve {folder}"
    model = str(record.path / "model")
    call = 'predict(["a text"], ["its second"])'
    if record.config.dataset.text_pair is None:
        call = 'predict(["a text", "another"])'
    python = f"from nlp_transfer import Classifier\n\nClassifier.load({model!r}).{call}"
    yield "Predict from Python", python
    yield "Upload to the Hub", f"nlp-transfer push {folder} --repository user/name --private"
    if record.config.dataset.name != IN_MEMORY and not given_code(record.run.get(CODE, {})):
        yield "Train again and compare", f"nlp-transfer repeat {folder}"
