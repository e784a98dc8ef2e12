"""Checks a strategy and its stages for values that are impossible."""

from __future__ import annotations

import math
from collections.abc import Iterator

from nlp_transfer.config.choices import Solver
from nlp_transfer.config.sections.strategy import StageConfig, StrategyConfig

# Above this rate a few steps are enough to wipe out what pretraining has learned.
DESTRUCTIVE_LEARNING_RATE = 1e-3
SHORTEST_CROP = 8  # tokens, special ones included
LEAST_OF_STAGE = {
    "steps": 1,
    "crop": SHORTEST_CROP,
    "lora_rank": 0,
    "min_steps": 0,
    "max_steps": 1,
}


def impossible_strategy(strategy: StrategyConfig) -> Iterator[str]:
    if not strategy.stages and not strategy.is_auto:
        yield f"strategy {strategy.name} has no stages; add strategy.stages.<name>.layers=all."
    if strategy.top_layers is not None:
        if strategy.top_layers < 1:
            yield f"strategy.top_layers={strategy.top_layers} must be at least 1."
        if not any(
            stage.layers not in ("0", "all", "encoder") for stage in strategy.stages.values()
        ):
            yield (
                f"strategy.top_layers={strategy.top_layers} has no stage to apply to in strategy "
                f"{strategy.name}. Type strategy=top_layers."
            )
    positive = {
        "strategy.epochs": strategy.epochs,
        "strategy.learning_rate": strategy.learning_rate,
        "strategy.max_minutes": strategy.max_minutes,
        "strategy.adapt_epochs": strategy.adapt_epochs,
        "strategy.adapt_learning_rate": strategy.adapt_learning_rate,
    }
    for name, stage in strategy.stages.items():
        key = f"strategy.stages.{name}"
        yield from _impossible_stage(key, stage)
        positive[f"{key}.epochs"] = stage.epochs
        positive[f"{key}.steps_per_shot"] = stage.steps_per_shot
        positive[f"{key}.encoder_learning_rate"] = stage.encoder_learning_rate
        positive[f"{key}.head_learning_rate"] = stage.head_learning_rate
    if strategy.min_steps < 0:
        yield f"strategy.min_steps={strategy.min_steps} must be a number that is not negative."
    for key, amount in positive.items():
        if amount is not None and not 0 < amount < math.inf:
            yield f"{key}={amount} must be a number greater than 0."
    yield from _destructive_rates(strategy)


def _impossible_counts(key: str, stage: StageConfig) -> Iterator[str]:
    for name, least in LEAST_OF_STAGE.items():
        value = getattr(stage, name)
        if value is not None and value < least:
            yield f"{key}.{name}={value} must be at least {least}."
    if stage.max_steps is not None and stage.steps_per_shot is None:
        yield f"{key}.max_steps={stage.max_steps} is a bound of steps_per_shot, which is not set."


def _impossible_stage(key: str, stage: StageConfig) -> Iterator[str]:
    if stage.layers not in ("all", "encoder") and not stage.layers.isdecimal():
        yield f"{key}.layers={stage.layers!r} must be all, encoder, 0 (the head alone) or a number."
    if not stage.head and (stage.layers == "0" or stage.lora_rank):
        yield f"{key}.head=false needs layers that learn: layers=encoder, all or a number."
    yield from _impossible_counts(key, stage)
    if not 0 < stage.temperature < math.inf:
        yield f"{key}.temperature={stage.temperature} must be a number greater than 0."
    if not 0 <= stage.consistency < math.inf:
        yield f"{key}.consistency={stage.consistency} must be a number that is not negative."
    if stage.solver is Solver.exact and stage.layers != "0":
        yield f"{key}.solver=exact is for layers=0, the head alone; layers={stage.layers} here."
    if stage.lora_rank and stage.layers == "0":
        yield f"{key}.lora_rank={stage.lora_rank} has nothing to adapt: layers=0 is the head alone."
    if not 0 < stage.layer_decay <= 1:
        yield f"{key}.layer_decay={stage.layer_decay} must be greater than 0 and at most 1."


def _destructive_rates(strategy: StrategyConfig) -> Iterator[str]:
    if strategy.allow_destructive_rate:
        return
    short = strategy.learning_rate
    rates = {
        f"strategy.stages.{name}.encoder_learning_rate": stage.encoder_learning_rate
        for name, stage in strategy.stages.items()
        if stage.layers != "0"
    }
    if short is not None and (rates or strategy.is_auto):
        rates = {"strategy.learning_rate": short}
    rates["strategy.adapt_learning_rate"] = strategy.adapt_learning_rate
    for key, rate in rates.items():
        if rate > DESTRUCTIVE_LEARNING_RATE:
            yield (
                f"{key}={rate:g} would destroy the pretrained weights "
                f"(at most {DESTRUCTIVE_LEARNING_RATE:g}; 2e-5 to 1e-4 is usual). "
                "If it is intended, add strategy.allow_destructive_rate=true."
            )
