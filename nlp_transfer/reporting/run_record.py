"""Reads the files of a run, finished or not, for its reports."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nlp_transfer.config.constants import POOLED_LAST_LAYER, POOLED_LAYER
from nlp_transfer.config.loading import read_config
from nlp_transfer.config.schema import Config
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.evaluation.registry import greater_is_better
from nlp_transfer.models.strategies.recipes import recipe_of
from nlp_transfer.problems import Problem, problem_named
from nlp_transfer.reporting.splits import reported_split
from nlp_transfer.runs.folder import State
from nlp_transfer.runs.names import (
    CONFIG_FILE,
    DATA_REPORT_FILE,
    EXPLANATIONS_FILE,
    METRICS_FILE,
    MISTAKES_FILE,
    RUN_FILE,
)
from nlp_transfer.training.optimization.checkpointing import STATE
from nlp_transfer.training.stages.history import AFTER, HISTORY
from nlp_transfer.utils.files import read_json, read_run_file

EVALUATED = "eval_"  # before the names of metrics in a log


@dataclass(frozen=True)
class StageSoFar:
    """One stage as far as it has come."""

    name: str
    done: bool
    steps: int
    planned: int  # steps
    description: dict[str, Any]  # as in `run.json`, where it is done
    log: list[dict[str, Any]]  # losses and validation metrics, by step

    @property
    def held_out(self) -> str | None:
        """What a stage that reads no labels did to the loss of texts that it did not learn."""
        return held_out_texts(self.log)


def held_out_texts(log: list[dict[str, Any]]) -> str | None:
    """The loss and the perplexity of held-out texts before and after a stage, in words.

    Args:
        log: of the stage; None for one that is measured by labels.
    """
    if not log or log[0].get("step") != 0:
        return None
    before, after = log[0], log[-1]
    text = f"loss on held-out texts {before['eval_loss']:.3f} → {after['eval_loss']:.3f}"
    if "eval_perplexity" in before:
        text += f", perplexity {before['eval_perplexity']:.4g} → {after['eval_perplexity']:.4g}"
    return text


@dataclass(frozen=True)
class RunRecord:
    """One run, from its files; a file that does not exist is an empty entry."""

    path: Path
    config: Config
    run: dict[str, Any]
    metrics: dict[str, Any]
    data: dict[str, Any]
    mistakes: dict[str, Any]
    explanations: dict[str, Any]
    stages: list[StageSoFar]  # those that have begun, in their order
    to_come: list[str]  # names of stages

    @property
    def finished(self) -> bool:
        """Whether the model is there."""
        return self.run["state"] == State.finished.value

    @property
    def problem(self) -> Problem | None:
        """The kind of label; None while the run has not decided it."""
        return problem_named(self.run["problem"]) if "problem" in self.run else None

    @property
    def best(self) -> str | None:
        """The name of the metric that chose the epochs."""
        evaluation = self.config.evaluation
        if evaluation.best is not None:
            return evaluation.best
        defaults = () if self.problem is None else self.problem.default_metrics
        names = evaluation.metrics or list(defaults)
        return names[0] if names else next(iter(_measured(self.stages)), None)

    def shown(self, figures: dict[str, Any]) -> str:
        """The main metric of a split or slice: the one that chose the epochs, if it is there."""
        names = list(figures["metrics"])
        return self.best if self.best is not None and self.best in names else names[0]

    def greater_is_better(self, metric: str) -> bool:
        """Whether more of a metric is better."""
        lower = self.run.get("lower_is_better", ())
        return metric not in lower and greater_is_better(metric)

    def best_step(self, log: list[dict[str, Any]]) -> dict[str, Any] | None:
        """The entry of a stage's log whose weights were kept: the first of the best."""
        key = f"{EVALUATED}{self.best}"
        looks = [entry for entry in log if entry.get(key) is not None]
        if self.best is None or not looks:
            return None
        sign = 1 if self.greater_is_better(self.best) else -1
        return looks[int(np.argmax([sign * entry[key] for entry in looks]))]

    @property
    def split(self) -> str:
        """The split that the figures are of."""
        return reported_split(self.metrics) if self.metrics else "validation"


def read_record(folder: Path) -> RunRecord:
    """The content of a run folder.

    Raises:
        UserError: if there is no run, or one whose files are not whole.
    """
    missing = [name for name in (RUN_FILE, CONFIG_FILE) if not (folder / name).is_file()]
    if missing:
        raise UserError(
            ExitCode.RUN_FOLDER,
            f"{folder} is not the folder of a run: it has no {' and no '.join(missing)}. "
            "Give a folder that `python -m nlp_transfer.train` wrote, such as runs/….",
        )
    run = read_run_file(folder / RUN_FILE)
    config = read_config(folder / CONFIG_FILE)
    stages = list(_finished_stages(run)) or list(_stages_on_disk(folder))
    names = {stage.name for stage in stages}
    return RunRecord(
        folder,
        config,
        run,
        _read(folder / METRICS_FILE),
        _read(folder / DATA_REPORT_FILE),
        _read(folder / MISTAKES_FILE),
        _read(folder / EXPLANATIONS_FILE),
        stages,
        [name for name in _planned(config, run) if name not in names],
    )


def _read(file: Path) -> dict[str, Any]:
    return read_json(file) if file.is_file() else {}


def _measured(stages: list[StageSoFar]) -> Iterator[str]:
    for stage in stages:
        for entry in stage.log:
            yield from (n.removeprefix(EVALUATED) for n in entry if n.startswith(EVALUATED))


def _planned(config: Config, run: dict[str, Any]) -> list[str]:
    """The names of the stages, once they are decided."""
    decisions = run.get("decisions", {})
    if run["state"] == State.finished.value or (
        config.strategy.is_auto and "strategy" not in decisions
    ):
        return []
    return list(recipe_of(config.strategy, decisions.get("strategy", "")).strategy.stages)


def _finished_stages(run: dict[str, Any]) -> Iterator[StageSoFar]:
    for stage in run.get("stages", []):
        yield StageSoFar(stage["name"], True, stage["steps"], stage["steps"], stage, stage["log"])


def _stages_on_disk(folder: Path) -> Iterator[StageSoFar]:
    """Of an unfinished run: finished stages by their histories, the current one by its newest
    checkpoint.
    """
    homes = (folder / "checkpoints").glob("*-*")
    for home in sorted(homes, key=lambda home: int(home.name.split("-")[0])):
        name = home.name.partition("-")[2]
        if (home / AFTER / HISTORY).is_file():
            stage = read_json(home / AFTER / HISTORY)
            yield StageSoFar(name, True, stage["steps"], stage["steps"], stage, stage["log"])
            continue
        states = [_state(file) for file in home.glob(f"checkpoint-*/{STATE}")]
        readable = [state for state in states if state]
        if readable:
            newest = max(readable, key=lambda state: state["global_step"])
            steps, planned = newest["global_step"], newest["max_steps"]
            yield StageSoFar(name, False, steps, planned, {}, newest["log_history"])


def _state(file: Path) -> dict[str, Any]:
    """Of a checkpoint that may be half-written."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def is_solved(stage: StageSoFar) -> bool:
    """Whether no step was needed."""
    return stage.done and not stage.steps and bool(stage.log)


def chosen_pooling(run: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and value of what `checkpoint.pooling=auto` chose, where it did."""
    decisions = run.get("decisions", {})
    learned = any(stage["steps"] for stage in run.get("stages", ()))
    names = [POOLED_LAST_LAYER, POOLED_LAYER] if learned else [POOLED_LAYER, POOLED_LAST_LAYER]
    if chosen := next((decisions[name] for name in names if name in decisions), None):
        what = "the first token" if chosen["pooling"] == "first" else "the mean of all tokens"
        yield "pooling", f"{what}, layer {chosen['layer']}"
