"""Distils a finished run into a model with fewer layers, and compares the two."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from nlp_transfer.analysis.compare import rows_of
from nlp_transfer.analysis.finished_runs import Finished, common_split, open_finished
from nlp_transfer.config.choices import Pooling, Refit
from nlp_transfer.config.loading import read_config
from nlp_transfer.config.schema import Config
from nlp_transfer.config.sections.checkpoint import CheckpointConfig
from nlp_transfer.config.sections.delivery import HubConfig
from nlp_transfer.config.sections.strategy import StageConfig, StrategyConfig
from nlp_transfer.data.corpus import load_run_corpus
from nlp_transfer.data.sources import read_files
from nlp_transfer.data.usable_rows import read_texts
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.evaluation.intervals.significance import (
    Contender,
    Difference,
    difference,
    draw_scores,
)
from nlp_transfer.evaluation.registry import greater_is_better
from nlp_transfer.export.references import of_run
from nlp_transfer.inference.torch_engine import TorchEngine
from nlp_transfer.models.student import encoder_layers, write_student
from nlp_transfer.pipeline import run_and_print
from nlp_transfer.runs.names import CONFIG_FILE
from nlp_transfer.training.objectives.teacher import DISTILLATION
from nlp_transfer.utils.hashing import digest_of
from nlp_transfer.utils.text import aligned, with_interval

STUDENTS = "students"  # in the folder of the teacher: what its students begin with
TIMED = 256  # texts
REPETITIONS = 3


@dataclass(frozen=True)
class DistillRequest:
    """What the student is, and how it learns."""

    layers: int
    out: Path | None = None
    """Its run folder; None: beside the teacher's, `RUN-LAYERS-layers`."""
    unlabeled: str | None = None
    epochs: float = 5.0
    learning_rate: float = 1e-4
    temperature: float = 2.0
    threads: int | None = None


@dataclass(frozen=True)
class Side:
    """The teacher or the student."""

    name: str
    run: Finished
    layers: int
    ms_per_text: float

    @property
    def megabytes(self) -> float:
        """Of the weights."""
        return sum(file.stat().st_size for file in self.run.weights) / 1e6


@dataclass(frozen=True)
class Distilled:
    """A student beside its teacher."""

    sides: tuple[Side, Side]
    split: str
    metric: str
    gain: Difference
    """Of the student over the teacher."""

    @property
    def folder(self) -> Path:
        """The run folder of the student."""
        return self.sides[1].run.folder

    @property
    def lost(self) -> float:
        """How much worse the student is, in the unit of the metric; negative: it is better."""
        return -self.gain.value if greater_is_better(self.metric) else self.gain.value

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def distill(folder: Path, request: DistillRequest) -> Distilled:
    """Train a student of a finished run, as a run of its own, and compare both.

    The student begins with evenly chosen layers of the teacher and learns its logits. The same
    command continues an interrupted student, and only reads a finished one.

    Raises:
        UserError: if the teacher is no finished run, has no rows that it has not learned from, or
            has too few layers; or if the texts without labels cannot be read.
    """
    teacher = open_finished(folder)
    _refuse_unfitting(teacher)
    config = read_config(folder / CONFIG_FILE)
    corpus = load_run_corpus(config)
    if corpus.fingerprint != teacher.about["corpus"]:
        raise UserError(
            ExitCode.DATA,
            f"The data of {folder} has changed since it was trained: the student would be judged "
            "on other rows. Put it back, or train the teacher on it as it is now.",
        )
    if request.unlabeled is not None:  # before there is a run that was asked for it
        columns = (config.dataset.text, config.dataset.text_pair)
        read_texts(read_files(request.unlabeled, "--unlabeled"), *columns)
    layers, mean = encoder_layers(folder / "model")
    start = _start(folder, request)
    if not start.is_dir():
        write_student(folder / "model", request.layers, start)
    student = open_finished(run_and_print(_config(config, folder, start, mean, request)).folder)
    split = common_split([teacher, student])
    times = _times([teacher.folder, student.folder], request.threads)
    sides = (
        Side("teacher", teacher, layers, times[0]),
        Side("student", student, request.layers, times[1]),
    )
    answers = [one.answers(split) for one in (teacher, student)]
    metric = teacher.metric
    scores, draws = draw_scores(metric, rows_of(teacher, split, metric), answers)
    points = [Contender((0,), scores[[i]], draws[[i]]) for i in range(2)]
    return Distilled(sides, split, metric, difference(points[1], points[0]))


def refuse_loss(distilled: Distilled, tolerance: float) -> None:
    """Stop where the student is worse than the tolerance allows.

    Raises:
        UserError: with both figures; the student stays where it is.
    """
    if distilled.lost > tolerance:
        raise UserError(
            ExitCode.EXPORT,
            f"The student loses {distilled.lost:.4f} in {distilled.metric}, more than --tolerance "
            f"{tolerance:g}. Keep more --layers, give --unlabeled texts or more --epochs, or add "
            f"--force if that is good enough. The student is in {distilled.folder}.",
        )


def _refuse_unfitting(teacher: Finished) -> None:
    if not teacher.problem.has_labels:
        raise UserError(
            ExitCode.CONFIG,
            f"{teacher.folder} answers with scores; expected labels, whose probabilities a student "
            "learns.",
        )
    is_refit = teacher.about.get("refit") is not None or teacher.about.get("folds", 0)
    if is_refit:
        raise UserError(
            ExitCode.CONFIG,
            f"{teacher.folder} has learned from every row, so nothing is left to judge a student "
            "by: expected a teacher with rows of its own for validation. Train it with "
            "evaluation.refit=never and evaluation.folds=0.",
        )


def _start(folder: Path, request: DistillRequest) -> Path:
    """What the student begins with; named by all that the run does not know by its keys."""
    digest = hashlib.sha256(digest_of(sorted((folder / "model").glob("*.safetensors"))).encode())
    if request.unlabeled is not None and Path(request.unlabeled).is_file():
        digest.update(digest_of([Path(request.unlabeled)]).encode())
    return folder / STUDENTS / f"{request.layers}-layers-{digest.hexdigest()[:8]}"


def _config(
    config: Config, folder: Path, start: Path, mean: bool, request: DistillRequest
) -> Config:
    """The teacher's configuration with another start and another strategy."""
    stage = StageConfig(
        layers="all",
        epochs=request.epochs,
        loss=DISTILLATION,
        encoder_learning_rate=request.learning_rate,
        temperature=request.temperature,
        teacher=str(folder),
        unlabeled=request.unlabeled,
    )
    training, evaluation = config.training, config.evaluation
    out = request.out or folder.with_name(f"{folder.name}-{request.layers}-layers")
    return replace(
        config,
        run_dir=str(out),
        overwrite=False,
        checkpoint=CheckpointConfig(str(start), pooling=Pooling.mean if mean else Pooling.auto),
        strategy=StrategyConfig("distill", {"distill": stage}),
        training=replace(
            training, loss=None, class_weights="none", threads=request.threads or training.threads
        ),
        evaluation=replace(evaluation, folds="0", refit=Refit.never),
        hub=HubConfig(),
    )


def _times(folders: list[Path], threads: int | None) -> list[float]:
    """Milliseconds a text of each, by turns on the same texts; the best of a few."""
    questions = of_run(folders[0])
    texts = list(questions.texts[:TIMED])
    pairs = None if questions.pairs is None else list(questions.pairs[:TIMED])
    best = [float("inf")] * len(folders)
    engines = [TorchEngine.load(folder / "model", threads) for folder in folders]
    for _ in range(REPETITIONS):
        for i, engine in enumerate(engines):
            begin = time.perf_counter()
            engine.logits(engine.encode(texts, pairs))
            best[i] = min(best[i], 1000 * (time.perf_counter() - begin) / len(texts))
    return best


def _lines(distilled: Distilled) -> Iterator[str]:
    rows = [["", "layers", distilled.metric, "MB", "ms a text"]]
    for side in distilled.sides:
        figures = with_interval(distilled.metric, side.run.measured[distilled.split])
        size = f"{side.megabytes:.1f}"
        rows.append([side.name, str(side.layers), figures, size, f"{side.ms_per_text:.2f}"])
    yield from aligned(rows)
    low, high = distilled.gain.interval
    count = distilled.sides[0].run.measured[distilled.split]["rows"]
    yield (
        f"The student's {distilled.metric} differs by {distilled.gain.value:+.4f} [{low:+.4f}, "
        f"{high:+.4f}] on {count:,} rows of {distilled.split}, the same for both."
    )
    yield f"Student: {distilled.folder}"
