"""Finds the layers of a classifier by structure, and the layer of each parameter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import nn
from transformers import PreTrainedModel

from nlp_transfer.errors import ExitCode, UserError


@dataclass(frozen=True)
class ModelStructure:
    """Which part of a classifier a parameter or module belongs to, by its name.

    Depth 0 is the embeddings (and whatever else of the encoder the layers share), 1 to `layers` the
    encoder's layers from the bottom, `layers + 1` the head: the pooler and everything outside the
    encoder. A decoder's layers stand above those of the encoder that it reads.
    """

    encoder: str  # prefix of the encoder's names: bert, roberta, distilbert …
    layer_prefixes: tuple[str, ...]  # bottom to top
    pooler: str
    mean_layer: bool = False  # whether the top layer only averages (see `mean_pooling`)
    solvable_head: bool = False  # whether it can hold a linear function (see `head_solver`)

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


def find_structure(model: PreTrainedModel) -> ModelStructure:
    """The layers of a classifier, found by structure: a list as long as the configuration says.

    Raises:
        UserError: if there is no such list.
    """
    encoder = model.base_model_prefix
    stacks = [encoder]
    if model.config.is_encoder_decoder:
        stacks = [f"{encoder}.encoder", f"{encoder}.decoder"]
    prefixes = tuple(prefix for stack in stacks for prefix in _layers(model, stack))
    structure = ModelStructure(encoder, prefixes, f"{encoder}.pooler")
    return replace(structure, solvable_head=_is_solvable(model, structure))


def keep_layers(model: PreTrainedModel, kept: Sequence[int]) -> None:
    """Leave out all other layers of an encoder, in place.

    Args:
        kept: which of its layers, from 0, in their order.

    Raises:
        UserError: it has decoder layers, or layers of several kinds.
    """
    if model.config.is_encoder_decoder or getattr(model.config, "layer_types", None):
        raise UserError(
            ExitCode.CHECKPOINT,
            f"No layers of {type(model).__name__} can be left out: expected an encoder with layers "
            "of one kind, such as BERT, RoBERTa or DistilBERT.",
        )
    path = find_structure(model).layer_prefixes[0].rpartition(".")[0]
    parent, _, name = path.rpartition(".")
    stack = model.get_submodule(path)
    assert isinstance(stack, nn.ModuleList)
    setattr(model.get_submodule(parent), name, nn.ModuleList([stack[i] for i in kept]))
    set_layer_count(model, len(kept))


def set_layer_count(model: PreTrainedModel, count: int) -> None:
    """Say everywhere that an encoder has so many layers."""
    model.config.num_hidden_layers = count
    for module in model.modules():
        if hasattr(module, "n_layers"):  # DistilBERT
            module.n_layers = count


def linear_layers_of_head(
    model: PreTrainedModel, structure: ModelStructure
) -> tuple[list[nn.Linear], nn.Linear | None]:
    """Those between the encoder and the last one, and the last one."""
    linears = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and structure.depth(name) > structure.layers
    }
    last = [name for name in linears if not is_below(name, structure.encoder)][-1:]
    dense = [module for name, module in linears.items() if name not in last]
    return dense, linears[last[0]] if last else None


def _is_solvable(model: PreTrainedModel, structure: ModelStructure) -> bool:
    """Whether the head ends in a layer with a bias, after one square dense layer or none."""
    dense, last = linear_layers_of_head(model, structure)
    if last is None or last.bias is None or len(dense) > 1:
        return False
    square = (model.config.hidden_size, model.config.hidden_size)
    return all(layer.bias is not None and layer.weight.shape == square for layer in dense)


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
