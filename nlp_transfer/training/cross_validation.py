"""Trains on all folds but one and answers that one, for each fold: out-of-fold logits."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from nlp_transfer.models.strategies.recipes import Recipe
from nlp_transfer.runs.folder import RunFolder
from nlp_transfer.tokenization.subsets import select_documents
from nlp_transfer.training.context import TrainingContext
from nlp_transfer.training.loop import train
from nlp_transfer.training.self_training import rows_to_learn
from nlp_transfer.training.shared_stages import train_shared_stages, use_shared_stages
from nlp_transfer.utils.distributed import broadcast_from_rank_zero, wait
from nlp_transfer.utils.logging import logger
from nlp_transfer.utils.text import seconds as in_words

WORTH_SAYING = 10.0  # seconds that the folds to come take


def cross_validate(context: TrainingContext, recipe: Recipe, folds: np.ndarray) -> np.ndarray:
    """Logits of every row of train by a model that has not learned from its fold.

    A fold that is finished is on the disk; one that was interrupted goes on.

    Args:
        folds: int [rows].

    Returns:
        float32 [rows, labels], on every process.
    """
    train_shared_stages(context, recipe)
    rows, process = context.encoded.splits["train"], context.folder.process
    logits: np.ndarray | None = None
    count = int(folds.max()) + 1
    for fold in range(count):
        part = replace(context.folder, part=f"folds/{recipe.name}/{fold}", keeps_last=False)
        file = part.checkpoints.with_suffix(".npy")
        start = time.monotonic()
        if not broadcast_from_rank_zero(file.is_file, process):
            parts = count - fold + 1
            answers = answer_fold(context, recipe, part, folds, fold, parts)
            if process.is_first:
                _write(file, answers)
                shutil.rmtree(part.checkpoints, ignore_errors=True)
            wait(process)
        answers = broadcast_from_rank_zero(lambda file=file: np.load(file), process)  # type: ignore[misc]
        if logits is None:
            logits = np.empty((len(rows.labels), answers.shape[1]), np.float32)
        logits[folds == fold] = answers
        value = context.metrics.compute(answers, rows.labels[folds == fold])[context.metrics.best]
        text = "undefined" if value is None else f"{value:.3f}"
        seconds = time.monotonic() - start
        logger.info(
            "  %s, fold %d of %d: %s %s (%.0f s%s)",
            recipe.name,
            fold + 1,
            count,
            context.metrics.best,
            text,
            seconds,
            _time_left(count - fold - 1, seconds),
        )
    assert logits is not None
    return logits


def answer_fold(
    context: TrainingContext,
    recipe: Recipe,
    part: RunFolder,
    folds: np.ndarray,
    fold: int,
    parts: int,
) -> np.ndarray:
    """Logits of the rows that are held out, by a model that has learned from the others.

    Args:
        fold: the one that is held out.
        parts: trainings that share what is left of the budget, this one included.
    """
    rows, held_out = context.encoded.splits["train"], folds == fold
    use_shared_stages(context, recipe, part)
    with _quiet():
        encoded = replace(context.encoded, splits={"train": select_documents(rows, ~held_out)})
        train_part = rows_to_learn(context, recipe, encoded, part, fold, 2 * parts)
        config, pretrained, stages = context.start(recipe, fold)
        model = train(
            pretrained,
            replace(context.encoded, splits={"train": train_part}),
            stages,
            context.metrics,
            config,
            part,
            context.for_fold(parts),
        ).model
    return context.predict(model, select_documents(rows, held_out))


def _time_left(folds: int, seconds: float) -> str:
    """What the folds to come take if each takes as long as this one; nothing where it is little."""
    left = folds * seconds
    return f"; {folds} left: about {in_words(left)}" if left >= WORTH_SAYING else ""


def _write(file: Path, answers: np.ndarray) -> None:
    """Whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".part")
    with partial.open("wb") as stream:
        np.save(stream, answers)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(file)


@contextmanager
def _quiet() -> Iterator[None]:
    """The lines of a stage are for the final model; a fold has one line."""
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
