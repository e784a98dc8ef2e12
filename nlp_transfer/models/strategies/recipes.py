"""What `strategy=auto` chooses from: strategies, each with or without label names as texts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import resources

from omegaconf import OmegaConf

from nlp_transfer.config.sections.strategy import StrategyConfig

NAMES, TEXTS = "names", "texts"  # in the name of a recipe


@dataclass(frozen=True)
class Recipe:
    """One way to train: a strategy, and what else it learns from than the labelled rows.

    Label names may be training texts, and texts without labels with the recipe's own answers.
    """

    strategy: StrategyConfig
    label_names: bool = False
    expected: bool = False  # better than those before it, unless the folds say that it is not
    reason: str = ""  # why it is a candidate, for the log
    self_training: bool = False

    @property
    def name(self) -> str:
        """As it is shown and stored: `contrastive+names+texts`."""
        parts = {NAMES: self.label_names, TEXTS: self.self_training}
        return "+".join([self.strategy.name, *(part for part, used in parts.items() if used)])


def named_strategy(config: StrategyConfig, name: str) -> StrategyConfig:
    """The stages of `conf/strategy/<name>.yaml` with the short forms of `config`."""
    file = resources.files("nlp_transfer.conf").joinpath("strategy", f"{name}.yaml")
    tree = OmegaConf.create(file.read_text(encoding="utf-8"))
    loaded = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(StrategyConfig), tree))
    assert isinstance(loaded, StrategyConfig)
    return replace(config, name=name, stages=loaded.stages)


def recipe_of(config: StrategyConfig, name: str) -> Recipe:
    """The recipe that a run has stored by its name."""
    strategy, *parts = name.split("+")
    chosen = named_strategy(config, strategy) if config.is_auto else config
    return Recipe(chosen, NAMES in parts, self_training=TEXTS in parts)
