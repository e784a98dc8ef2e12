"""Which parameters a stage trains."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from nlp_transfer.models.shortcuts.embedding_rows import token_embeddings
from nlp_transfer.models.strategies.stages import Stage
from nlp_transfer.models.structure import ModelStructure


def parameter_groups(
    model: PreTrainedModel, stage: Stage, structure: ModelStructure, weight_decay: float
) -> list[dict[str, Any]]:
    """Optimizer groups of what learns: one for each rate, with and without weight decay.

    Biases and the weights of norms are not decayed: they are the vectors. Nor are the token
    embeddings: the row of a token that does not occur stays as it is.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    tokens = token_embeddings(model)
    for name, parameter in model.named_parameters():
        if stage.learns(structure, name):
            decayed = parameter.ndim > 1 and parameter is not tokens
            decay = weight_decay if decayed else 0.0
            groups.setdefault((stage.learning_rate(structure, name), decay), []).append(parameter)
    return [
        {"params": parameters, "lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]


@contextmanager
def frozen_below(model: PreTrainedModel, stage: Stage, structure: ModelStructure) -> Iterator[None]:
    """What does not learn has no gradients and stays in eval mode whoever calls `train()`."""
    frozen = [
        module
        for name, module in model.named_modules()
        if name and not _takes_part(stage, structure, name, module)
    ]

    def train(self: nn.Module, mode: bool = True) -> nn.Module:
        type(self).train(self, mode)
        for module in frozen:
            module.training = False
        return self

    for name, parameter in model.named_parameters():
        parameter.requires_grad_(stage.learns(structure, name))
    model.train = MethodType(train, model)
    try:
        yield
    finally:
        del model.train
        model.requires_grad_(True)


def _takes_part(stage: Stage, structure: ModelStructure, name: str, module: nn.Module) -> bool:
    """Whether something in a module learns; a dropout has no parameters and goes by its place."""
    names = [f"{name}.{parameter}" for parameter, _ in module.named_parameters()]
    if not names:
        above = (
            not stage.trains_head
            and structure.depth(name) > structure.layers - structure.mean_layer
        )
        return structure.depth(name) >= stage.lowest and not above
    return any(stage.learns(structure, parameter) for parameter in names)
