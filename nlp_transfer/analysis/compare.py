"""Compares finished runs, and tests which differences are significant."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from nlp_transfer.analysis.finished_runs import Finished, common_split, open_all
from nlp_transfer.errors import ExitCode, UserError, damaged
from nlp_transfer.evaluation.intervals.significance import (
    LEVEL,
    Contender,
    Difference,
    Rows,
    difference,
    draw_scores,
    holm,
    mcnemar,
    score_of,
)
from nlp_transfer.evaluation.registry import greater_is_better, metrics_of
from nlp_transfer.evaluation.rows import Classes
from nlp_transfer.runs.predictions import read_predictions

SEEDS, FOLDS = "seeds", "folds"  # what a row of several runs is the mean of
SETTING = {SEEDS: "seed", FOLDS: "dataset.fold"}
FIRST = ("strategy.name", "checkpoint.name", "dataset.limit")  # what sets runs apart, usually


@dataclass(frozen=True)
class Entry:
    """One row of the table: a run, or runs that differ only in the seed, or only in the fold."""

    name: str
    runs: list[Finished]  # by seed or fold
    contender: Contender

    @property
    def is_one_run(self) -> bool:
        """Whether there is a single seed or fold."""
        return len(self.runs) == 1

    def mean(self, of: str) -> float | None:
        """Over the runs: learns, parameters, megabytes, ms_per_text or seconds; None: not known."""
        values = [costs(run)[of] for run in self.runs]
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if len(known) == len(values) else None


@dataclass(frozen=True)
class Pair:
    """Two entries, the better one first."""

    one: str
    other: str
    difference: Difference
    mcnemar: float | None  # of the accuracies of two single runs
    tie: bool  # all comparisons together, the data cannot tell them apart


@dataclass(frozen=True)
class Comparison:
    """What `nlp-transfer compare` prints."""

    split: str
    rows: int  # of all folds
    metric: str
    over: str  # SEEDS or FOLDS
    entries: list[Entry]  # the best first
    pairs: list[Pair]
    notes: list[str]


def compare(folders: Sequence[Path], metric: str | None = None) -> Comparison:
    """Compare finished runs, and those of sweeps, on the rows that all of them answered.

    Args:
        metric: one of ours, whether the runs measured it or not; None: that which chose the epoch.

    Raises:
        UserError: if there is nothing to compare, or not on the same rows.
    """
    runs, notes = open_all(folders)
    if len(runs) < 2:
        left_out = "".join(f"\n  {note}" for note in notes)
        raise UserError(
            ExitCode.CONFIG, f"Expected two finished runs or more, found {len(runs)}.{left_out}"
        )
    split = common_split(runs)
    if split == "validation":
        notes.append(
            "compared on validation, on which choices were made, too: not all have a test split"
        )
    metric = metric or _chosen_by(runs)
    over = FOLDS if len({run.fold for run in runs}) > 1 else SEEDS
    scores, draws = _scores(runs, split, metric, over)
    if not np.isfinite(scores).all():
        raise UserError(ExitCode.DATA, f"{metric} is undefined on these {split} rows.")
    entries = _entries(runs, scores, draws, over)
    entries.sort(key=lambda entry: entry.contender.score, reverse=greater_is_better(metric))
    pairs = _pairs(entries, split, metric) if over == SEEDS else []
    notes += _of_folds(entries) if over == FOLDS else []
    rows = sum({run.fold: run.measured[split]["rows"] for run in runs}.values())
    return Comparison(split, rows, metric, over, entries, pairs, notes)


def costs(run: Finished) -> dict[str, float | None]:
    """What a run's model weighs and takes; a cross-validated run has no `ms_per_text`."""
    parameters = 0
    for file in run.weights:
        try:
            with safe_open(file, "np") as weights:
                shapes = (weights.get_slice(name).get_shape() for name in weights.keys())  # noqa: SIM118
                parameters += sum(int(np.prod(shape)) for shape in shapes)
        except (SafetensorError, OSError) as error:
            raise damaged(file, f"it holds no weights ({error})") from error
    return {
        "learns": max(stage["parameters"] for stage in run.about["stages"]),
        "parameters": parameters,
        "megabytes": sum(file.stat().st_size for file in run.weights) / 1e6,
        "ms_per_text": run.about["ms_per_text"],
        "seconds": run.seconds,
    }


def as_json(result: Comparison) -> str:
    """All of it, for other programs."""
    entries = [
        {
            "name": entry.name,
            "runs": [str(run.folder) for run in entry.runs],
            result.over: entry.contender.seeds,
            "score": entry.contender.score,
            "spread": entry.contender.spread,
            "metrics": [run.measured[result.split]["metrics"] for run in entry.runs],
            "intervals": [run.measured[result.split]["intervals"] for run in entry.runs],
            **{name: entry.mean(name) for name in costs(entry.runs[0])},
        }
        for entry in result.entries
    ]
    pairs = [asdict(pair) for pair in result.pairs]
    content = {"split": result.split, "rows": result.rows, "metric": result.metric}
    content |= {"entries": entries, "pairs": pairs, "notes": result.notes}
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _chosen_by(runs: Sequence[Finished]) -> str:
    names = sorted({run.metric for run in runs})
    if len(names) > 1:
        raise UserError(
            ExitCode.CONFIG,
            f"The runs were chosen by different metrics ({', '.join(names)}): name one to "
            "are compared, as in --metric accuracy.",
        )
    return names[0]


def rows_of(run: Finished, split: str, metric: str) -> Rows:
    """The rows of a run's split, if the metric can be measured on them."""
    labels = tuple(run.about["labels"])
    comparable = [
        name
        for name, registered in metrics_of(run.problem.metric_kind).items()
        if len(labels) == 2 or not registered.binary
    ]
    if metric not in comparable:
        raise UserError(
            ExitCode.CONFIG,
            f"The runs cannot be compared by the metric {metric!r}; expected one of "
            f"{', '.join(comparable)}.",
        )
    positive = run.settings["evaluation.positive_label"]
    classes = Classes(labels, len(labels) - 1 if positive is None else labels.index(positive))
    return Rows(classes, read_predictions(run.folder, split)[1])


def _scores(
    runs: Sequence[Finished], split: str, metric: str, over: str
) -> tuple[np.ndarray, np.ndarray]:
    """Of each run, and on the documents drawn again, which runs of several folds do not share."""
    if over == SEEDS:
        answers = [run.answers(split) for run in runs]
        return draw_scores(metric, rows_of(runs[0], split, metric), answers)
    scores = [score_of(metric, rows_of(run, split, metric), run.answers(split)) for run in runs]
    return np.array(scores), np.empty((len(runs), 0))


def _of_folds(entries: Sequence[Entry]) -> Iterator[str]:
    """What to know of means over folds."""
    for entry in entries:
        folds = range(entry.runs[0].settings["dataset.folds"])
        missing = sorted({*folds} - {*entry.contender.seeds})
        if missing:
            folds_without_run = ", ".join(map(str, missing))
            yield f"{entry.name}: there is no run of fold {folds_without_run} of {len(folds)}"
    if len(entries) > 1:
        yield (
            "the folds share most of their training rows, so there is no valid p-value of the "
            "difference of their means"
        )


def _entries(
    runs: Sequence[Finished], scores: np.ndarray, draws: np.ndarray, over: str
) -> list[Entry]:
    """Runs that differ only in the seed (or fold) together; the same one twice is two entries."""
    groups: list[dict[int, int]] = []  # by seed, which run
    of: dict[str, list[dict[int, int]]] = {}
    for i, run in enumerate(runs):
        others = {key: value for key, value in run.settings.items() if key != SETTING[over]}
        same = of.setdefault(json.dumps(others, sort_keys=True), [])
        seed = int(run.settings[SETTING[over]])
        group = next((group for group in same if seed not in group), None)
        if group is None:
            group = {}
            same.append(group)
            groups.append(group)
        group[seed] = i
    of_seeds = [dict(sorted(group.items())) for group in groups]
    names = _names([[runs[i] for i in group.values()] for group in of_seeds], over)
    return [
        Entry(
            name,
            [runs[i] for i in group.values()],
            Contender(tuple(group), scores[[*group.values()]], draws[[*group.values()]]),
        )
        for name, group in zip(names, of_seeds, strict=True)
    ]


def _names(groups: list[list[Finished]], over: str) -> list[str]:
    """By as few settings as set them apart, else by their folders."""
    firsts = [group[0].settings for group in groups]
    differing = [
        key
        for key in (*FIRST, *sorted(set().union(*firsts) - {*FIRST, SETTING[over]}))
        if len({json.dumps(one.get(key)) for one in firsts}) > 1
    ]
    names = [""] * len(groups)
    for key in differing:
        values = [f"{key.removesuffix('.name')}={_value(one, key)}" for one in firsts]
        longer = [f"{name} {value}".strip() for name, value in zip(names, values, strict=True)]
        names = longer if len({*longer}) > len({*names}) else names
    names = [
        name if names.count(name) == 1 else f"{name} {group[0].folder}".strip()
        for name, group in zip(names, groups, strict=True)
    ]
    return [name or f"{len(group)} {over}" for name, group in zip(names, groups, strict=True)]


def _value(settings: Mapping[str, Any], key: str) -> str:
    setting = settings.get(key)
    if setting is None and key == "dataset.name":  # files have no other name
        setting = settings.get("dataset.train")
    return str(setting).rstrip("/").rsplit("/", 1)[-1]


def _pairs(entries: list[Entry], split: str, metric: str) -> list[Pair]:
    differences = []
    for one, other in combinations(entries, 2):
        exact = None
        if metric == "accuracy" and one.is_one_run and other.is_one_run:
            exact = _exact(one.runs[0], other.runs[0], split)
        differences.append((one, other, difference(one.contender, other.contender), exact))
    together = holm([max(between.p, exact or 0.0) for _, _, between, exact in differences])
    return [
        Pair(one.name, other.name, between, exact, p >= LEVEL)
        for (one, other, between, exact), p in zip(differences, together, strict=True)
    ]


def _exact(one: Finished, other: Finished, split: str) -> float | None:
    if not one.problem.integer_references:
        return None
    _, references = read_predictions(one.folder, split)
    return mcnemar(references, *(run.answers(split).decisions() for run in (one, other)))
