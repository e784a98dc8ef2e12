"""Runs the frozen lower layers of a classifier alone, and the rest on their stored output."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from nlp_transfer.models.loading import Pretrained, evaluating
from nlp_transfer.models.shortcuts.last_layer import shortened
from nlp_transfer.models.structure import ModelStructure
from nlp_transfer.tokenization.encoded import Encoded
from nlp_transfer.tokenization.model_inputs import Inputs
from nlp_transfer.utils.logging import logger

STATES = "inputs_embeds"  # the name under which every encoder takes vectors for tokens
# Layers that return a tuple: how many entries follow the hidden states.
EXTRA_OUTPUTS = {"MPNetLayer": 0, "DebertaV2Layer": 1}


@dataclass(frozen=True)
class Prefix:
    """The frozen lower part of a classifier, and how much of its output is kept."""

    layers: int  # that are frozen, from the bottom; the embeddings always are
    first_token: bool  # nothing above the prefix looks at any other token
    dtype: np.dtype[Any]
    mean: bool = False  # of all tokens, in their place

    @property
    def one_vector(self) -> bool:
        """Whether a row keeps one vector, not one for each token."""
        return self.first_token or self.mean


class _Reached(Exception):  # noqa: N818 (a signal, not an error)
    """Ends a forward pass at the boundary and carries the hidden states there."""

    def __init__(self, states: torch.Tensor) -> None:
        super().__init__()
        self.states = states


class _PassThrough(nn.Module):
    """In place of the embeddings: returns its input."""

    def forward(self, input_ids: Any = None, inputs_embeds: Any = None, *_: Any, **__: Any) -> Any:
        """`inputs_embeds`, whatever it is called with."""
        return input_ids if inputs_embeds is None else inputs_embeds


class _SkippedLayer(nn.Module):
    """In place of a frozen layer: returns the hidden states in the layer's output format."""

    def __init__(self, layer: nn.Module, extra: int | None) -> None:
        super().__init__()
        # Some encoders read attributes off their layers; in a tuple, its parameters are not ours.
        self._layer = (layer,)
        self._extra = extra

    def forward(self, hidden_states: torch.Tensor, *_: Any, **__: Any) -> Any:
        """The states as they came."""
        return hidden_states if self._extra is None else (hidden_states,) + (None,) * self._extra

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["_layer"][0], name)


def difference(pretrained: Pretrained, encoded: Encoded, prefix: Prefix) -> float:
    """How far the suffix's logits on the prefix's output are from the whole model's, on one batch.

    NaN or infinity where the architecture does not take what it is given.
    """
    model, split = pretrained.model, encoded.splits["train"]
    lengths = split.inputs.lengths
    rows = np.unique([lengths.argmin(), lengths.argmax(), *range(min(4, len(lengths)))])
    try:
        with evaluating(model):
            batch = on_device(encoded.collator.pad(split.inputs, rows), model)
            whole = model(**batch).logits
            parts = [
                states.cpu().numpy().astype(prefix.dtype).astype(np.float32)
                for states in states_by_row(pretrained, batch, prefix)
            ]
            offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])])
            stored = Inputs({STATES: np.concatenate(parts)}, offsets)
            batch = on_device(encoded.collator.pad(stored, np.arange(len(rows))), model)
            with without_prefix(model, pretrained.structure, prefix):
                split_in_two = model(**batch).logits
    except (TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        logger.info("splitting failed: %s", str(error).splitlines()[0])
        return math.inf
    tolerance = 1.0 if prefix.dtype == np.float32 else 100.0  # float16 was asked for by name
    return float((whole - split_in_two).abs().max()) / tolerance


def states_by_row(
    pretrained: Pretrained, batch: dict[str, torch.Tensor], prefix: Prefix
) -> list[torch.Tensor]:
    """Hidden states at the boundary for each row of a batch, without padding."""
    model, structure = pretrained.model, pretrained.structure
    below = _embeddings(model, structure)[-1]
    if prefix.layers:
        below = structure.layer_prefixes[prefix.layers - 1]

    def stop(_: nn.Module, __: Any, output: Any) -> None:
        raise _Reached(output[0] if isinstance(output, tuple) else output)

    mask = batch["attention_mask"].bool()
    at_the_beginning = prefix.first_token and bool(mask[:, 0].all())
    hook = model.get_submodule(below).register_forward_hook(stop)
    try:
        with shortened(model) if at_the_beginning else nullcontext():
            model(**batch)
    except _Reached as reached:
        states = reached.states
    finally:
        hook.remove()
    if at_the_beginning:
        return list(states[:, :1])
    rows = [row[real] for row, real in zip(states, mask, strict=True)]
    if prefix.mean:
        return [row.mean(dim=0, keepdim=True) for row in rows]
    return [row[:1] for row in rows] if prefix.first_token else rows


@contextmanager
def without_prefix(
    model: PreTrainedModel, structure: ModelStructure, prefix: Prefix
) -> Iterator[None]:
    """Replace the embeddings and the lowest layers by modules that return their input."""
    replaced: list[tuple[nn.Module, str, nn.Module]] = []

    def replace(path: str, substitute: nn.Module) -> None:
        parent_path, _, name = path.rpartition(".")
        parent = model.get_submodule(parent_path)
        replaced.append((parent, name, parent.get_submodule(name)))
        setattr(parent, name, substitute)

    try:
        for path in structure.layer_prefixes[: prefix.layers]:
            layer = model.get_submodule(path)
            replace(path, _SkippedLayer(layer, EXTRA_OUTPUTS.get(type(layer).__name__)))
        for path in _embeddings(model, structure):
            replace(path, _PassThrough())
        yield
    finally:
        for parent, name, module in reversed(replaced):
            setattr(parent, name, module)


def _embeddings(model: PreTrainedModel, structure: ModelStructure) -> list[str]:
    """The modules below the first layer, in their order; ELECTRA widens its embeddings."""
    names = ("embeddings", "embeddings_project")
    return [f"{structure.encoder}.{name}" for name in names if hasattr(model.base_model, name)]


def on_device(batch: dict[str, torch.Tensor], model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """A batch where the model is."""
    return {name: tensor.to(model.device) for name, tensor in batch.items()}
