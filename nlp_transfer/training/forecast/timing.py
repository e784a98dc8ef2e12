"""Times a few steps of every stage of a recipe, on a sample of train, by the training itself.

The sample goes through `train` with every shortcut there is: adapters, stored features, solved
heads, the losses of embeddings and pairs. Nothing of the run is touched: the model is a copy, the
folder is thrown away, and the random state is put back.
"""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls

from nlp_transfer.config.constants import AUTO
from nlp_transfer.config.schema import Config
from nlp_transfer.inference.torch_engine import predict_logits
from nlp_transfer.models.strategies.recipes import Recipe
from nlp_transfer.models.strategies.stages import Stage
from nlp_transfer.runs.folder import RunFolder, State
from nlp_transfer.runs.names import RUN_FILE
from nlp_transfer.tokenization.encoded import Encoded, EncodedSplit
from nlp_transfer.tokenization.model_inputs import tokens_at_once
from nlp_transfer.tokenization.subsets import select_documents
from nlp_transfer.training.context import TrainingContext
from nlp_transfer.training.extensions import Extensions
from nlp_transfer.training.forecast.clock import StageClock, Watched, processor_seconds
from nlp_transfer.training.forecast.work import epoch_works, inference_work, systematic_sample
from nlp_transfer.training.loop import train
from nlp_transfer.training.optimization.batching import accumulation_steps
from nlp_transfer.training.stages.history import StageHistory
from nlp_transfer.training.stages.stage_run import loss_of
from nlp_transfer.utils.distributed import ProcessContext, broadcast_from_rank_zero, wait
from nlp_transfer.utils.files import write_json
from nlp_transfer.utils.logging import warnings_only

SAMPLE = 192  # rows
QUICK_SAMPLE = 64  # where a run waits for it
STEPS = 5  # of each stage; the first one sets things up and is not counted


@dataclass(frozen=True)
class StageTiming:
    """What one stage costs on this machine, in seconds of its processor.

    Of a CPU that is its own time, over all threads: what others compute meanwhile does not count.
    """

    stage: Stage  # with the steps that it has in the run
    reads: str  # of its loss: logits, embeddings, pairs or teacher
    setup: float  # seconds, however long the stage is
    step: tuple[float, float]  # seconds of a step: however short, and for a unit of work
    encoding: float  # seconds for a unit of work, once, where frozen layers are stored
    solving: float  # seconds for a row, where the head is solved
    evaluation: float  # seconds for a unit of work of validation
    activations: tuple[float, float]  # bytes for a token, and for a pair of tokens of a text
    parameters: int  # that learn
    steps_timed: int = 0


@dataclass(frozen=True)
class Timing:
    """What the stages of a recipe cost on this machine."""

    stages: list[StageTiming]
    answering: float  # seconds for a unit of work, without gradients
    weights: int  # bytes of the model
    width: int
    slowdown: float  # seconds a second of the processor: more where others compute, too


def time_recipe(context: TrainingContext, recipe: Recipe, quick: bool = False) -> Timing:
    """Train a few steps of every stage on a sample.

    Args:
        quick: on a smaller sample, where a run waits for it.

    Raises:
        UserError: where the recipe cannot be trained on this data.
    """
    process = context.folder.process
    start, busy = time.perf_counter(), processor_seconds(process.device)
    with warnings_only(), _random_state_kept(), _temporary_folder(process) as folder:
        config, pretrained, stages = context.start(recipe)
        config = _apart(config, folder.path)
        model, width = pretrained.model, int(pretrained.model.config.hidden_size)
        encoded = _sample(context, recipe, QUICK_SAMPLE if quick else SAMPLE)
        clock = StageClock(process.device, {p.data_ptr() for p in model.parameters()})
        extensions = Extensions((), (clock,), context.extensions.loss)
        problem = context.metrics.problem
        short = [
            replace(stage, steps=STEPS if stage.steps is None else min(STEPS, stage.steps))
            for stage in stages
        ]
        trained = train(pretrained, encoded, short, context.metrics, config, folder, extensions)
        answering = _answering_seconds(trained.model, encoded, width, config)
        wall, busy = time.perf_counter() - start, processor_seconds(process.device) - busy
        slowdown = wall / busy
        timings = []
        clocked = iter(clock.stages)
        for index, (stage, history) in enumerate(zip(stages, trained.history, strict=True)):
            watched = next(clocked) if history.steps else Watched()
            reads = loss_of(stage, config, problem, context.extensions).reads
            works = _works(config, encoded, index, reads, width, process)
            seconds = (history.seconds / slowdown, history.encoding_seconds / slowdown)
            history = replace(history, seconds=seconds[0], encoding_seconds=seconds[1])
            timing = _timing(stage, reads, history, watched, works, encoded, width, process)
            # A store is written once; what is fixed of it is no matter where rows are many.
            timings.append(replace(timing, encoding=min(timing.encoding, answering)))
        weights = sum(p.numel() * p.element_size() for p in model.parameters())
    return Timing(timings, answering, weights, width, slowdown)


def _timing(  # noqa: PLR0913
    stage: Stage,
    reads: str,
    history: StageHistory,
    watched: Watched,
    works: list[float] | None,
    encoded: Encoded,
    width: int,
    process: ProcessContext,
) -> StageTiming:
    train, tokens = encoded.splits["train"], tokens_at_once(process.device)
    validation = encoded.splits.get("validation")
    held_out = 0.0 if validation is None else inference_work(validation, width, tokens)
    read = inference_work(train, width, tokens) + held_out
    rest = history.seconds - history.encoding_seconds - sum(watched.steps)
    rest = max(rest - sum(watched.evaluations), 0.0)
    timed = watched.steps[1:] or watched.steps
    if not timed:
        step = (0.0, 0.0)
    elif works is None:
        step = (float(np.mean(timed)), 0.0)
    else:
        done = len(watched.steps)
        step = _fit([(1.0, work) for work in works[done - len(timed) : done]], timed)
    return StageTiming(
        stage=stage,
        reads=reads,
        setup=rest if history.steps else 0.0,
        step=step,
        encoding=history.encoding_seconds / read if stage.lowest > 1 else 0.0,
        solving=0.0 if history.steps else rest / len(train.labels),
        evaluation=float(np.mean(watched.evaluations)) / held_out if watched.evaluations else 0.0,
        activations=_fit([kept[:2] for kept in watched.kept], [kept[2] for kept in watched.kept]),
        parameters=history.parameters,
        steps_timed=len(timed),
    )


def _fit(rows: list[tuple[float, float]], values: list[float]) -> tuple[float, float]:
    """Two coefficients, neither below 0, that give the values in proportion."""
    if not values:
        return 0.0, 0.0
    table, scale = np.array(rows, dtype=float), 1 / np.maximum(np.array(values), 1e-12)
    units = np.maximum(table.max(axis=0), 1e-12)  # for the solver's sake
    solution, _ = nnls((table / units) * scale[:, None], np.ones(len(values)))
    one, other = solution / units
    return float(one), float(other)


def _works(
    config: Config, encoded: Encoded, index: int, reads: str, width: int, process: ProcessContext
) -> list[float] | None:
    """The work of each timed step; None where batches are not planned by length."""
    if reads != "logits":
        return None
    training, train = config.training, encoded.splits["train"]
    seed = (config.seed + index) % 2**32
    works = epoch_works(train, training.batch_size, seed, width, parts_of_step(config, process))
    while len(works) < STEPS:
        works = [*works, *works]  # the later epochs of a few rows
    return works[:STEPS]


def parts_of_step(config: Config, process: ProcessContext) -> int:
    """Micro-batches of a global batch, over all processes."""
    micro = config.training.micro_batch_size
    size = None if isinstance(micro, str) else micro
    accumulation = accumulation_steps(config.training.batch_size, size, process.world_size)
    return accumulation * process.world_size


def _sample(context: TrainingContext, recipe: Recipe, count: int) -> Encoded:
    """A sample of train, and of validation where there is one."""
    splits: dict[str, EncodedSplit] = {}
    strata = context.metrics.problem.strata
    for name, rows in (("train", count), ("validation", count // 3)):
        split = context.encoded.splits.get(name)
        if split is not None and len(split.labels):
            chosen = systematic_sample(split, strata(split.labels), rows)
            splits[name] = select_documents(split, chosen)
    splits["train"] = context.training_rows(recipe, splits["train"])
    return Encoded(splits, context.encoded.collator)


def _answering_seconds(model: Any, encoded: Encoded, width: int, config: Config) -> float:
    """Seconds of the processor for a unit of work without gradients."""
    split = encoded.splits.get("validation", encoded.splits["train"])
    start = processor_seconds(model.device)
    predict_logits(model, split.inputs, encoded.collator, config.evaluation.max_tokens)
    work = inference_work(split, width, tokens_at_once(model.device))
    return (processor_seconds(model.device) - start) / work


def _apart(config: Config, folder: Path) -> Config:
    """The configuration of a training that leaves nothing."""
    training = replace(config.training, report_to=[], progress=False, early_stopping=None)
    if training.micro_batch_size == AUTO:
        training = replace(training, micro_batch_size=None)
    features = replace(config.features, folder=str(folder / "features"))
    return replace(config, training=training, features=features)


@contextmanager
def _temporary_folder(process: ProcessContext) -> Iterator[RunFolder]:
    """Of a run, the same for all processes."""
    path = Path(broadcast_from_rank_zero(lambda: tempfile.mkdtemp(), process))
    try:
        if process.is_first:
            write_json(path / RUN_FILE, {})
        wait(process)
        yield RunFolder(path, State.absent, process, keeps_last=False)
    finally:
        if process.is_first:
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _random_state_kept() -> Iterator[None]:
    """Whatever was drawn meanwhile, what follows draws as if nothing had been."""
    states = random.getstate(), np.random.get_state()
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng())
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
