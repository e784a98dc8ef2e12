"""Attention of encoders that hold queries, keys and values in maps of their own."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def is_plain(config: Any) -> bool:
    """Whether an encoder's attention is that of `attend`, by its configuration."""
    decodes = getattr(config, "is_decoder", False) or getattr(config, "add_cross_attention", False)
    return not decodes and getattr(config, "_attn_implementation", "eager") in ("eager", "sdpa")


def projections(attention: Any) -> tuple[nn.Module, nn.Module, nn.Module]:
    """The maps to queries, keys and values."""
    for names in (("query", "key", "value"), ("q_lin", "k_lin", "v_lin"), ("q", "k", "v")):
        if hasattr(attention, names[0]):
            query, key, value = (getattr(attention, name) for name in names)
            return query, key, value
    raise AssertionError(f"{type(attention).__name__} is not known")


def sum_of(mask: torch.Tensor | None, bias: torch.Tensor | None) -> torch.Tensor | None:
    """A mask that is added, and a bias of every score; None: there is neither."""
    if mask is None or bias is None:
        return bias if mask is None else mask
    return mask + bias


def attend(
    attention: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
) -> torch.Tensor:
    """What each query takes from the values, [rows, queries, width].

    Args:
        attention: the module, for its heads and its dropout.
        query: [rows, queries, width]; key and value are [rows, tokens, width].
        mask: [rows, 1 or heads, 1 or queries, tokens]: where a query may look (bool), or what is
            added to its scores.
    """
    query, key, value = (
        states.unflatten(2, (-1, attention.attention_head_size)).transpose(1, 2)
        for states in (query, key, value)
    )
    dropout = attention.dropout.p if attention.training else 0.0
    context = nn.functional.scaled_dot_product_attention(query, key, value, mask, dropout)
    return context.transpose(1, 2).flatten(2)
