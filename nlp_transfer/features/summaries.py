"""First token and mean of every text, at several depths of an encoder, in one pass; stored."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from nlp_transfer.config.sections.features import FeaturesConfig
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.models.frozen_prefix import on_device
from nlp_transfer.models.loading import Pretrained, evaluating
from nlp_transfer.tokenization.encoded import Collator
from nlp_transfer.tokenization.model_inputs import Inputs, plan_inference, tokens_at_once
from nlp_transfer.utils.cache import find_or_make, forget_the_oldest
from nlp_transfer.utils.distributed import ProcessContext
from nlp_transfer.utils.logging import logger

FIRST, MEAN = 0, 1  # positions of the two poolings in what is returned
FILE = "summaries.npy"


def stored_summaries(  # noqa: PLR0913
    pretrained: Pretrained,
    inputs: Inputs,
    collator: Collator,
    layers: Sequence[int],
    config: FeaturesConfig,
    process: ProcessContext,
) -> np.ndarray:
    """As `summaries`, computed once and kept by content in `features.folder`."""

    def begin(folder: Path) -> None:
        del folder

    def fill(folder: Path) -> None:
        np.save(folder / FILE, summaries(pretrained, inputs, collator, layers))

    home = Path(config.folder)
    folder = home / _key(pretrained, inputs, layers)
    say = partial(logger.info, "  found in %s", folder)
    find_or_make(folder, begin, fill, process, say)
    values = np.load(folder / FILE)
    forget_the_oldest(home, config.keep_gb)
    return values


def summaries(
    pretrained: Pretrained, inputs: Inputs, collator: Collator, layers: Sequence[int]
) -> np.ndarray:
    """The first token and the mean of all tokens behind each of the layers.

    Every vector has mean 0 and variance 1, as the LayerNorm of an added mean layer leaves it, so
    that layers of any scale are comparable. Windows of a document are averaged.

    Args:
        layers: depths, 1 to `structure.layers`.

    Returns:
        float32 [documents, layers, 2 (first, mean), width].

    Raises:
        UserError: if the model is not an encoder, or its states are not finite.
    """
    model = pretrained.model
    if model.config.is_encoder_decoder:
        raise UserError(
            ExitCode.CHECKPOINT,
            f"{type(model).__name__} answers by a decoder: expected an encoder such as BERT.",
        )
    values = np.empty((len(inputs), len(layers), 2, model.config.hidden_size), np.float32)
    with evaluating(model):
        for rows in plan_inference(inputs.lengths, tokens_at_once(model.device)):
            batch = on_device(collator.pad(inputs, rows), model)
            for place, states in enumerate(_states(pretrained, batch, layers)):
                values[rows, place] = _first_and_mean(states, batch["attention_mask"])
    if not np.isfinite(values).all():
        raise UserError(
            ExitCode.CHECKPOINT,
            f"The hidden states of {type(model).__name__} are not finite: expected numbers. Check "
            "that its weights are whole.",
        )
    values = row_normalised(values)
    if inputs.windows is None:
        return values
    flat = inputs.windows.average(values.reshape(len(values), -1))
    return flat.reshape(-1, *values.shape[1:])


def _states(
    pretrained: Pretrained, batch: dict[str, torch.Tensor], layers: Sequence[int]
) -> list[torch.Tensor]:
    """Hidden states [rows, tokens, width] behind each layer."""
    by_layer: dict[int, torch.Tensor] = {}
    with _listening(pretrained, layers, by_layer):
        pretrained.model(**batch)
    return [by_layer[layer] for layer in layers]


@contextmanager
def _listening(
    pretrained: Pretrained, layers: Sequence[int], by_layer: dict[int, torch.Tensor]
) -> Iterator[None]:
    def keep(layer: int, _: nn.Module, __: Any, output: Any) -> None:
        by_layer[layer] = output[0] if isinstance(output, tuple) else output

    prefixes = pretrained.structure.layer_prefixes
    hooks = [
        pretrained.model.get_submodule(prefixes[layer - 1]).register_forward_hook(
            partial(keep, layer)
        )
        for layer in layers
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _first_and_mean(states: torch.Tensor, mask: torch.Tensor) -> np.ndarray:
    """float32 [rows, 2, width]; the first token is the first that is no padding."""
    rows = torch.arange(len(states), device=states.device)
    first = states[rows, mask.argmax(dim=1)]
    weights = mask.unsqueeze(-1).to(states.dtype)
    mean = (states * weights).sum(dim=1) / weights.sum(dim=1)
    return torch.stack([first, mean], dim=1).float().cpu().numpy()


def row_normalised(x: np.ndarray) -> np.ndarray:
    """Every vector with mean 0 and variance 1."""
    x = x - x.mean(axis=-1, keepdims=True)
    return x / np.maximum(x.std(axis=-1, keepdims=True), 1e-12)


def _key(pretrained: Pretrained, inputs: Inputs, layers: Sequence[int]) -> str:
    """The content that summaries are a function of: weights, tokens, windows and depths."""
    model = pretrained.model
    digest = hashlib.sha256(repr(("summaries", type(model).__name__, list(layers))).encode())
    digest.update(model.config.to_json_string().encode())
    for name, tensor in model.state_dict().items():
        if pretrained.structure.depth(name) <= max(layers):
            digest.update(tensor.detach().cpu().contiguous().numpy())
    for name in sorted(inputs.flat):
        digest.update(np.ascontiguousarray(inputs.flat[name]).data)
    for array in (inputs.offsets, inputs.documents):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:24]
