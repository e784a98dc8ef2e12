"""Chooses a strategy by how many labelled texts there are (`strategy=auto`)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from importlib import resources

from omegaconf import OmegaConf

from nlp_transfer.config.schema import StrategyConfig
from nlp_transfer.utils.logging import logger

# Up to so many rows of train for each label: the strategy, and why; the last one has no end.
# Measured on the validation splits of three datasets at 8, 64 and 512 rows a label (README): once a
# stage makes `strategy.min_steps`, no other strategy was better on average at any of these sizes.
RULES: tuple[tuple[float, str, str], ...] = (
    (math.inf, "full", "with enough steps nothing else was better on average, few rows included"),
)


def resolve(
    config: StrategyConfig, rows: int, labels: int, decide: Callable[[str, Callable[[], str]], str]
) -> StrategyConfig:
    """The strategy that was named, or for `auto` the one that suits the data.

    Args:
        rows: of train.
        decide: `RunFolder.decide`, which keeps the choice.
    """
    if not config.is_auto:
        return config
    name = decide("strategy", lambda: choose(rows, labels))
    file = resources.files("nlp_transfer.conf").joinpath("strategy", f"{name}.yaml")
    tree = OmegaConf.create(file.read_text(encoding="utf-8"))
    strategy = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(StrategyConfig), tree))
    assert isinstance(strategy, StrategyConfig)
    return replace(config, name=name, stages=strategy.stages)


def choose(rows: int, labels: int) -> str:
    """The name of a strategy; the log says why."""
    each = rows / labels
    for most, name, why in RULES:
        if each <= most:
            logger.info("strategy=auto: %s, for %.0f rows a label: %s", name, each, why)
            return name
    raise AssertionError("the last rule has no end")
