"""Writes what a person wants to see about a run."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nlp_transfer.config import Config, Solver
from nlp_transfer.evaluation import SplitEvaluation
from nlp_transfer.features import most_bytes
from nlp_transfer.lora import adapted
from nlp_transfer.model import Pretrained
from nlp_transfer.strategy import Stage, stage_steps
from nlp_transfer.tokenization import Encoded
from nlp_transfer.training import Trained, count_parameters

VERSIONS = (
    "torch",
    "transformers",
    "datasets",
    "accelerate",
    "evaluate",
    "hydra-core",
    "scikit-learn",
)
ALSO_SELECTION = "validation, also used for selection"


def measured(evaluations: dict[str, SplitEvaluation]) -> dict[str, dict[str, Any]]:
    """What `metrics.json` says: rows, metrics and intervals of each split, its per-class table."""
    return {
        split: {
            "rows": len(evaluation.references),
            "metrics": evaluation.metrics,
            "intervals": {},
            "per_class": evaluation.per_class,
            **({"note": ALSO_SELECTION} if "test" not in evaluations else {}),
        }
        for split, evaluation in evaluations.items()
    }


def versions() -> dict[str, str]:
    """Of Python and of what a run depends on."""
    return {"python": platform.python_version(), **{name: version(name) for name in VERSIONS}}


def summary(run: dict[str, Any], metrics: dict[str, Any], model: Path) -> str:
    """The end of a run on the screen, from `run.json` and `metrics.json`."""
    parts = (_stage_lines(run), _metric_lines(metrics), _where_lines(run, model))
    return "\n".join(line for part in parts for line in ("", *part))


def plan(
    pretrained: Pretrained, encoded: Encoded, stages: list[Stage], config: Config, path: Path
) -> str:
    """What a run would do: its stages, what learns in them, steps and disk."""
    size = sum(p.numel() * p.element_size() for p in pretrained.model.parameters())
    stored = max(most_bytes(pretrained, encoded, stage, config.features) for stage in stages)
    rows = len(encoded.splits["train"].labels)
    lines = [_plan_line(stage, pretrained, rows, config.training.batch_size) for stage in stages]
    # While training: the best checkpoint, the newest one, and at the end the export.
    lines.append(
        f"Disk: {size / 1e6:.0f} MB in the end, {3 * size / 1e6:.0f} MB while training, "
        f"at most {stored / 1e6:.0f} MB of features in {config.features.folder}."
    )
    lines.append(f"Run folder: {path}. Nothing was trained (dry_run=true).")
    return "\n".join(lines)


def describe_stages(stages: list[Stage], trained: Trained) -> list[dict[str, Any]]:
    """The history of every stage for `run.json`."""
    return [
        {
            "name": history.name,
            "learns": history.learns,
            "parameters": history.parameters,
            "all_parameters": history.all_parameters,
            "epochs": stage.epochs,
            "encoder_learning_rate": stage.encoder_learning_rate,
            "head_learning_rate": stage.head_learning_rate,
            "steps": history.steps,
            "seconds": round(history.seconds, 2),
            "encoding_seconds": round(history.encoding_seconds, 2),
            "best": history.best,
            "speed": None if history.speed is None else asdict(history.speed),
            "log": history.log,
        }
        for stage, history in zip(stages, trained.history, strict=True)
    ]


def _plan_line(stage: Stage, pretrained: Pretrained, rows: int, batch_size: int) -> str:
    with adapted(pretrained.model, stage, pretrained.anatomy):
        learning, all_of_them = count_parameters(pretrained.model, stage, pretrained.anatomy)
    steps = stage_steps(stage, rows, batch_size)
    how = f"{stage.epochs:g} epochs, {steps} steps of {batch_size} texts"
    if stage.solver is Solver.exact:
        how = "solved exactly"
    return (
        f"Stage {stage.name}: {stage.describe(pretrained.anatomy)} learns, {learning:,} of "
        f"{all_of_them:,} parameters, {how}."
    )


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
    width = max(len(name) for name in [*names, "validation"]) + 2
    yield f"  {'':<12}{'rows':>7}" + "".join(f"{name:>{width}}" for name in names)
    for split, found in metrics.items():
        values = "".join(f"{_number(found['metrics'][name]):>{width}}" for name in names)
        yield f"  {split:<12}{found['rows']:>7}{values}"
    if "test" not in metrics:
        yield f"  There is no labelled test split: these figures are {ALSO_SELECTION}."
    split = "test" if "test" in metrics else "validation"
    classes = metrics[split]["per_class"]
    if not classes:
        return
    widest = max(len(row["label"]) for row in classes)
    yield ""
    title = f"label ({split})"
    width = max(widest, len(title))
    yield f"  {title:<{width}}{'precision':>11}{'recall':>9}{'f1':>9}{'rows':>8}"
    for row in classes:
        yield (
            f"  {row['label']:<{width}}{row['precision']:>11.4f}{row['recall']:>9.4f}"
            f"{row['f1']:>9.4f}{row['support']:>8}"
        )


def _where_lines(run: dict[str, Any], model: Path) -> Iterator[str]:
    verified = run["verified"]
    yield f"The model is in {model}"
    yield (
        f"  a fresh process answered {verified['rows']} validation texts from it: "
        f"probabilities equal within {verified['difference']:.1e}"
    )
    yield f"  transformers.pipeline('text-classification', '{model}')"


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"
