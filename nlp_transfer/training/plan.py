"""The plan of a run in words, and the history of its stages for `run.json`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlp_transfer.config.choices import Adapt, Solver
from nlp_transfer.config.schema import Config
from nlp_transfer.config.sections.strategy import StrategyConfig
from nlp_transfer.config.sections.training import TrainingConfig
from nlp_transfer.data.corpus import Corpus
from nlp_transfer.features.cache import most_bytes
from nlp_transfer.models.loading import Pretrained
from nlp_transfer.models.lora import adapted
from nlp_transfer.models.mean_pooling import settled_pooling, with_pooling
from nlp_transfer.models.preparation import load_and_encode
from nlp_transfer.models.strategies.auto_strategy import candidates
from nlp_transfer.models.strategies.stages import Stage, plan_stages, stage_steps
from nlp_transfer.models.structure import ModelStructure
from nlp_transfer.tokenization.encoded import Encoded

if TYPE_CHECKING:
    from nlp_transfer.training.stages.history import StageHistory

from torch import nn


def count_parameters(model: nn.Module, stage: Stage, structure: ModelStructure) -> tuple[int, int]:
    """How many parameters learn in a stage, of how many."""
    sizes = [(p.numel(), stage.learns(structure, name)) for name, p in model.named_parameters()]
    return sum(size for size, learns in sizes if learns), sum(size for size, _ in sizes)


def plan(config: Config, corpus: Corpus, path: Path) -> str:
    """What a run would do: its stages, what learns in them, steps and disk.

    Args:
        path: where the run would be.
    """
    pretrained, encoded = load_and_encode(config, corpus)
    recipes = candidates(config, corpus, pretrained.model.config.model_type)
    config = replace(config, strategy=recipes[-1].strategy)
    pooling = settled_pooling(config, pretrained.model.config.model_type)
    pretrained = with_pooling(pretrained, pooling)
    rows = len(encoded.splits["train"].labels)
    batch_size = config.training.batch_size
    texts = encoded.adapted_texts(corpus.folds is not None)
    labels = pretrained.model.config.num_labels
    stages = plan_stages(config.strategy, pretrained.structure, rows, labels, batch_size, texts)
    return _describe_plan(pretrained, encoded, stages, config, path)


def _describe_plan(
    pretrained: Pretrained, encoded: Encoded, stages: list[Stage], config: Config, path: Path
) -> str:
    size = sum(p.numel() * p.element_size() for p in pretrained.model.parameters())
    stored_bytes = max(most_bytes(pretrained, encoded, stage, config.features) for stage in stages)
    rows = len(encoded.splits["train"].labels)
    lines = [_plan_line(stage, pretrained, rows, config.training.batch_size) for stage in stages]
    # While training: the best checkpoint, the newest one, and at the end the export.
    lines.append(
        f"Disk: {size / 1e6:.0f} MB in the end, {3 * size / 1e6:.0f} MB while training, "
        f"at most {stored_bytes / 1e6:.0f} MB of features in {config.features.folder}."
    )
    lines += keys_without_effect(config, stages)
    lines.append(f"Run folder: {path}. Nothing was trained (dry_run=true).")
    return "\n".join(lines)


ADAPT_KEYS: dict[str, tuple[str, ...]] = {"strategy": ("adapt_epochs", "adapt_learning_rate")}
# What only a stage that learns by gradient reads.
GRADIENT_KEYS: dict[str, tuple[str, ...]] = {
    "strategy": ("epochs", "learning_rate"),
    "training": (
        "loss",
        "label_smoothing",
        "schedule",
        "warmup",
        "weight_decay",
        "max_grad_norm",
        "augment",
        "early_stopping",
    ),
}


def keys_without_effect(config: Config, stages: list[Stage]) -> list[str]:
    """A line for each reason why keys that were set change nothing in these stages, or none."""
    reasons: list[tuple[dict[str, tuple[str, ...]], str]] = []
    if all(stage.solver is Solver.exact for stage in stages):
        reasons.append((GRADIENT_KEYS, "the head is solved exactly, in one step"))
    if config.strategy.adapt is Adapt.none:
        reasons.append((ADAPT_KEYS, "nothing adapts to texts (strategy.adapt)"))
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        reasons.append(({"training": ("parallel",)}, "there is one process"))
    return [line for keys, reason in reasons for line in _without_effect(config, keys, reason)]


def _without_effect(
    config: Config, sections: dict[str, tuple[str, ...]], reason: str
) -> Iterator[str]:
    default = {"strategy": StrategyConfig(), "training": TrainingConfig()}
    keys = [
        f"{section}.{name}"
        for section, names in sections.items()
        for name in names
        if getattr(getattr(config, section), name) != getattr(default[section], name)
    ]
    if keys:
        yield f"{', '.join(keys)} {'has' if len(keys) == 1 else 'have'} no effect: {reason}."


def _plan_line(stage: Stage, pretrained: Pretrained, rows: int, batch_size: int) -> str:
    with adapted(pretrained.model, stage, pretrained.structure):
        learning, all_of_them = count_parameters(pretrained.model, stage, pretrained.structure)
    steps = stage_steps(stage, rows, batch_size)
    epochs = f"{stage.epochs:.3g} epoch{'' if stage.epochs == 1 else 's'}"
    how = f"{epochs}, {steps} steps of {batch_size} texts"
    if stage.consistency:
        how += ", each read twice"
    if stage.solver is Solver.exact:
        how = "solved exactly"
    return (
        f"Stage {stage.name} learns {stage.describe(pretrained.structure)}, {learning:,} of "
        f"{all_of_them:,} parameters, {how}."
    )


def describe_stages(stages: list[Stage], histories: list[StageHistory]) -> list[dict[str, Any]]:
    """The history of every stage for `run.json`."""
    return [
        {
            "name": history.name,
            "learns": history.learns,
            "parameters": history.parameters,
            "all_parameters": history.all_parameters,
            "epochs": stage.epochs,
            "encoder_learning_rate": stage.encoder_learning_rate,
            "head_learning_rate": stage.head_learning_rate,
            "steps": history.steps,
            "seconds": round(history.seconds, 2),
            "encoding_seconds": round(history.encoding_seconds, 2),
            "best": history.best,
            "speed": None if history.speed is None else asdict(history.speed),
            "log": history.log,
        }
        for stage, history in zip(stages, histories, strict=True)
    ]
