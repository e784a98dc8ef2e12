"""Lets the last layer of a classifier compute only what its head reads.

Most heads read the first token. Its state needs keys and values of all tokens, but only its own
query, attention output and feed-forward. Where the last layer is the one that averages (see
`mean_pooling`), it needs no matrix product at all. Both are exact: what differs is the rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from nlp_transfer.models.mean_pooling import LOUD, PARTS, Parts
from nlp_transfer.models.shortcuts.attention import attend, is_plain, projections, sum_of
from nlp_transfer.models.structure import find_structure

Forward = Callable[..., Any]


@contextmanager
def shortened(model: PreTrainedModel, only_first: bool = True) -> Iterator[None]:
    """While this lasts, the last layer computes only what the head reads, where that is known.

    Args:
        only_first: whether only the head reads the last hidden states; they then have only the
            first token, [rows, 1, width], where the head reads that one.
    """
    path = find_structure(model).layer_prefixes[-1]
    layer = model.get_submodule(path)
    forward = None if "forward" in vars(layer) else _short_forward(model, layer, only_first)
    if forward is None:
        yield
        return
    layer.forward = forward
    try:
        yield
    finally:
        del layer.forward


def _short_forward(model: PreTrainedModel, layer: nn.Module, only_first: bool) -> Forward | None:
    """What the layer is to compute instead; None: there is nothing to leave out."""
    known = HEADS.get(type(model).__name__)
    if known is None or type(layer).__name__ != known[0]:
        return None
    config = model.config
    parts = PARTS.get(config.model_type)
    if parts is not None and _only_averages(layer, parts):
        return partial(_average, layer, parts, only_first)
    if not only_first or not is_plain(config):
        return None
    return partial(known[1], layer)


def _only_averages(layer: nn.Module, parts: Parts) -> bool:
    """Whether a layer is the one that `mean_pooling` adds, and stays as it is."""
    if torch.is_grad_enabled() and any(p.requires_grad for p in layer.parameters()):
        return False
    if any(layer.get_submodule(name).weight.any() for name in parts.queries_and_keys):
        return False
    values = layer.get_submodule(parts.values).weight
    unit = torch.eye(len(values)).to(values)
    ones = {f"{norm}.weight": unit.diagonal() for norm in parts.norms}
    maps = {f"{parts.values}.weight": unit, f"{parts.attention_output}.weight": LOUD * unit}
    expected = ones | maps
    return all(
        torch.equal(weight, expected[name]) if name in expected else not weight.any()
        for name, weight in layer.named_parameters()
    )


def _average(
    layer: nn.Module,
    parts: Parts,
    only_first: bool,
    states: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    *_: Any,
    **__: Any,
) -> torch.Tensor:
    """Uniform attention over the real tokens, both norms; the feed-forward adds nothing."""
    mean = states.mean(dim=1, keepdim=True)
    if attention_mask is not None:
        visible = attention_mask[:, 0, 0, :, None]  # [rows, tokens, 1], for any query
        real = (visible if visible.dtype is torch.bool else visible == 0).to(states.dtype)
        mean = (states * real).sum(dim=1, keepdim=True) / real.sum(dim=1, keepdim=True)
    attended = LOUD * mean + (states[:, :1] if only_first else states)
    for norm in parts.norms:
        attended = layer.get_submodule(norm)(attended)
    return attended


def _bert(
    layer: Any, states: torch.Tensor, attention_mask: torch.Tensor | None = None, *_: Any, **__: Any
) -> torch.Tensor:
    """Of BERT, RoBERTa and ELECTRA."""
    context = _attend(layer.attention.self, states, attention_mask)
    attended = layer.attention.output(context, states[:, :1])
    return layer.output(layer.intermediate(attended), attended)


def _distilbert(
    layer: Any, states: torch.Tensor, attention_mask: torch.Tensor | None = None, *_: Any, **__: Any
) -> torch.Tensor:
    context = layer.attention.out_lin(_attend(layer.attention, states, attention_mask))
    attended = layer.sa_layer_norm(context + states[:, :1])
    return layer.output_layer_norm(layer.ffn(attended) + attended)


def _mpnet(
    layer: Any,
    states: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    position_bias: torch.Tensor | None = None,
    **_: Any,
) -> tuple[torch.Tensor]:
    """Its scores have a bias by relative position."""
    block, attention = layer.attention, layer.attention.attn
    context = attention.o(_attend(attention, states, sum_of(attention_mask, position_bias)))
    attended = block.LayerNorm(block.dropout(context) + states[:, :1])
    return (layer.output(layer.intermediate(attended), attended),)


def _deberta(
    layer: Any, states: torch.Tensor, attention_mask: torch.Tensor, **named: Any
) -> tuple[torch.Tensor, None]:
    """Its attention, which knows relative positions, is computed whole."""
    context = layer.attention.self(states, attention_mask, **named)[0]
    attended = layer.attention.output(context[:, :1], states[:, :1])
    return layer.output(layer.intermediate(attended), attended), None


def _attend(attention: Any, states: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """What the first token takes from all tokens, [rows, 1, width].

    Args:
        mask: of all queries, as `attend` reads it.
    """
    query, key, value = projections(attention)
    first = None if mask is None else mask[:, :, :1]
    return attend(attention, query(states[:, :1]), key(states), value(states), first)


# By the class of the classifier, whose head is known to read the first token: that of its layers.
HEADS: dict[str, tuple[str, Forward]] = {
    "BertForSequenceClassification": ("BertLayer", _bert),
    "RobertaForSequenceClassification": ("RobertaLayer", _bert),
    "XLMRobertaForSequenceClassification": ("XLMRobertaLayer", _bert),
    "CamembertForSequenceClassification": ("CamembertLayer", _bert),
    "ElectraForSequenceClassification": ("ElectraLayer", _bert),
    "DistilBertForSequenceClassification": ("TransformerBlock", _distilbert),
    "MPNetForSequenceClassification": ("MPNetLayer", _mpnet),
    "DebertaV2ForSequenceClassification": ("DebertaV2Layer", _deberta),
}
