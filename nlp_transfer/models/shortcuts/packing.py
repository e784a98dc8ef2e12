"""Lets the layers of an encoder compute real tokens only, whatever the lengths in a batch.

Most of a layer sees one token at a time: it is given those of all texts in one row. Only attention
needs to know which text a token is of, and gets them back in rows with padding. Exact: what differs
is the rounding (and which random numbers a dropout draws).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from nlp_transfer.models.anatomy import find_anatomy
from nlp_transfer.models.shortcuts.attention import attend, is_plain, projections, sum_of


@contextmanager
def without_padding(model: PreTrainedModel) -> Iterator[None]:
    """While this lasts, the layers that are known, and compute whole, compute no padding."""
    layers = [model.get_submodule(path) for path in find_anatomy(model).layer_prefixes]
    known = [layer for layer in layers if type(layer).__name__ in ATTENTION]
    packed = [layer for layer in known if "forward" not in vars(layer)]
    if not packed or not is_plain(model.config):
        yield
        return
    batch = _Batch()
    with ExitStack() as stack:
        first = packed[0].register_forward_pre_hook(batch.pack_first, with_kwargs=True)
        last = packed[-1].register_forward_hook(batch.unpack_last)
        stack.callback(first.remove)
        stack.callback(last.remove)
        for layer in packed:
            attention, forward = ATTENTION[type(layer).__name__](layer)
            attention.forward = partial(forward, attention, batch)
            stack.callback(delattr, attention, "forward")
        yield


class _Batch:
    """The batch under way: where its real tokens are."""

    def __init__(self) -> None:
        self.shape = (0, 0)  # texts, and tokens of the longest
        self.places = torch.empty(0, dtype=torch.long)  # [real tokens], in the padded batch
        self.mask: torch.Tensor | None = None  # as the encoder hands it to its layers

    def pack(self, states: torch.Tensor) -> torch.Tensor:
        """From [texts, tokens, width] to [1, real tokens, width]."""
        return states.flatten(0, 1).index_select(0, self.places)[None]

    def unpack(self, states: torch.Tensor) -> torch.Tensor:
        """From [1, real tokens, width] to [texts, tokens, width]; padding is zero."""
        texts, tokens = self.shape
        padded = states.new_zeros(texts * tokens, states.shape[2])
        return padded.index_copy(0, self.places, states[0]).unflatten(0, self.shape)

    def pack_first(self, _: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Before the first layer; `arguments` are the states and the mask."""
        states = arguments[0]
        self.mask = arguments[1] if len(arguments) > 1 else keywords["attention_mask"]
        self.shape = states.shape[:2]
        real = torch.ones(self.shape, dtype=torch.bool, device=states.device)
        if self.mask is not None:  # [texts, 1, 1 or tokens, tokens]
            visible = self.mask[:, 0, 0]
            real = visible if visible.dtype is torch.bool else visible == 0
        self.places = real.expand(self.shape).flatten().nonzero()[:, 0]
        return (self.pack(states), *arguments[1:]), keywords

    def unpack_last(self, _: nn.Module, __: Any, output: Any) -> Any:
        """After the last layer."""
        if isinstance(output, tuple):
            return self.unpack(output[0]), *output[1:]
        return self.unpack(output)

    def attend(
        self, attention: Any, states: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Attention of each text over itself, of and to [1, real tokens, width]."""
        query, key, value = (self.unpack(project(states)) for project in projections(attention))
        return self.pack(attend(attention, query, key, value, sum_of(self.mask, bias)))


def _bert(attention: Any, batch: _Batch, states: torch.Tensor, *_: Any, **__: Any) -> Any:
    return batch.attend(attention, states), None


def _distilbert(attention: Any, batch: _Batch, states: torch.Tensor, *_: Any, **__: Any) -> Any:
    return attention.out_lin(batch.attend(attention, states)), None


def _mpnet(
    attention: Any,
    batch: _Batch,
    states: torch.Tensor,
    attention_mask: Any = None,  # noqa: ARG001 (that of the batch)
    position_bias: torch.Tensor | None = None,
    **_: Any,
) -> Any:
    return (attention.o(batch.attend(attention, states, position_bias)),)


Forward = Callable[..., Any]
# By the class of a layer: its attention, and what that computes instead.
ATTENTION: dict[str, Callable[[Any], tuple[Any, Forward]]] = {
    "BertLayer": lambda layer: (layer.attention.self, _bert),
    "RobertaLayer": lambda layer: (layer.attention.self, _bert),
    "XLMRobertaLayer": lambda layer: (layer.attention.self, _bert),
    "CamembertLayer": lambda layer: (layer.attention.self, _bert),
    "ElectraLayer": lambda layer: (layer.attention.self, _bert),
    "TransformerBlock": lambda layer: (layer.attention, _distilbert),
    "MPNetLayer": lambda layer: (layer.attention.attn, _mpnet),
}
