"""Measures a model that has not seen the held-out rows; the final one then learns from all rows."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np

from nlp_transfer.config.choices import Refit
from nlp_transfer.config.schema import Config
from nlp_transfer.data.corpus import Corpus
from nlp_transfer.models.strategies.recipes import Recipe
from nlp_transfer.models.strategies.stages import Stage
from nlp_transfer.tokenization.encoded import EncodedSplit
from nlp_transfer.tokenization.subsets import append_documents
from nlp_transfer.training.context import TrainingContext
from nlp_transfer.training.loop import train
from nlp_transfer.training.self_training import rows_to_learn
from nlp_transfer.training.stages.history import StageHistory
from nlp_transfer.utils.logging import logger

FEWEST_ROWS = 1_000  # with fewer, cross-validation withholds nothing
MOST_ROWS = 10_000  # from here on training takes long
# A fifth more rows changed nothing on three datasets with 900 to 3,000 rows a label (docs/results).
FEW_EACH = 200  # rows a label, on average


@dataclass(frozen=True)
class HeldOutModel:
    """What a model that has not seen the held-out rows answered, and how it was trained."""

    answers: dict[str, np.ndarray]  # logits float32 [rows, labels] by split
    stages: list[Stage]
    history: list[StageHistory]
    steps_an_epoch: int

    @property
    def stages_as_long(self) -> list[Stage]:
        """The stages of the final model: as many epochs as the kept weights had seen."""
        return [
            stage
            if history.kept_step is None or stage.steps is not None
            else replace(stage, epochs=history.kept_step / self.steps_an_epoch)
            for stage, history in zip(self.stages, self.history, strict=True)
        ]


def learns_from_held_out_rows(config: Config, corpus: Corpus) -> bool:
    """Whether the final model is trained once more, with the rows of the splits cut from train."""
    refit = config.evaluation.refit
    if not corpus.held_out or refit is Refit.never:
        return False
    compares_runs = config.dataset.folds is not None or not config.evaluation.test
    rows = corpus.labelled_rows
    few = FEWEST_ROWS <= rows < MOST_ROWS and rows < FEW_EACH * len(corpus.labels)
    return refit is Refit.always or (few and not compares_runs)


def train_held_out(
    context: TrainingContext, recipe: Recipe, held_out: tuple[str, ...]
) -> HeldOutModel:
    """Train without the held-out rows, and answer them and validation.

    A stage that is finished is on the disk; one that was interrupted goes on.
    """
    config, pretrained, stages = context.start(recipe)
    folder = replace(context.folder, part="held_out")
    rows = rows_to_learn(context, recipe, context.encoded, folder)
    trained = train(
        pretrained,
        replace(context.encoded, splits={**context.encoded.splits, "train": rows}),
        stages,
        context.metrics,
        config,
        folder,
        context.for_fold(),
    )
    tested = ["test"] if "test" in held_out and config.evaluation.test else []
    answers = context.predict_splits(trained.model, ["validation", *tested])
    steps = math.ceil(len(rows.labels) / config.training.batch_size)
    return HeldOutModel(answers, stages, trained.history, steps)


def all_rows(context: TrainingContext, held_out: tuple[str, ...]) -> EncodedSplit:
    """The rows of train and of the splits that were cut from it."""
    splits = context.encoded.splits
    rows = reduce(append_documents, (splits[name] for name in held_out), splits["train"])
    logger.info(
        "the figures are of a model that has learned from %s rows; the final model now learns "
        "from all %s (evaluation.refit)",
        f"{len(splits['train'].labels):,}",
        f"{len(rows.labels):,}",
    )
    return rows
