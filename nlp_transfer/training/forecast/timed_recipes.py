"""Which recipes a budget pays for (`strategy.max_minutes`), and the line before a long run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from nlp_transfer.config.choices import Parallel
from nlp_transfer.config.schema import Config
from nlp_transfer.data.corpus import Corpus
from nlp_transfer.models.strategies.recipes import Recipe, named_strategy
from nlp_transfer.runs.provenance import machine_of
from nlp_transfer.tokenization.model_inputs import tokens_at_once
from nlp_transfer.training.context import TrainingContext
from nlp_transfer.training.forecast.budget import Budget
from nlp_transfer.training.forecast.forecast import (
    ENDING,
    VERIFYING,
    RecipeForecast,
    forecast_recipe,
)
from nlp_transfer.training.forecast.ledger import Correction, Estimate, correction, remember
from nlp_transfer.training.forecast.trainings import trainings_of
from nlp_transfer.training.forecast.work import inference_work
from nlp_transfer.utils.distributed import ProcessContext
from nlp_transfer.utils.logging import logger
from nlp_transfer.utils.memory import held_bytes
from nlp_transfer.utils.text import seconds as in_words

WORTH_A_LINE = 60.0  # seconds of a run
# Of a CPU core, and of whatever else computes: only to see whether timing steps is worth it.
RATES = {"cpu": 1e11}
RATE = 5e13
PASSES = 9  # through the data: three epochs, forward and twice as much backward
SAFETY = 1.3  # of seconds that the ending takes
LATER = 150_000_000  # bytes of what figures, export and report import and hold
NOT_PAID = "the budget does not pay for more (strategy.max_minutes)"
# Cheaper than what `auto` would take with a validation split, the cheapest first.
CHEAPER = ("feature_extraction", "top_layers")


@dataclass
class TimedRecipes:
    """The recipes of a run, and what each takes where that was timed."""

    recipes: list[Recipe]
    forecasts: dict[str, RecipeForecast] = field(default_factory=dict)  # by recipe
    correction: Correction = field(default_factory=lambda: Correction([]))

    def seconds(self, recipe: Recipe) -> float:
        """Of a recipe, with its final model; 0 where it was not timed."""
        forecast = self.forecasts.get(recipe.name)
        if forecast is None:
            return 0.0
        return self.correction.range_of(forecast.seconds * forecast.timing.slowdown)[1]


def begin_budget(context: TrainingContext, start: float) -> TrainingContext:
    """The context with the budget of the run, where there is one.

    Args:
        start: of the run, by the monotonic clock.
    """
    minutes = context.config.strategy.max_minutes
    if minutes is None:
        return context
    return replace(context, budget=Budget.of(minutes, context.folder, start))


def affordable_recipes(
    context: TrainingContext, recipes: list[Recipe], corpus: Corpus
) -> TimedRecipes:
    """The recipes that the run may try; one line says what it takes where it is long or has folds.

    With a budget `auto` has cheaper recipes below its own. Which ones are paid for is decided once.
    """
    if context.budget is None:
        if corpus.folds is not None:
            logger.info(trainings_of(context, recipes, corpus.folds))
        # Steps are timed with the whole model, which may not fit.
        if context.config.training.parallel is Parallel.fsdp or not is_long(context):
            return TimedRecipes(recipes)
        timed = time_recipes(context, recipes, corpus)
        log_forecast(timed, context, corpus)
        return timed
    is_auto = context.config.strategy.is_auto
    candidates = _with_cheaper(context, recipes, corpus) if is_auto else recipes
    timed = time_recipes(context, candidates, corpus)
    budget, affordable = context.budget, []
    budget.set_aside(SAFETY * max(map(_ending_seconds, timed.forecasts.values())))
    for number, recipe in enumerate(timed.recipes):
        if number == 0 or _decides(context, recipe, budget.pays(timed.seconds(recipe))):
            affordable.append(recipe)
        else:
            budget.leave_out(recipe.name)
    if len(recipes) == 1:  # there are no folds, or too few rows, to compare them
        affordable = affordable[-1:]  # the one that is expected to be the best
    if timed.forecasts[affordable[0].name].steps:  # a solved head has none to leave out
        budget.shorten(affordable[0].name, timed.seconds(affordable[0]), context.folder)
    return replace(timed, recipes=affordable)


def is_affordable(context: TrainingContext, timed: TimedRecipes, recipe: Recipe) -> bool:
    """Whether there is still time for a recipe, now that those before it are done."""
    budget = context.budget
    if budget is None or _decides(context, recipe, budget.pays(timed.seconds(recipe)), " now"):
        return True
    budget.leave_out(recipe.name)
    return False


def is_long(context: TrainingContext) -> bool:
    """Whether a run may take more than a minute: worth the seconds of timing its steps."""
    device = context.folder.process.device
    train, width = context.train_rows, int(context.pretrained.model.config.hidden_size)
    work = inference_work(train, width, tokens_at_once(device))
    parameters = sum(
        parameter.numel()
        for name, parameter in context.pretrained.model.named_parameters()
        if context.pretrained.structure.depth(name) > 0
    )
    flops = 2 * parameters * work * PASSES
    return flops / RATES.get(device.type, RATE) > WORTH_A_LINE / 2


def processor_total(forecasts: list[RecipeForecast]) -> float:
    """Of a run that cross-validates all of these and trains the last one."""
    last = forecasts[-1]
    return sum(each.folds for each in forecasts) + last.final + last.answering + ENDING


def total_seconds(forecasts: list[RecipeForecast], config: Config) -> float:
    """The same by the wall, on a machine as busy as it was when steps were timed."""
    verifying = VERIFYING if config.export.fresh_process else 0.0
    slowdown = float(np.mean([forecast.timing.slowdown for forecast in forecasts]))
    return slowdown * (processor_total(forecasts) + verifying)


def host_bytes(forecasts: Sequence[RecipeForecast], before: int) -> int:
    """Bytes at the peak of a run on a CPU, before any correction.

    Args:
        before: bytes that the process held before it trained.
    """
    return before + LATER + max(each.memory for each in forecasts)


def _ending_seconds(forecast: RecipeForecast) -> float:
    """From the last step to the verified folder."""
    return forecast.timing.slowdown * (forecast.answering + ENDING + VERIFYING)


def machine_estimate(
    forecasts: list[RecipeForecast],
    config: Config,
    run: Path,
    process: ProcessContext,
    before: int | None,
) -> Estimate:
    """What is remembered of an estimate.

    Args:
        before: bytes that the process held before it trained.
    """
    memory = None if before is None else host_bytes(forecasts, before)
    name, seconds = forecasts[-1].name, total_seconds(forecasts, config)
    processor = processor_total(forecasts)
    return Estimate(str(run), name, seconds, processor, memory, machine_of(process))


def _with_cheaper(context: TrainingContext, recipes: list[Recipe], corpus: Corpus) -> list[Recipe]:
    """Those of `auto` above cheaper ones."""
    strategy = context.config.strategy
    own = {recipe.strategy.name for recipe in recipes}
    names = CHEAPER if corpus.folds is None else CHEAPER[:1]
    if "r_drop" in own:
        names = (*names, "full")  # the same, each text read once
    with_names = recipes[0].label_names
    cheaper = [
        Recipe(named_strategy(strategy, name), with_names, reason=NOT_PAID)
        for name in names
        if name not in own
    ]
    return [*cheaper, *recipes]


def time_recipes(context: TrainingContext, recipes: list[Recipe], corpus: Corpus) -> TimedRecipes:
    """What each recipe takes, timed on a small sample."""
    decided = _decisions(context)
    forecasts = {
        recipe.name: forecast_recipe(context, corpus, recipe, quick=True) for recipe in recipes
    }
    for name, value in _decisions(context).items():
        # While the log was quiet; of the layer that is pooled, the lines of the training tell.
        if name not in decided and not isinstance(value, dict | list):
            logger.info("%s: %s", name, value)
    return TimedRecipes(recipes, forecasts, correction(context.folder.process))


def _decisions(context: TrainingContext) -> dict[str, Any]:
    """What the run has decided so far; only the first process reads it."""
    folder = context.folder
    return folder.read().get("decisions", {}) if folder.process.is_first else {}


def log_forecast(timed: TimedRecipes, context: TrainingContext, corpus: Corpus) -> None:
    """One line, where the run takes more than a minute."""
    forecasts = list(timed.forecasts.values())
    config = context.config
    low, expected, high = timed.correction.range_of(total_seconds(forecasts, config))
    if expected < WORTH_A_LINE:
        return
    last, process = forecasts[-1], context.folder.process
    folds = "" if corpus.folds is None else f", {int(corpus.folds.max()) + 1} folds"
    steps = f"{last.steps:,} steps" if last.steps else "the head is solved"
    logger.info(
        "about %s (%s to %s): %s, %s%s. `nlp-transfer estimate` compares strategies.",
        in_words(expected),
        in_words(low),
        in_words(high),
        " and ".join(timed.forecasts),
        steps,
        folds,
    )
    if process.is_first:
        path = context.folder.path
        remember(machine_estimate(forecasts, config, path, process, held_bytes()))


def _decides(context: TrainingContext, recipe: Recipe, paid: bool, when: str = "") -> bool:
    """What was decided of a recipe, by this process or by the one that began the run."""
    name = f"budget pays for {recipe.name}{when}"

    def decide() -> bool:
        logger.info("%s: %s", name, "yes" if paid else "no")
        return paid

    return context.folder.decide(name, decide)
