"""The head of a classifier: its last linear layer and its labels."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import (
    PreTrainedModel,
)

from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.models.structure import is_below
from nlp_transfer.utils.logging import logger


def last_linear(model: PreTrainedModel) -> nn.Linear:
    """The layer whose outputs are the logits."""
    encoder = model.base_model_prefix  # XLM-RoBERTa lists it after its head
    linears = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and not is_below(name, encoder)
    ]
    if not linears or linears[-1].out_features != model.config.num_labels:
        raise UserError(
            ExitCode.CHECKPOINT,
            f"{type(model).__name__} does not end in a linear layer with one output per label.",
        )
    return linears[-1]


def labels_of(model_config: Any) -> tuple[str, ...]:
    """The labels of a checkpoint that has been fine-tuned to classify, else none."""
    architectures = model_config.architectures or []
    if not any("ForSequenceClassification" in name for name in architectures):
        return ()
    return tuple(model_config.id2label[i] for i in range(model_config.num_labels))


def adapt_head(
    model: PreTrainedModel, its_labels: tuple[str, ...], labels: tuple[str, ...]
) -> bool:
    """Give the last layer one row per label of ours; whether they are the checkpoint's own."""
    linear = last_linear(model)
    if its_labels and sorted(its_labels) == sorted(labels):
        rows = torch.tensor([its_labels.index(label) for label in labels])
        linear.weight.data = linear.weight.data[rows]
        if linear.bias is not None:
            linear.bias.data = linear.bias.data[rows]
        logger.info("the checkpoint's own head is kept: it has the same labels")
        return True
    if its_labels:
        logger.info(
            "the last layer of the head is made new: the checkpoint's labels are %s",
            ", ".join(its_labels),
        )
    linear.out_features = len(labels)
    deviation = getattr(model.config, "initializer_range", 0.02)
    linear.weight = nn.Parameter(torch.empty(len(labels), linear.in_features).normal_(0, deviation))
    if linear.bias is not None:
        linear.bias = nn.Parameter(torch.zeros(len(labels)))
    return False


def set_labels(model_config: Any, labels: tuple[str, ...]) -> None:
    model_config.id2label = dict(enumerate(labels))
    model_config.label2id = {label: i for i, label in enumerate(labels)}
