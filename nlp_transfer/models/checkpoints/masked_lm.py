"""The masked-language-model head of a checkpoint, put on the encoder of a classifier.

The head stays as it was pretrained: what is wanted is the encoder, and a classifier has no place to
keep a second head in. A checkpoint without one (a sentence encoder, a decoder) is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForMaskedLM, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from nlp_transfer.config.sections.checkpoint import CheckpointConfig
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.models.loading import LOADING_FAILS_WITH, Pretrained, load_whole
from nlp_transfer.utils.logging import quiet


def load_masked_lm(config: CheckpointConfig) -> PreTrainedModel:
    """The checkpoint with its own masked-language-model head.

    Raises:
        UserError: it has none.
    """
    try:
        with quiet():
            model, report = load_whole(AutoModelForMaskedLM, config)
    except LOADING_FAILS_WITH as error:
        raise _no_head(config, "its architecture knows no masked tokens") from error
    tied = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    tied -= {name for name, _ in model.named_parameters()}
    missing = sorted(set(report["missing_keys"]) - tied)
    outside = [name for name in missing if not name.startswith(f"{model.base_model_prefix}.")]
    if outside:
        raise _no_head(config, f"{outside[0]} is missing")
    return model


def _no_head(config: CheckpointConfig, reason: str) -> UserError:
    return UserError(
        ExitCode.CHECKPOINT,
        "strategy.adapt=mlm needs a checkpoint with a masked-language-model head, and "
        f"{config.name} has none ({reason}). Take strategy.adapt=contrastive, or a checkpoint that "
        "was pretrained on masked tokens (checkpoint=bert, distilbert or roberta).",
    )


class MaskedLMHead(nn.Module):
    """Logits [tokens, vocabulary] of hidden states [tokens, width]."""

    def __init__(self, config: CheckpointConfig, pretrained: Pretrained) -> None:
        super().__init__()
        whole, classifier = load_masked_lm(config), pretrained.model
        embeddings = classifier.get_input_embeddings()
        if whole.get_input_embeddings().num_embeddings != embeddings.num_embeddings:
            whole.resize_token_embeddings(embeddings.num_embeddings)
        decoder = whole.get_output_embeddings()
        if decoder is not None and decoder.weight is whole.get_input_embeddings().weight:
            decoder.weight = embeddings.weight  # whatever the encoder's own embeddings become
        self._encoder = _Remembered(classifier.base_model)
        setattr(whole, whole.base_model_prefix, self._encoder)
        self.whole = whole.to(classifier.device).eval()

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """The head alone."""
        self._encoder.states = states[None]
        ids = torch.zeros(states.shape[:1], dtype=torch.long, device=states.device)[None]
        logits: torch.Tensor = self.whole(input_ids=ids).logits[0]
        return logits


class _Remembered(nn.Module):
    """In place of the encoder: returns states that are known already."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.states = torch.empty(0)
        object.__setattr__(self, "_itself", encoder)  # not a part of this one

    def __getattr__(self, name: str) -> Any:
        if name == "embeddings":  # some heads read its matrix
            return object.__getattribute__(self, "_itself").embeddings
        return super().__getattr__(name)

    def forward(self, *_: Any, **__: Any) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=self.states)


@contextmanager
def last_states(pretrained: Pretrained) -> Iterator[Callable[[], torch.Tensor]]:
    """What the encoder's last layer made of the texts that the model has seen last.

    Inside the context, a function that returns float [rows, tokens, width]; a layer that only
    averages (see `mean_pooling`) is none of the encoder's own.
    """
    model, structure = pretrained.model, pretrained.structure
    last = (
        model.get_submodule(structure.layer_prefixes[-2])
        if structure.mean_layer
        else model.base_model
    )
    captured: list[torch.Tensor] = []

    def remember(_: Any, __: Any, output: Any) -> None:
        captured[:] = [output if isinstance(output, torch.Tensor) else output[0]]

    hook = last.register_forward_hook(remember)
    try:
        yield lambda: captured[0]
    finally:
        hook.remove()
