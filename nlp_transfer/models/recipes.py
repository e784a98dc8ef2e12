"""What `strategy=auto` chooses from: strategies, each with or without label names as texts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import resources

from omegaconf import OmegaConf

from nlp_transfer.config.schema import StrategyConfig


@dataclass(frozen=True)
class Recipe:
    """One way to train: a strategy, and whether label names are training texts in it."""

    strategy: StrategyConfig
    label_names: bool = False
    expected: bool = False  # better than those before it, unless the folds say that it is not
    reason: str = ""  # why it is a candidate, for the log

    @property
    def name(self) -> str:
        """As it is shown and stored: `contrastive+names`."""
        return f"{self.strategy.name}+names" if self.label_names else self.strategy.name


def named_strategy(config: StrategyConfig, name: str) -> StrategyConfig:
    """The stages of `conf/strategy/<name>.yaml` with the short forms of `config`."""
    file = resources.files("nlp_transfer.conf").joinpath("strategy", f"{name}.yaml")
    tree = OmegaConf.create(file.read_text(encoding="utf-8"))
    loaded = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(StrategyConfig), tree))
    assert isinstance(loaded, StrategyConfig)
    return replace(config, name=name, stages=loaded.stages)


def recipe_of(config: StrategyConfig, name: str) -> Recipe:
    """The recipe that a run has stored by its name."""
    strategy, _, names = name.partition("+")
    if config.is_auto:
        return Recipe(named_strategy(config, strategy), names == "names")
    return Recipe(config, names == "names")
