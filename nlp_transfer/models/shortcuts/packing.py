"""Lets the layers of an encoder compute real tokens only, whatever the lengths in a batch.

Most of a layer sees one token at a time: it is given those of all texts in one row. Only attention
needs to know which text a token is of, and gets them back in rows, texts of like length together:
its cost is quadratic, and with dropout it is most of a layer's. Exact: what differs is the rounding
(and which random numbers a dropout draws).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from nlp_transfer.models.shortcuts.attention import attend, is_plain, projections
from nlp_transfer.models.structure import find_structure

# What one more group costs, in pairs of tokens of one text: on a CPU (MiniLM, forward and backward,
# dropout) 0.3 ms and 0.6 µs; a GPU computes small groups no sooner than large ones.
COST_OF_A_GROUP = 1024


@contextmanager
def without_padding(model: PreTrainedModel) -> Iterator[bool]:
    """While this lasts, the layers that are known, and compute whole, compute no padding.

    Yields:
        Whether there are such layers.
    """
    layers = [model.get_submodule(path) for path in find_structure(model).layer_prefixes]
    known = [layer for layer in layers if type(layer).__name__ in ATTENTION]
    packed = [layer for layer in known if "forward" not in vars(layer)]
    if not packed or not is_plain(model.config):
        yield False
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
        yield True


@dataclass(frozen=True)
class _Group:
    """Texts of like length, which attend together in rows of their own."""

    shape: tuple[int, int]  # texts, and tokens of the longest
    tokens: torch.Tensor  # long [texts * longest], places in the packed row; padding has any
    real: torch.Tensor  # long [real tokens], places among these
    visible: torch.Tensor | None  # bool [texts, 1, 1, longest]; None: there is no padding


def like_lengths(lengths: np.ndarray, cost: float) -> list[np.ndarray]:
    """Texts in groups whose attention, over the longest text of each, costs least together.

    Args:
        lengths: int [texts], tokens.
        cost: of a group, in pairs of tokens.
    """
    order = np.argsort(lengths, kind="stable")
    squares = lengths[order].astype(float) ** 2
    best, begins = [0.0], [0]  # of the shortest texts; where the last group begins
    for end in range(1, len(order) + 1):
        costs = [best[i] + (end - i) * squares[end - 1] + cost for i in range(end)]
        begins.append(int(np.argmin(costs)))
        best.append(costs[begins[-1]])
    groups, end = [], len(order)
    while end:
        groups.append(order[begins[end] : end])
        end = begins[end]
    return groups


class _Batch:
    """The current batch: where its real tokens are."""

    def __init__(self) -> None:
        self.shape = (0, 0)  # texts, and tokens of the longest
        self.places = torch.empty(0, dtype=torch.long)  # [real tokens], in the padded batch
        self.groups: list[_Group] = []
        self.order = torch.empty(0, dtype=torch.long)  # [real tokens], where the groups have them

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
        mask = arguments[1] if len(arguments) > 1 else keywords["attention_mask"]
        self.shape = states.shape[:2]
        real = torch.ones(self.shape, dtype=torch.bool, device=states.device)
        if mask is not None:  # [texts, 1, 1 or tokens, tokens]
            visible = mask[:, 0, 0]
            real = visible if visible.dtype is torch.bool else visible == 0
        real = real.expand(self.shape)
        self.places = real.flatten().nonzero()[:, 0]
        self._group(real.sum(dim=1))
        return (self.pack(states), *arguments[1:]), keywords

    def unpack_last(self, _: nn.Module, __: Any, output: Any) -> Any:
        """After the last layer."""
        if isinstance(output, tuple):
            return self.unpack(output[0]), *output[1:]
        return self.unpack(output)

    def _group(self, lengths: torch.Tensor) -> None:
        """Find which texts attend together; `lengths` are their tokens, long [texts]."""
        starts = lengths.cumsum(0) - lengths
        cost = COST_OF_A_GROUP if lengths.device.type == "cpu" else np.inf
        self.groups, packed = [], []
        for texts in like_lengths(lengths.cpu().numpy(), cost):
            rows = torch.as_tensor(texts, device=lengths.device)
            own = lengths[rows][:, None]
            place = torch.arange(int(own.max()), device=lengths.device)
            tokens = (starts[rows][:, None] + place.minimum(own - 1)).flatten()
            visible = place < own
            real = visible.flatten().nonzero()[:, 0]
            mask = None if len(real) == len(tokens) else visible[:, None, None]
            self.groups.append(_Group((len(rows), len(place)), tokens, real, mask))
            packed.append(tokens[real])
        self.order = torch.cat(packed).argsort()

    def attend(
        self, attention: Any, states: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Attention of each text over itself, of and to [1, real tokens, width].

        Args:
            bias: of the scores, [texts, heads, tokens, tokens], the same for all texts.
        """
        projected = [project(states)[0] for project in projections(attention)]
        contexts = []
        for group in self.groups:
            query, key, value = (
                states.index_select(0, group.tokens).unflatten(0, group.shape)
                for states in projected
            )
            mask = group.visible
            if bias is not None:
                texts, longest = group.shape
                mask = bias[:1, :, :longest, :longest].expand(texts, -1, -1, -1)
                if group.visible is not None:
                    mask = mask.masked_fill(~group.visible, -torch.inf)
            context = attend(attention, query, key, value, mask)
            contexts.append(context.flatten(0, 1).index_select(0, group.real))
        return torch.cat(contexts).index_select(0, self.order)[None]


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
