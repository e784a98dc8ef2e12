"""Solves the head of a classifier exactly, as a logistic regression on frozen features.

The heads of these models are a dense layer, a curve (tanh, ReLU, GELU) and a linear layer. The
dense layer is set to a multiple of the identity, shifted to where its curve is nearly straight; the
linear layer is then the regression on what comes out of it, so the head holds it exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from torch import nn
from transformers import PreTrainedModel

from nlp_transfer.batches import plan_inference
from nlp_transfer.machine import Machine, first_decides
from nlp_transfer.model import Pretrained, last_linear
from nlp_transfer.tokenization import Collator, EncodedSplit, Inputs

STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # scikit-learn's C
FEW_ROWS = 2000  # up to here the strength is chosen by cross-validation, beyond by validation
NEVER = -100.0  # a logit
STRAIGHT = 0.05  # the curve may bend the features by this share of their spread
SCALES = ((0.02, 0.0), (1.0, 40.0))  # of the identity, and the shift: for tanh; for ReLU and GELU


def solve_head(  # noqa: PLR0913
    pretrained: Pretrained,
    train: EncodedSplit,
    validation: EncodedSplit,
    collator: Collator,
    max_tokens: int,
    machine: Machine,
    seed: int,
) -> float | None:
    """Write the solution into the model's own head.

    Returns:
        The strength chosen (C), or None where this head cannot hold a linear function; the head is
        then as it was.
    """
    model = pretrained.model
    with _eval(model):
        shape = _straighten(pretrained, train.inputs, collator)
        if shape is None:
            return None
        scale, shift = shape
        x = (_head_inputs(model, train.inputs, collator, max_tokens) - shift) / scale
        y = (_head_inputs(model, validation.inputs, collator, max_tokens) - shift) / scale
    best, classes, weight, bias = first_decides(
        lambda: _solve(x, train.labels, y, validation.labels, seed), machine
    )
    linear = last_linear(model)
    with torch.no_grad():
        # A label that train has no row of is never the answer.
        linear.weight.zero_()
        linear.bias.fill_(NEVER)
        linear.weight[classes] = torch.from_numpy(weight / scale).to(linear.weight)
        moved = bias - weight.sum(axis=1) * (shift / scale)
        linear.bias[classes] = torch.from_numpy(moved).to(linear.bias)
    return best


def _solve(
    x: np.ndarray, labels: np.ndarray, y: np.ndarray, held_out: np.ndarray, seed: int
) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """Strength, labels seen, weight [labels, width] and bias [labels] of the best regression."""
    classes = np.unique(labels)
    smallest = int(np.bincount(labels)[classes].min())
    losses = {}
    for strength in STRENGTHS:
        regression = LogisticRegression(C=strength, max_iter=2000)
        if len(labels) <= FEW_ROWS and smallest >= 2:
            folds = StratifiedKFold(min(5, smallest), shuffle=True, random_state=seed)
            found = cross_val_predict(regression, x, labels, cv=folds, method="predict_proba")
            losses[strength] = log_loss(labels, found, labels=classes)
        else:
            known = np.isin(held_out, classes)
            found = regression.fit(x, labels).predict_proba(y[known])
            losses[strength] = log_loss(held_out[known], found, labels=classes)
    best = min(losses, key=lambda strength: losses[strength])
    regression = LogisticRegression(C=best, max_iter=2000).fit(x, labels)
    weight, bias = regression.coef_, regression.intercept_
    if len(classes) == 2:  # one row for the second class: split it between the two
        weight = np.concatenate([-weight, weight]) / 2
        bias = np.concatenate([-bias, bias]) / 2
    return best, classes, weight, bias


def _straighten(
    pretrained: Pretrained, inputs: Inputs, collator: Collator
) -> tuple[float, float] | None:
    """Set the head's dense layer so that its curve is nearly straight; its scale and shift.

    None where no setting does, and the dense layer is as it was.
    """
    model, anatomy = pretrained.model, pretrained.anatomy
    width = model.config.hidden_size
    dense = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and anatomy.depth(name) > anatomy.layers
        and module is not last_linear(model)
    ]
    if last_linear(model).bias is None or len(dense) > 1:
        return None
    if not dense:
        return 1.0, 0.0
    layer = dense[0]
    if layer.bias is None or layer.weight.shape != (width, width):
        return None
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


@torch.inference_mode()
def _around(
    model: PreTrainedModel, layer: nn.Linear, inputs: Inputs, collator: Collator, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What goes into the dense layer and into the last linear one, for some rows."""
    with _listening(layer) as into, _listening(last_linear(model)) as out:
        batch = collator.pad(inputs, rows)
        model(**{name: tensor.to(model.device) for name, tensor in batch.items()})
    return into[0], out[0]


@torch.inference_mode()
def _head_inputs(
    model: PreTrainedModel, inputs: Inputs, collator: Collator, max_tokens: int
) -> np.ndarray:
    """What goes into the last linear layer, float64 [rows, width]."""
    found = np.empty((len(inputs), last_linear(model).in_features))
    for rows in plan_inference(inputs.lengths, max_tokens):
        with _listening(last_linear(model)) as heard:
            batch = collator.pad(inputs, rows)
            model(**{name: tensor.to(model.device) for name, tensor in batch.items()})
        found[rows] = heard[0]
    return found


@contextmanager
def _listening(module: nn.Module) -> Iterator[list[np.ndarray]]:
    heard: list[np.ndarray] = []
    hook = module.register_forward_pre_hook(
        lambda _, given: heard.append(given[0].detach().float().cpu().numpy())
    )
    try:
        yield heard
    finally:
        hook.remove()


@contextmanager
def _eval(model: PreTrainedModel) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
