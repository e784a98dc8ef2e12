"""Opens finished runs and sweeps, and checks that they were measured on the same rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlp_transfer.config.loading import read_tree
from nlp_transfer.config.schema import Config
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.evaluation.intervals.significance import Answers
from nlp_transfer.problems import Problem, problem_named
from nlp_transfer.problems.decoder import Decoder
from nlp_transfer.reporting.splits import reported_split
from nlp_transfer.runs.folder import State, refuse_another_run
from nlp_transfer.runs.identity import DIGEST, default_settings, run_path, settings
from nlp_transfer.runs.names import CODE, CONFIG_FILE, METRICS_FILE, RUN_FILE
from nlp_transfer.runs.predictions import read_predictions
from nlp_transfer.utils.files import not_a_run, read_json, read_run_file, runs_nearby

if TYPE_CHECKING:
    from nlp_transfer.data.corpus import Corpus

JOBS = "job-*.json"  # of a sweep


@dataclass(frozen=True)
class Finished:
    """A finished run, as its folder tells it."""

    folder: Path
    settings: dict[str, Any]  # by full name, such as training.batch_size
    about: dict[str, Any]  # run.json
    measured: dict[str, dict[str, Any]]  # metrics.json

    @property
    def problem(self) -> Problem:
        """What is asked of a text."""
        return problem_named(self.about["problem"])

    def answers(self, split: str) -> Answers:
        """What it answered to each row of a split."""
        logits, _ = read_predictions(self.folder, split)
        thresholds = self.about["thresholds"]["thresholds"]
        return Answers(logits, Decoder(tuple(self.about["labels"]), self.problem, thresholds))

    @property
    def metric(self) -> str:
        """The one that chose its epoch."""
        metrics = self.settings["evaluation.metrics"] or self.problem.default_metrics
        return self.settings["evaluation.best"] or metrics[0]

    @property
    def fold(self) -> int:
        """Which one was its test split; 0 where there are none (older runs could not have any)."""
        return int(self.settings.get("dataset.fold", 0))

    @property
    def seconds(self) -> float:
        """Of training."""
        return sum(stage["seconds"] for stage in self.about["stages"])

    @property
    def weights(self) -> list[Path]:
        """The files with its weights."""
        return sorted((self.folder / "model").glob("*.safetensors"))


def open_finished(folder: Path) -> Finished:
    """A run by its folder.

    Raises:
        UserError: if it is none, is not finished, or is of a version that kept no answers.
    """
    if not (folder / RUN_FILE).is_file():
        raise UserError(
            ExitCode.RUN_FOLDER,
            f"{not_a_run(folder)}: expected a folder with {RUN_FILE}, or that of a sweep."
            f"{runs_nearby(folder)}",
        )
    about = read_run_file(folder / RUN_FILE)
    if about["state"] != State.finished.value:
        raise UserError(
            ExitCode.RUN_FOLDER,
            f"The run {folder} is not finished. The command that started it continues it.",
        )
    if "predictions" not in about:
        raise UserError(
            ExitCode.RUN_FOLDER,
            f"{folder} was written by a version that stored no predictions. Train it again with "
            "overwrite=true.",
        )
    return _read(folder)


def _read(folder: Path) -> Finished:
    tree = read_tree(folder / CONFIG_FILE)
    about, measured = read_json(folder / RUN_FILE), read_json(folder / METRICS_FILE)
    complete = {**default_settings(), **settings(tree)}  # with options of a later version
    return Finished(folder, complete, about, measured)


def find_finished(config: Config, read: Callable[[], Corpus]) -> tuple[Finished, Corpus] | None:
    """The finished run of a configuration, and its data; None: it has to be trained.

    Without torch and transformers.

    Args:
        read: the data; called only where a finished run is in question.

    Raises:
        UserError: if the data cannot be read, or `run_dir` holds another run.
    """
    folder = run_path(config, "")
    folders = [folder] if config.run_dir else folder.parent.glob(f"{folder.name[:-DIGEST]}*")
    if not any(is_finished(each) for each in folders):
        return None
    corpus = read()
    folder = run_path(config, corpus.fingerprint)
    if not is_finished(folder) or read_json(folder / RUN_FILE).get(CODE):
        return None  # code outside this package is hashed where it is used, with torch
    refuse_another_run(folder, config, corpus.fingerprint)
    return _read(folder), corpus


def is_finished(folder: Path) -> bool:
    """Whether a folder holds a finished run."""
    file = folder / RUN_FILE
    return file.is_file() and read_json(file).get("state") == State.finished.value


def open_all(folders: Sequence[Path]) -> tuple[list[Finished], list[str]]:
    """Runs, and those of sweeps; and a word about every job that is left out.

    Raises:
        UserError: as `open_finished`, of a run that is named itself.
    """
    runs: list[Finished] = []
    notes: list[str] = []
    for folder in folders:
        jobs = sorted(folder.glob(JOBS)) if not (folder / RUN_FILE).is_file() else []
        if not jobs:
            runs.append(open_finished(folder))
        for run in dict.fromkeys(_run_of(job, notes) for job in jobs):
            try:
                runs += [] if run is None else [open_finished(run)]
            except UserError as error:
                notes.append(f"left out: {error}")
    return runs, notes


def common_split(runs: Sequence[Finished]) -> str:
    """The first of test, cross-validation and validation that all runs have.

    Raises:
        UserError: if they share none, or if they (of several folds: those of each fold) were not
            measured on the same rows.
    """
    shared = set.intersection(*(set(run.about["predictions"]) for run in runs))
    if not shared:
        splits_by_run = "".join(
            f"\n  {run.folder}: {', '.join(run.about['predictions'])}" for run in runs
        )
        raise UserError(
            ExitCode.DATA,
            f"The runs have no split in common: expected test, cross_validation or validation in "
            f"each, found:{splits_by_run}\nCompare runs that were measured in the same way.",
        )
    split = reported_split(shared)
    of_fold = {run.fold: run for run in reversed(runs)}
    for run in runs:
        _refuse_different(runs[0], run, "the problems", lambda one: one.about["problem"])
        _refuse_different(runs[0], run, "the labels", lambda one: one.about["labels"])
        if len(of_fold) > 1:
            _refuse_different(runs[0], run, "the folds", lambda one: one.settings["dataset.folds"])
        what = f"the rows of {split}" + (f" in fold {run.fold}" if len(of_fold) > 1 else "")
        _refuse_different(of_fold[run.fold], run, what, lambda one: _rows(one, split))
    return split


def _refuse_different(
    one: Finished, other: Finished, what: str, of: Callable[[Finished], Any]
) -> None:
    there, here = of(one), of(other)
    if there != here:
        raise UserError(
            ExitCode.DATA,
            f"{one.folder} and {other.folder} cannot be compared: {what} differ ({_short(there)} "
            f"there, {_short(here)} here). Compare runs on the same texts and labels; a split that "
            "is cut from train depends on the seed, so give it a file, or set dataset.cut=hash.",
        )


def _run_of(job: Path, notes: list[str]) -> Path | None:
    """The run of a job, from where the sweep was started or beside its folder."""
    entry = read_json(job)
    if "error" in entry:
        notes.append(f"left out, it failed: {' '.join(entry['overrides'])}")
        return None
    run = Path(entry["run"])
    beside = job.parent.parent / run.name
    return beside if not run.is_dir() and beside.is_dir() else run


def _rows(run: Finished, split: str) -> str:
    return f"{run.measured[split]['rows']} rows, SHA-256 {run.about['predictions'][split]}"


def _short(value: Any) -> str:
    text = ", ".join(value) if isinstance(value, list) else str(value)
    return text if len(text) <= 80 else f"{text[:40]}…"
