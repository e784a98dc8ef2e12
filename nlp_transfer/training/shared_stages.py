"""Trains stages that read no labels once, for every fold of a recipe and for the final model.

Such a stage would make nearly the same weights in every fold, at the price of all the others
together. Held-out rows never take part by their labels. A stage that adapts to texts learns from
those without labels alone, which are like none of train: held-out rows do not take part at all.
Where there are none, it is not shared. Pairs are made of all texts of train.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import replace

from nlp_transfer.config.schema import Config
from nlp_transfer.models.strategies.recipes import Recipe
from nlp_transfer.models.strategies.stages import Stage
from nlp_transfer.runs.folder import RunFolder
from nlp_transfer.training.context import TrainingContext
from nlp_transfer.training.loop import train
from nlp_transfer.training.stages.stage_run import loss_of
from nlp_transfer.utils.distributed import wait


def train_shared_stages(context: TrainingContext, recipe: Recipe) -> None:
    """Train the first stages of a recipe, as long as they read no labels, on all rows of train.

    A stage that is finished is on the disk; one that was interrupted goes on.
    """
    config, pretrained, stages = context.start(recipe)
    extensions = context.for_fold()
    shared = shared_stages(context, config, stages)
    if shared:
        part = _part(context, recipe)
        adapts = loss_of(shared[0], config, context.metrics.problem, extensions).adapts
        encoded = replace(context.encoded, unlabeled_alone=adapts)
        train(pretrained, encoded, shared, context.metrics, config, part, extensions)


def shared_stages(context: TrainingContext, config: Config, stages: list[Stage]) -> list[Stage]:
    """The first stages, as long as they read no labels."""
    problem, extensions = context.metrics.problem, context.for_fold()
    losses = [loss_of(stage, config, problem, extensions) for stage in stages]
    if losses[0].adapts and context.encoded.unlabeled is None:
        return []  # each fold adapts to its own texts
    count = next((i for i, loss in enumerate(losses) if loss.reads_labels), len(stages))
    return stages[:count]


def use_shared_stages(context: TrainingContext, recipe: Recipe, folder: RunFolder) -> None:
    """Let a training in this folder find the shared stages of its recipe finished."""
    if context.folder.process.is_first:
        for stage in sorted(_part(context, recipe).checkpoints.glob("*")):
            link = folder.checkpoints / stage.name
            if not link.exists():
                link.parent.mkdir(parents=True, exist_ok=True)
                try:
                    link.symlink_to(os.path.relpath(stage, link.parent), target_is_directory=True)
                except (
                    OSError
                ):  # a file system without links, or Windows without the right to make them
                    shutil.copytree(stage, link, dirs_exist_ok=True)
    wait(context.folder.process)


def _part(context: TrainingContext, recipe: Recipe) -> RunFolder:
    return replace(context.folder, part=f"folds/{recipe.name}/shared")
