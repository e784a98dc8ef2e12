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

from nlp_transfer.models.loading import find_anatomy
from nlp_transfer.models.mean_pooling import LOUD, PARTS, Parts

Forward = Callable[..., Any]


@contextmanager
def shortened(model: PreTrainedModel, only_first: bool = True) -> Iterator[None]:
    """While this lasts, the last layer leaves out what nobody reads, where that is known.

    Args:
        only_first: whether only the head reads the last hidden states; they then have only the
            first token, [rows, 1, width], where the head reads that one.
    """
    path = find_anatomy(model).layer_prefixes[-1]
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
    plain = getattr(config, "_attn_implementation", "eager") in ("eager", "sdpa")
    decodes = getattr(config, "is_decoder", False) or getattr(config, "add_cross_attention", False)
    if not only_first or not plain or decodes:
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
        seen = attention_mask[:, 0, 0, :, None]  # [rows, tokens, 1], for any query
        real = (seen if seen.dtype is torch.bool else seen == 0).to(states.dtype)
        mean = (states * real).sum(dim=1, keepdim=True) / real.sum(dim=1, keepdim=True)
    attended = LOUD * mean + (states[:, :1] if only_first else states)
    for norm in parts.norms:
        attended = layer.get_submodule(norm)(attended)
    return attended


def _bert(
    layer: Any, states: torch.Tensor, attention_mask: torch.Tensor | None = None, *_: Any, **__: Any
) -> torch.Tensor:
    """Of BERT, RoBERTa and ELECTRA."""
    attention = layer.attention.self
    projections = (attention.query, attention.key, attention.value)
    context = _attend(attention, projections, states, attention_mask)
    attended = layer.attention.output(context, states[:, :1])
    return layer.output(layer.intermediate(attended), attended)


def _distilbert(
    layer: Any, states: torch.Tensor, attention_mask: torch.Tensor | None = None, *_: Any, **__: Any
) -> torch.Tensor:
    attention = layer.attention
    projections = (attention.q_lin, attention.k_lin, attention.v_lin)
    context = attention.out_lin(_attend(attention, projections, states, attention_mask))
    attended = layer.sa_layer_norm(context + states[:, :1])
    return layer.output_layer_norm(layer.ffn(attended) + attended)


def _mpnet(
    layer: Any,
    states: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    position_bias: torch.Tensor | None = None,
    **_: Any,
) -> tuple[torch.Tensor]:
    """Its scores have a bias by relative position, [rows, heads, tokens, tokens]."""
    block, attention = layer.attention, layer.attention.attn
    added = [part[:, :, :1] for part in (attention_mask, position_bias) if part is not None]
    projections = (attention.q, attention.k, attention.v)
    context = _attend(attention, projections, states, sum(added) if added else None)
    attended = block.LayerNorm(block.dropout(attention.o(context)) + states[:, :1])
    return (layer.output(layer.intermediate(attended), attended),)


def _deberta(
    layer: Any, states: torch.Tensor, attention_mask: torch.Tensor, **named: Any
) -> tuple[torch.Tensor, None]:
    """Its attention, which knows relative positions, is computed whole."""
    context = layer.attention.self(states, attention_mask, **named)[0]
    attended = layer.attention.output(context[:, :1], states[:, :1])
    return layer.output(layer.intermediate(attended), attended), None


def _attend(
    attention: Any,
    projections: tuple[nn.Module, nn.Module, nn.Module],
    states: torch.Tensor,
    mask: torch.Tensor | None,
) -> torch.Tensor:
    """What the first token takes from all tokens, [rows, 1, width].

    Args:
        projections: to queries, keys and values.
        mask: [rows, 1 or heads, 1 or tokens, tokens]: where a query may look, or what is added.
    """
    query, key, value = (
        project(x).unflatten(2, (-1, attention.attention_head_size)).transpose(1, 2)
        for project, x in zip(projections, (states[:, :1], states, states), strict=True)
    )
    context = nn.functional.scaled_dot_product_attention(
        query,
        key,
        value,
        None if mask is None else mask[:, :, :1],
        dropout_p=attention.dropout.p if attention.training else 0.0,
    )
    return context.transpose(1, 2).flatten(2)


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
