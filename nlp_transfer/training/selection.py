"""Chooses a recipe by cross-validation: cheapest first, until the next one is not better."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from nlp_transfer.evaluation.paired_difference import PairedDifference
from nlp_transfer.models.strategies.recipes import Recipe, recipe_of
from nlp_transfer.training.context import TrainingContext
from nlp_transfer.training.cross_validation import cross_validate
from nlp_transfer.utils.logging import logger


@dataclass(frozen=True)
class Evidence:
    """What cross-validation says of one recipe."""

    recipe: str
    metric: str
    value: float | None
    standard_error: float | None  # of the value: a quarter of its 95% interval
    loss: float  # mean over the rows, as `Problem.row_losses` defines it
    loss_standard_error: float
    seconds: float
    chosen: bool = False


@dataclass(frozen=True)
class Selection:
    """The recipe of a run, what decided, and its out-of-fold logits."""

    recipe: Recipe
    evidence: list[Evidence]
    logits: np.ndarray | None  # float32 [rows of train, labels]; None: no folds

    def as_entries(self) -> list[dict[str, Any]]:
        """For `run.json`."""
        return [asdict(entry) for entry in self.evidence]


def select(
    context: TrainingContext,
    recipes: list[Recipe],
    folds: np.ndarray | None,
    is_affordable: Callable[[Recipe], bool] = lambda _: True,
) -> Selection:
    """Climb the recipes as long as the next is better, with regard to the standard error.

    Rows are the same for all, so differences are paired; compared are the errors of each row.

    Args:
        recipes: cheapest first.
        folds: int [rows of train]; None: there is one recipe, and validation judges it.
        is_affordable: whether the budget of the run pays for a recipe; not called for the first.
    """
    auto, decide = context.config.strategy.is_auto, context.folder.decide
    if folds is None:
        assert len(recipes) == 1, "only folds can choose"
        name = decide("strategy", lambda: recipes[0].name) if auto else recipes[0].name
        recipe = recipe_of(context.config.strategy, name)
        _log_only_candidate(recipes, recipe)
        return Selection(recipe, [], None)
    problem, references = context.metrics.problem, context.encoded.splits["train"].labels
    logits: dict[str, np.ndarray] = {}
    evidence: list[Evidence] = []
    best, fewest = recipes[0].name, np.array([])
    for recipe in recipes:
        if evidence and not is_affordable(recipe):
            break
        start = time.monotonic()
        logits[recipe.name] = cross_validate(context, recipe, folds)
        losses = problem.row_losses(references, logits[recipe.name])
        seconds = round(time.monotonic() - start, 1)
        measured = context.metrics.of_rows(logits[recipe.name], references)
        evidence.append(_evidence(recipe.name, context.metrics.best, measured, losses, seconds))
        errors = problem.row_errors(references, logits[recipe.name])
        if len(fewest) and not _is_better(recipe, PairedDifference.of(errors, fewest)):
            break
        best, fewest = recipe.name, errors
    # A run that is repeated has decided already.
    recipe_name = decide("strategy", lambda: best) if auto else best
    recipe = recipe_of(context.config.strategy, recipe_name)
    if recipe_name not in logits:
        logits[recipe_name] = cross_validate(context, recipe, folds)
    _log(evidence, recipe_name)
    _log_only_candidate(recipes, recipe)
    if not auto:
        return Selection(recipe, [], logits[recipe_name])
    entries = [replace(entry, chosen=entry.recipe == recipe_name) for entry in evidence]
    return Selection(recipe, entries, logits[recipe_name])


def _is_better(recipe: Recipe, errors: PairedDifference) -> bool:
    """A tie goes to the recipe that is expected to be better, else to the cheaper one."""
    return not errors.is_higher if recipe.expected else errors.is_lower


def _evidence(
    recipe: str, metric: str, measured: dict[str, Any], losses: np.ndarray, seconds: float
) -> Evidence:
    interval = measured["intervals"].get(metric)
    return Evidence(
        recipe,
        metric,
        measured["metrics"][metric],
        None if interval is None else (interval[1] - interval[0]) / 4,
        float(losses.mean()),
        float(losses.std() / np.sqrt(len(losses))),
        seconds,
    )


def _log_only_candidate(recipes: list[Recipe], recipe: Recipe) -> None:
    if [one.name for one in recipes] == [recipe.name] and recipes[0].reason:
        logger.info("strategy=auto: %s: %s", recipe.name, recipes[0].reason)


def _log(evidence: list[Evidence], name: str) -> None:
    if len(evidence) == 1:
        return
    results = ", ".join(
        f"{e.recipe} {e.metric} {e.value if e.value is None else round(e.value, 3)} "
        f"(loss {e.loss:.3f} ± {e.loss_standard_error:.3f})"
        for e in evidence
    )
    logger.info("cross-validated: %s; chosen: %s", results, name)
