"""Says on the screen and in `run.json` what a run did."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from nlp_transfer.config.schema import Problem
from nlp_transfer.evaluation.calibration import Calibration
from nlp_transfer.evaluation.evaluator import SplitEvaluation
from nlp_transfer.evaluation.metrics import gaps, log_losses
from nlp_transfer.evaluation.reliability import accuracy_by_coverage, reliability
from nlp_transfer.evaluation.slices import LENGTH
from nlp_transfer.runs.folder import REPORT_FILE
from nlp_transfer.utils.text import aligned, with_interval

MOST_LABELS = 20  # on the screen; of more, the weakest
WEAKEST = 10
INTERVALS = "95% bootstrap intervals over documents"
ON_VALIDATION = "these figures come from validation, which also chose the epochs."


def untested(splits: Collection[str], evaluated: Collection[str]) -> str | None:
    """Why there are no figures of a test split, where there are none.

    Args:
        splits: that the data has.
    """
    if "test" in evaluated:
        return None
    if "test" in splits:
        return f"The test split was left alone (evaluation.test=false): {ON_VALIDATION}"
    return f"There is no labelled test split: {ON_VALIDATION}"


def measured(
    evaluations: dict[str, SplitEvaluation], note: str | None = None
) -> dict[str, dict[str, Any]]:
    """What `metrics.json` says: rows, metrics and intervals of each split, its tables by class.

    Args:
        note: what to know of all these figures, as `untested` says it.
    """
    return {
        split: {
            "rows": len(evaluation.references),
            "metrics": evaluation.metrics,
            "intervals": {name: [*pair] for name, pair in evaluation.intervals.items()},
            **_plainly(evaluation),
            "per_class": evaluation.per_class,
            **_of_labels(evaluation),
            "slices": evaluation.slices,
            **({} if note is None else {"note": note}),
        }
        for split, evaluation in evaluations.items()
    }


def _plainly(evaluation: SplitEvaluation) -> dict[str, Any]:
    """The metrics without the chosen thresholds, where there are some."""
    plain = evaluation.at_one_half
    if plain is None:
        return {}
    return {"at_one_half": {name: plain[name] for name in ("metrics", "intervals")}}


def _of_labels(evaluation: SplitEvaluation) -> dict[str, Any]:
    """What is not said of scores; of several labels, only what their confidence is worth."""
    if evaluation.decoder.problem is Problem.regression:
        return {}
    given = _answers(evaluation.references, evaluation.probabilities)
    if evaluation.confusion is None:
        return {"reliability": reliability(*given)}
    return {
        "confusion": evaluation.confusion.tolist(),
        "reliability": reliability(*given),
        "coverage": accuracy_by_coverage(*given),
    }


def summary(run: dict[str, Any], metrics: dict[str, Any], folder: Path) -> str:
    """The end of a run on the screen, from `run.json` and `metrics.json`."""
    parts = (
        _stage_lines(run),
        _metric_lines(metrics),
        _threshold_lines(run["thresholds"], metrics),
        _calibration_lines(run["calibration"]),
        _where_lines(run, folder),
    )
    return "\n".join(line for part in map(list, parts) if part for line in ("", *part))


def metric_table(measured: dict[str, dict[str, Any]]) -> str:
    """What `metrics.json` says, for a terminal."""
    return "\n".join(_metric_lines(measured))


def describe_calibration(
    calibration: Calibration, evaluations: dict[str, SplitEvaluation]
) -> dict[str, Any]:
    """For `run.json`: the temperature, and what confidence was worth before it and after."""
    said: dict[str, Any] = asdict(calibration)
    for split, evaluation in evaluations.items():
        decoder = evaluation.decoder
        if decoder.problem is Problem.regression:
            continue
        before = decoder.probabilities(calibration.before(evaluation.logits))
        said[split] = {
            "before": _confidence(*_answers(evaluation.references, before)),
            "after": _confidence(*_answers(evaluation.references, evaluation.probabilities)),
        }
    return said


def _answers(references: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As one label a text has them; of several labels, each one's no or yes is an answer."""
    if references.ndim == 1:
        return references, probabilities
    yes = probabilities.ravel()
    return references.ravel().astype(np.int64), np.stack([1 - yes, yes], axis=1)


def _confidence(references: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    return {
        "log_loss": float(log_losses(references, probabilities).mean()),
        "ece": float(np.abs(gaps(references, probabilities).mean(axis=0)).sum()),
        "reliability": reliability(references, probabilities),
    }


def _stage_lines(run: dict[str, Any]) -> Iterator[str]:
    yield "What learned"
    for stage in run["stages"]:
        seconds, encoding = stage["seconds"], stage["encoding_seconds"]
        time = f"{seconds:.0f} s" + (f", {encoding:.0f} of them encoding" if encoding >= 1 else "")
        share = 100 * stage["parameters"] / stage["all_parameters"]
        yield (
            f"  {stage['name']}: {stage['learns']}, {stage['parameters']:,} of "
            f"{stage['all_parameters']:,} parameters ({share:.1f}%), {stage['steps']} steps, {time}"
        )


def _metric_lines(metrics: dict[str, Any]) -> Iterator[str]:
    names = list(next(iter(metrics.values()))["metrics"])
    rows = [["", *(f"{split} ({found['rows']:,} rows)" for split, found in metrics.items())]]
    rows += [[name, *(with_interval(name, found) for found in metrics.values())] for name in names]
    yield from (f"  {line}" for line in aligned(rows, "<"))
    if any(found["intervals"] for found in metrics.values()):
        yield f"  In brackets: {INTERVALS}."
    yield from dict.fromkeys(f"  {m['note']}" for m in metrics.values() if "note" in m)
    split = "test" if "test" in metrics else next(iter(metrics))
    yield from _class_lines(split, metrics[split]["per_class"])
    for by, slices in metrics[split]["slices"].items():
        if by != LENGTH:  # what was asked for; the rest is in metrics.json
            yield from _slice_lines(by, split, slices)


def _class_lines(split: str, classes: list[dict[str, Any]]) -> Iterator[str]:
    if not classes:  # scores
        return
    shown = classes
    if len(classes) > MOST_LABELS:
        shown = sorted(classes, key=lambda row: row["f1"])[:WEAKEST]
    widest = max(len(row["label"]) for row in shown)
    yield ""
    title = f"label ({split})"
    width = max(widest, len(title))
    yield f"  {title:<{width}}{'precision':>11}{'recall':>9}{'f1':>9}{'rows':>8}"
    for row in shown:
        yield (
            f"  {row['label']:<{width}}{row['precision']:>11.4f}{row['recall']:>9.4f}"
            f"{row['f1']:>9.4f}{row['support']:>8}"
        )
    if len(shown) < len(classes):
        others = len(classes) - len(shown)
        yield f"  These are the weakest; metrics.json has the other {others} labels too."


def _slice_lines(by: str, split: str, slices: list[dict[str, Any]]) -> Iterator[str]:
    first = next(iter(slices[0]["metrics"]))
    title = f"{by} ({split})"
    width = max(len(title), *(len(part["value"]) for part in slices))
    yield ""
    yield f"  {title:<{width}}{'rows':>8}  {first}"
    for part in slices:
        yield f"  {part['value']:<{width}}{part['rows']:>8}  {with_interval(first, part)}"


def _threshold_lines(said: dict[str, Any], metrics: dict[str, Any]) -> Iterator[str]:
    values = said["thresholds"].values()
    if not values:
        return
    between = f"{min(values):.3f}" + (f" to {max(values):.3f}" if len(values) > 1 else "")
    yield f"Thresholds for {said['how']}, chosen on validation: {between}; config.json has them"
    for label, why in said["left"].items():
        yield f"  {label}: {said['thresholds'][label]:g}, {why}"
    for split, found in metrics.items():
        plain = found["at_one_half"]
        told = (
            f"{name} {with_interval(name, plain)}"
            for name, value in plain["metrics"].items()
            if value != found["metrics"][name]
        )
        yield f"  {split:<12}at one half: {', '.join(told)}"


def _calibration_lines(said: dict[str, Any]) -> Iterator[str]:
    if said["left_out"] is not None:
        yield f"Confidence was left as trained: {said['left_out']}."
        return
    yield (
        f"Confidence: the logits are divided by {said['temperature']:.3f}, fitted on validation; "
        "the last layer holds it"
    )
    for split in ("validation", "test"):
        if split in said:
            before, after = said[split]["before"], said[split]["after"]
            told = (
                f"{name} {before[name]:.4f} → {after[name]:.4f}" for name in ("log_loss", "ece")
            )
            yield f"  {split:<12}{'   '.join(told)}"


def _where_lines(run: dict[str, Any], folder: Path) -> Iterator[str]:
    verified, model = run["verified"], folder / "model"
    yield f"The model is in {model}"
    yield (
        f"  a fresh process answered {verified['rows']} validation texts from it: "
        f"probabilities equal within {verified['difference']:.1e}"
    )
    yield f"  transformers.pipeline('text-classification', '{model}')"
    if (folder / REPORT_FILE).is_file():
        yield f"The report is {folder / REPORT_FILE}: open it in a browser"
