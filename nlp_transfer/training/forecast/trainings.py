"""Says how many trainings a cross-validation takes, and of how many steps, before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nlp_transfer.config.choices import Solver
from nlp_transfer.models.strategies.recipes import Recipe
from nlp_transfer.models.strategies.stages import Stage, plan_stages, stage_steps
from nlp_transfer.training.context import TrainingContext
from nlp_transfer.training.shared_stages import shared_stages
from nlp_transfer.utils.logging import warnings_only


def trainings_of(context: TrainingContext, recipes: Sequence[Recipe], folds: np.ndarray) -> str:
    """One line about the recipes that are cross-validated, which costs nothing to compute.

    Args:
        folds: of the rows of train, int [rows].
    """
    count = int(folds.max()) + 1
    most = "" if len(recipes) == 1 else "up to "
    parts = " and ".join(
        f"of {recipe.name} ({_steps(context, recipe, count)})" for recipe in recipes
    )
    return f"{most}{count * len(recipes) + 1} trainings: {count} folds {parts}, and one of all rows"


def _steps(context: TrainingContext, recipe: Recipe, folds: int) -> str:
    """Of the training of one fold; those that all folds share are made once."""
    config = replace(context.config, strategy=recipe.strategy)
    model, rows = context.pretrained, len(context.train_rows.labels)
    labels, batch_size = model.model.config.num_labels, config.training.batch_size
    texts = context.encoded.adapted_texts(True)
    # As with the layer that pooling may add: the training itself says where layers are too few.
    structure = replace(
        model.structure, layer_prefixes=(*model.structure.layer_prefixes, "pooling")
    )
    with warnings_only():
        stages = plan_stages(recipe.strategy, structure, rows, labels, batch_size, texts)
    shared = shared_stages(context, config, stages)

    def steps(rows: int, some: Sequence[Stage]) -> int:
        return sum(
            stage_steps(stage, rows, batch_size)
            for stage in some
            if stage.solver is not Solver.exact
        )

    once = steps(rows, shared)
    each = (1 + recipe.self_training) * steps(rows - rows // folds, stages[len(shared) :])
    words = [f"{once:,} steps once"] if once else []
    words += [f"about {each:,} steps each"] if each else []
    return ", ".join(words) or "no steps, the head is solved"
