"""Solves the head of a classifier exactly, as a regression on frozen features.

The heads of these models are a dense layer, a curve (tanh, ReLU, GELU) and a linear layer. The
dense layer is set to a multiple of the identity, shifted to where its curve is nearly straight; the
linear layer is then the regression on what comes out of it, so the head holds it exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from nlp_transfer.features.linear_models import Table, solve
from nlp_transfer.models.head import last_linear
from nlp_transfer.models.loading import Pretrained, evaluating
from nlp_transfer.models.shortcuts.last_layer import shortened
from nlp_transfer.models.structure import linear_layers_of_head
from nlp_transfer.problems.detection import problem_of_config
from nlp_transfer.tokenization.encoded import Collator, EncodedSplit
from nlp_transfer.tokenization.model_inputs import Inputs, plan_inference, tokens_at_once
from nlp_transfer.utils.distributed import ProcessContext, broadcast_from_rank_zero

STRAIGHT = 0.05  # the curve may bend the features by this share of their spread
# Of the identity, and the shift: for tanh, for tanh of features that have outliers (all-MiniLM's
# first token: 17 deviations), for ReLU and GELU.
SCALES = ((0.02, 0.0), (0.005, 0.0), (1.0, 40.0))


def solve_head(  # noqa: PLR0913
    pretrained: Pretrained,
    train: EncodedSplit,
    validation: EncodedSplit | None,
    collator: Collator,
    max_tokens: int | None,
    process: ProcessContext,
    seed: int,
    label_weights: np.ndarray | None = None,
    fitted_on_train: bool = False,
) -> float | None:
    """Write the solution into the model's own head.

    Args:
        validation: None: the strength is chosen by folds of train.
        fitted_on_train: whether what the head reads has learned from train in an earlier stage.
        label_weights: how much a row of each label counts, float [labels]; None: the same.

    Returns:
        The strength chosen (C), or None where this head cannot hold a linear function; the head is
        then as it was.
    """
    model = pretrained.model
    with evaluating(model), shortened(model):
        shape = _straighten(pretrained, train.inputs, collator)
        if shape is None:
            return None
        scale, shift = shape
        train_table, validation_table = (
            None
            if split is None
            else _table(
                (_head_inputs(model, split.inputs, collator, max_tokens) - shift) / scale,
                split,
                label_weights,
            )
            for split in (train, validation)
        )
    assert train_table is not None, "there is a train split"
    problem, outputs = problem_of_config(model.config.to_dict()), model.config.num_labels
    strength, solution = broadcast_from_rank_zero(
        lambda: solve(problem, outputs, train_table, validation_table, seed, fitted_on_train),
        process,
    )
    linear = last_linear(model)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(solution.weight / scale))
        bias = solution.bias - solution.weight.sum(axis=1) * (shift / scale)
        linear.bias.copy_(torch.from_numpy(bias))
    return strength


def _table(x: np.ndarray, split: EncodedSplit, label_weights: np.ndarray | None) -> Table:
    """One row a document: where it has windows, the mean of their features."""
    if split.inputs.windows is not None:
        x = split.inputs.windows.average(x)
    counts = np.ones(len(x))
    if label_weights is not None:
        several = split.labels.ndim > 1  # the yes to each label is weighed
        counts = (
            label_weights[split.labels]
            if not several
            else (np.where(split.labels > 0, label_weights, 1.0))
        )
    return Table(x, split.labels, counts)


def _straighten(
    pretrained: Pretrained, inputs: Inputs, collator: Collator
) -> tuple[float, float] | None:
    """Set the head's dense layer so that its curve is nearly straight; its scale and shift.

    None where no setting does, and the dense layer is as it was.
    """
    model, structure = pretrained.model, pretrained.structure
    if not structure.solvable_head:
        return None
    dense, _ = linear_layers_of_head(model, structure)
    if not dense:
        return 1.0, 0.0
    layer, width = dense[0], model.config.hidden_size
    before = {name: parameter.clone() for name, parameter in layer.named_parameters()}
    rows = np.arange(min(16, len(inputs)))
    with torch.no_grad():
        for scale, shift in SCALES:
            layer.weight.copy_(scale * torch.eye(width))
            layer.bias.fill_(shift)
            into, out = _around(model, layer, inputs, collator, rows)
            bent = np.abs((out - shift) / scale - into).max() / into.std()
            if bent < STRAIGHT:
                return scale, shift
        for name, parameter in layer.named_parameters():
            parameter.copy_(before[name])
    return None


def _around(
    model: PreTrainedModel, layer: nn.Linear, inputs: Inputs, collator: Collator, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What goes into the dense layer and into the last linear one, for some rows."""
    with _listening(layer) as into, _listening(last_linear(model)) as out:
        batch = collator.pad(inputs, rows)
        model(**{name: tensor.to(model.device) for name, tensor in batch.items()})
    return into[0], out[0]


def _head_inputs(
    model: PreTrainedModel, inputs: Inputs, collator: Collator, max_tokens: int | None
) -> np.ndarray:
    """What goes into the last linear layer, float64 [rows, width]."""
    head_inputs = np.empty((len(inputs), last_linear(model).in_features))
    for rows in plan_inference(inputs.lengths, max_tokens or tokens_at_once(model.device)):
        with _listening(last_linear(model)) as captured:
            batch = collator.pad(inputs, rows)
            model(**{name: tensor.to(model.device) for name, tensor in batch.items()})
        head_inputs[rows] = captured[0]
    return head_inputs


@contextmanager
def _listening(module: nn.Module) -> Iterator[list[np.ndarray]]:
    captured: list[np.ndarray] = []
    hook = module.register_forward_pre_hook(
        lambda _, arguments: captured.append(arguments[0].detach().float().cpu().numpy())
    )
    try:
        yield captured
    finally:
        hook.remove()
