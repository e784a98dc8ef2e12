"""Finds the layers of a classifier by structure, and the layer of each parameter."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from transformers import (
    PreTrainedModel,
)

from nlp_transfer.errors import ExitCode, UserError


@dataclass(frozen=True)
class Anatomy:
    """Which part of a classifier a parameter or module belongs to, by its name.

    Depth 0 is the embeddings (and whatever else of the encoder the layers share), 1 to `layers` the
    encoder's layers from the bottom, `layers + 1` the head: the pooler and everything outside the
    encoder. A decoder's layers stand above those of the encoder that it reads.
    """

    encoder: str  # prefix of the encoder's names: bert, roberta, distilbert …
    layer_prefixes: tuple[str, ...]  # bottom to top
    pooler: str
    mean_layer: bool = False  # whether the top layer only averages (see `mean_pooling`)

    @property
    def layers(self) -> int:
        """Number of encoder layers."""
        return len(self.layer_prefixes)

    def depth(self, name: str) -> int:
        """The depth of a parameter or module."""
        for depth, prefix in enumerate(self.layer_prefixes, start=1):
            if is_below(name, prefix):
                return depth
        outside = not is_below(name, self.encoder) or is_below(name, self.pooler)
        return self.layers + 1 if outside else 0


def find_anatomy(model: PreTrainedModel) -> Anatomy:
    """The layers of a classifier, found by structure: a list as long as the configuration says.

    Raises:
        UserError: if there is no such list.
    """
    encoder = model.base_model_prefix
    stacks = [encoder]
    if model.config.is_encoder_decoder:
        stacks = [f"{encoder}.encoder", f"{encoder}.decoder"]
    prefixes = tuple(prefix for stack in stacks for prefix in _layers(model, stack))
    return Anatomy(encoder, prefixes, f"{encoder}.pooler")


def _layers(model: PreTrainedModel, stack: str) -> list[str]:
    """The names of a stack's layers, from the bottom."""
    itself = model.get_submodule(stack)
    count = itself.config.num_hidden_layers  # a decoder's own may differ from its encoder's
    for name, module in itself.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return [f"{stack}.{name}.{i}" for i in range(count)]
    raise UserError(
        ExitCode.CHECKPOINT,
        f"{type(model).__name__} has no list of {count} layers, so it cannot be trained in parts; "
        "expected a text encoder such as BERT, RoBERTa or DistilBERT.",
    )


def is_below(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")
