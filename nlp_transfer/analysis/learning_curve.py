"""Trains on an eighth, a quarter, half and all of the labels, to see if more would help."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from nlp_transfer.analysis.compare import rows_of
from nlp_transfer.analysis.finished_runs import Finished, common_split, open_finished
from nlp_transfer.config.composition import compose
from nlp_transfer.config.schema import Config
from nlp_transfer.data.corpus import load_run_corpus
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.evaluation.intervals.significance import (
    LEVEL,
    Contender,
    Difference,
    difference,
    draw_scores,
)
from nlp_transfer.evaluation.registry import greater_is_better
from nlp_transfer.utils.text import aligned, with_interval


@dataclass(frozen=True)
class Step:
    """A run on a part of the labels."""

    rows: int  # of train
    folder: str
    measured: dict[str, Any]  # of one split, as in metrics.json
    gain: Difference | None  # over the part before
    decisions: dict[str, Any] = field(default_factory=dict)  # what `auto` chose for this part


@dataclass(frozen=True)
class Curve:
    """The smallest part first; each has all rows of the one before."""

    split: str
    metric: str
    steps: list[Step]

    def __str__(self) -> str:
        return "\n".join([*_lines(self), "", _verdict(self)])

    def as_json(self) -> str:
        """All of it, for other programs."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"


def learning_curve(overrides: Sequence[str], config_dir: Path | None = None) -> Curve:
    """Four runs that differ in how many rows of train they have, compared on the same rows.

    Each is an ordinary run: finished ones are only read, an interrupted one goes on.

    Args:
        overrides: as `python -m nlp_transfer.train` takes them.

    Raises:
        UserError: if there are too few rows, or what a single run would raise.
    """
    config = compose(*overrides, config_dir=config_dir, in_memory=False)
    _refuse(config)
    corpus = load_run_corpus(config)
    if corpus.folds is not None:
        raise UserError(
            ExitCode.DATA,
            f"With {len(corpus.splits['train'])} rows cross-validation decides, and each point of "
            "the curve would be measured on other rows. Type evaluation.folds=0, which sets "
            "validation rows aside, or name a file of them: dataset.validation=FILE.",
        )
    sizes = parts(len(corpus.splits["train"]), len(corpus.labels))
    # It imports torch, which what is refused above need not wait for.
    from nlp_transfer.pipeline import run_and_print

    runs = [open_finished(run_and_print(_part(config, size, sizes[-1])).folder) for size in sizes]
    return _curve(runs, sizes)


def parts(rows: int, labels: int) -> list[int]:
    """An eighth, twice and four times as many, and all: so each contains the one before.

    (Drawn by label, a part of other sizes need not: shares are rounded, as in elections.)
    """
    eighth = rows // 8
    if eighth < labels:
        raise UserError(
            ExitCode.DATA,
            f"An eighth of the {rows} rows of train are {eighth} rows, for {labels} labels: too "
            "few for a learning curve. Expected at least a row of each label in the smallest part.",
        )
    return [eighth, 2 * eighth, 4 * eighth, rows]


def _refuse(config: Config) -> None:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(
            ExitCode.CONFIG,
            "A learning curve is several runs, and one launch of several processes can do only "
            "one. Start it without torchrun.",
        )
    if config.hub.repository is not None or config.dry_run:
        raise UserError(
            ExitCode.CONFIG,
            "A learning curve always trains and never uploads: leave out dry_run and "
            "hub.repository (nlp-transfer push uploads the run you choose).",
        )


def _part(config: Config, size: int, whole: int) -> Config:
    """The run of a part; that of all rows is the one that was asked for."""
    if size == whole:
        return config
    folder = None if config.run_dir is None else f"{config.run_dir}-{size}"
    evaluation = replace(config.evaluation, folds="0")  # measured on the rows of the whole
    dataset = replace(config.dataset, limit=size)
    return replace(config, run_dir=folder, dataset=dataset, evaluation=evaluation)


def _curve(runs: list[Finished], sizes: list[int]) -> Curve:
    split, metric = common_split(runs), runs[-1].metric
    answers = [run.answers(split) for run in runs]
    scores, draws = draw_scores(metric, rows_of(runs[-1], split, metric), answers)
    points = [Contender((0,), scores[[i]], draws[[i]]) for i in range(len(runs))]
    gains = [difference(here, before) for before, here in zip(points, points[1:], strict=False)]
    steps = [
        Step(size, str(run.folder), run.measured[split], gain, run.about.get("decisions", {}))
        for size, run, gain in zip(sizes, runs, [None, *gains], strict=True)
    ]
    return Curve(split, metric, steps)


def _lines(curve: Curve) -> Iterator[str]:
    last = curve.steps[-1].measured
    names = [curve.metric, *(name for name in last["metrics"] if name != curve.metric)]
    rows = [
        [
            f"{step.rows:,}",
            *(with_interval(name, step.measured) for name in names),
            "" if step.gain is None else _gain(step.gain),
        ]
        for step in curve.steps
    ]
    yield from aligned([["rows of train", *names, f"gain in {curve.metric}"], *rows])
    yield f"On {last['rows']:,} rows of {curve.split}, the same for all; in brackets 95% intervals."

    yield from _different_decisions(curve)


def _different_decisions(curve: Curve) -> Iterator[str]:
    """What `auto` did not choose alike for all parts: these points differ in more than rows."""
    names = sorted({name for step in curve.steps for name in step.decisions})
    for name in names:
        values = [step.decisions.get(name) for step in curve.steps]
        if any(value != values[0] for value in values):
            points = zip(curve.steps, values, strict=True)
            by_rows = ", ".join(f"{step.rows:,} rows: {value}" for step, value in points)
            differs = f"{name} is chosen by the data ({by_rows})"
            yield f"The points differ in more than their rows: {differs}."


def _verdict(curve: Curve) -> str:
    before, last = curve.steps[-2:]
    assert last.gain is not None
    what = (
        f"from {before.rows:,} to {last.rows:,} rows {curve.metric} changed by {_gain(last.gain)}"
    )
    better = (last.gain.value > 0) == greater_is_better(curve.metric)
    low, high = last.gain.interval
    if low == high:
        return (
            f"The data cannot tell whether more labels would help: {what}. An interval without "
            f"width does not mean certainty: these {last.measured['rows']:,} rows are too few or "
            "too easy to show a difference."
        )
    if last.gain.p >= LEVEL:
        return (
            f"The data cannot tell whether more labels would help: {what}. Curves flatten: do "
            "not expect more than this interval from another doubling."
        )
    if better:
        return f"More labels would probably help: {what}. Expect less from another doubling."
    return (
        f"More labels made it worse: {what}. Check the rows that were added last, and the settings."
    )


def _gain(gain: Difference) -> str:
    low, high = gain.interval
    return f"{gain.value:+.3f} [{low:+.3f}, {high:+.3f}]"
