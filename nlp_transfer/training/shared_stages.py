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
from itertools import takewhile

from nlp_transfer.models.strategies.recipes import Recipe
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
    problem, encoded = context.metrics.problem, context.encoded
    extensions = context.for_fold()
    losses = [loss_of(stage, config, problem, extensions) for stage in stages]
    adapts = losses[0].adapts
    if adapts and encoded.unlabeled is None:
        return  # each fold adapts to its own texts
    shared = [
        stage
        for stage, _ in takewhile(
            lambda pair: not pair[1].reads_labels, zip(stages, losses, strict=True)
        )
    ]
    if shared:
        part = _part(context, recipe)
        encoded = replace(encoded, unlabeled_alone=adapts)
        train(pretrained, encoded, shared, context.metrics, config, part, extensions)


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
