"""Gives a checkpoint mean pooling as one more layer of its own kind.

The first token of a frozen sentence encoder is a poor summary of its text; the mean of all tokens
is a better one. One more encoder layer can compute it: queries and keys zero (attention is then
uniform over the real tokens), values the identity, the output scaled until the LayerNorm forgets
the residual. What is left is LayerNorm(mean), at every token, so the checkpoint stays a plain one
of its class.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import torch
from torch import nn
from transformers import PreTrainedModel

from nlp_transfer.config.choices import Adapt, Pooling, Solver
from nlp_transfer.config.schema import Config
from nlp_transfer.config.sections.strategy import StrategyConfig
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.models.loading import Pretrained
from nlp_transfer.models.structure import find_structure, set_layer_count
from nlp_transfer.utils.logging import logger

# Large enough to drown the residual (its share is 1/1024), small enough for fp16.
LOUD = 1024.0


@dataclass(frozen=True)
class Parts:
    """The names of a layer's parts."""

    queries_and_keys: tuple[str, str]
    values: str
    attention_output: str
    norms: tuple[str, str]


_BERT = Parts(
    ("attention.self.query", "attention.self.key"),
    "attention.self.value",
    "attention.output.dense",
    ("attention.output.LayerNorm", "output.LayerNorm"),
)
_DISTILBERT = Parts(
    ("attention.q_lin", "attention.k_lin"),
    "attention.v_lin",
    "attention.out_lin",
    ("sa_layer_norm", "output_layer_norm"),
)
# By `model_type`; encoders with relative positions in the attention cannot be made uniform.
PARTS = {
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "camembert": _BERT,
    "electra": _BERT,
    "distilbert": _DISTILBERT,
}
# Others whose head reads the first token.
FIRST_TOKEN = ("deberta", "deberta-v2", "modernbert", "mpnet")


def solves_head(strategy: StrategyConfig) -> bool:
    """Whether a head is solved on frozen features in one of the stages, or before them."""
    stages = strategy.stages.values()
    return strategy.solve_head or any(stage.solver is Solver.exact for stage in stages)


def settled_pooling(config: Config, kind: str) -> Pooling:
    """The pooling that needs no comparison; `auto` where one decides, or the checkpoint does.

    Args:
        kind: the architecture, such as `bert`.
    """
    strategy = config.strategy
    # One stage, shared by the folds.
    adapts = solves_head(strategy) and strategy.adapt is not Adapt.none
    if config.checkpoint.pooling is not Pooling.auto or kind not in PARTS:
        return config.checkpoint.pooling
    if adapts or not all(stage.head for stage in strategy.stages.values()):
        # Embeddings learn: their mean is what the literature compares, and needs no comparison.
        return Pooling.mean
    return Pooling.auto


def reads_first_token(pretrained: Pretrained) -> bool:
    """Whether the head reads the first token, and that is no average of all."""
    config = pretrained.model.config
    if pretrained.structure.mean_layer or getattr(config, "classifier_pooling", "cls") == "mean":
        return False
    return config.model_type in (*PARTS, *FIRST_TOKEN)


def with_pooling(pretrained: Pretrained, pooling: Pooling) -> Pretrained:
    """The classifier as it is, or for `mean` with one more layer that averages.

    Raises:
        UserError: where `mean` is asked for and this architecture cannot compute it.
    """
    kind = pretrained.model.config.model_type
    if pooling is Pooling.auto:
        return pretrained
    if hasattr(pretrained.model.config, "classifier_pooling"):  # ModernBERT has both
        own = {Pooling.first: "cls", Pooling.mean: "mean"}
        pretrained.model.config.classifier_pooling = own[pooling]
        return pretrained
    if pooling is Pooling.first:
        return pretrained
    if kind not in PARTS:
        raise UserError(
            ExitCode.CONFIG,
            f"checkpoint.pooling=mean is not possible for {kind}; it is for {', '.join(PARTS)}. "
            "Use checkpoint.pooling=auto.",
        )
    _add_mean_layer(pretrained.model, PARTS[kind])
    structure = replace(find_structure(pretrained.model), mean_layer=True)
    logger.info(
        "pooling: the head reads the mean of all tokens; a layer above the %d of the encoder "
        "averages them and counts as layer %d",
        structure.layers - 1,
        structure.layers,
    )
    return replace(pretrained, structure=structure)


def _add_mean_layer(model: PreTrainedModel, parts: Parts) -> None:
    path = find_structure(model).layer_prefixes[-1].rpartition(".")[0]
    layers = model.get_submodule(path)
    assert isinstance(layers, nn.ModuleList)
    layer = copy.deepcopy(layers[-1])
    width = model.config.hidden_size
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        layer.get_submodule(parts.values).weight.copy_(torch.eye(width))
        layer.get_submodule(parts.attention_output).weight.copy_(LOUD * torch.eye(width))
        for norm in parts.norms:
            layer.get_submodule(norm).weight.fill_(1.0)
    layers.append(layer)
    set_layer_count(model, len(layers))
