"""Solves the head of a classifier exactly, as a regression on frozen features.

The heads of these models are a dense layer, a curve (tanh, ReLU, GELU) and a linear layer. The
dense layer is set to a multiple of the identity, shifted to where its curve is nearly straight; the
linear layer is then the regression on what comes out of it, so the head holds it exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import KFold, StratifiedKFold
from torch import nn
from transformers import PreTrainedModel

from nlp_transfer.batches import plan_inference
from nlp_transfer.machine import Machine, first_decides
from nlp_transfer.model import Pretrained, evaluating, last_linear
from nlp_transfer.tokenization import Collator, EncodedSplit, Inputs

STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # scikit-learn's C, 1/alpha of a ridge
FEW_ROWS = 2000  # up to here the strength is chosen by cross-validation, beyond by validation
FOLDS = 5
NEVER = -100.0  # a logit
STRAIGHT = 0.05  # the curve may bend the features by this share of their spread
SCALES = ((0.02, 0.0), (1.0, 40.0))  # of the identity, and the shift: for tanh; for ReLU and GELU


@dataclass(frozen=True)
class Table:
    """Features float64 [rows, width], labels, and how much each row counts [rows]."""

    x: np.ndarray
    labels: np.ndarray  # ids [rows], 0/1 [rows, labels] or scores [rows]
    counts: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> Table:
        return Table(self.x[rows], self.labels[rows], self.counts[rows])


@dataclass(frozen=True)
class Linear:
    """Logits are `x @ weight.T + bias`."""

    weight: np.ndarray  # [labels, width]
    bias: np.ndarray  # [labels]


Solve = Callable[[Table, float], Linear]


def solve_head(  # noqa: PLR0913
    pretrained: Pretrained,
    train: EncodedSplit,
    validation: EncodedSplit,
    collator: Collator,
    max_tokens: int,
    machine: Machine,
    seed: int,
    label_weights: np.ndarray | None = None,
) -> float | None:
    """Write the solution into the model's own head.

    Args:
        label_weights: how much a row of each label counts, float [labels]; None: the same.

    Returns:
        The strength chosen (C), or None where this head cannot hold a linear function; the head is
        then as it was.
    """
    model = pretrained.model
    with evaluating(model):
        shape = _straighten(pretrained, train.inputs, collator)
        if shape is None:
            return None
        scale, shift = shape
        seen, unseen = (
            _table(
                (_head_inputs(model, split.inputs, collator, max_tokens) - shift) / scale,
                split,
                label_weights,
            )
            for split in (train, validation)
        )
    problem, outputs = model.config.problem_type, model.config.num_labels
    strength, solution = first_decides(lambda: solve(problem, outputs, seen, unseen, seed), machine)
    linear = last_linear(model)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(solution.weight / scale))
        moved = solution.bias - solution.weight.sum(axis=1) * (shift / scale)
        linear.bias.copy_(torch.from_numpy(moved))
    return strength


def solve(
    problem: str, outputs: int, train: Table, validation: Table, seed: int
) -> tuple[float, Linear]:
    """The best strength, and the regression with it on all of train."""
    cuts = _cuts(problem, train, validation, seed)
    solvers = [_solver(problem, outputs) for _ in cuts]
    losses: dict[float, float] = {}
    for strength in STRENGTHS:
        found = [
            _loss(problem, solver(seen, strength), unseen)
            for solver, (seen, unseen) in zip(solvers, cuts, strict=True)
        ]
        losses[strength] = float(np.mean(found))
    best = min(losses, key=lambda strength: losses[strength])
    return best, _solver(problem, outputs)(train, best)


def _table(x: np.ndarray, split: EncodedSplit, label_weights: np.ndarray | None) -> Table:
    counts = np.ones(len(x)) if label_weights is None else label_weights[split.labels]
    return Table(x, split.labels, counts)


def _cuts(problem: str, train: Table, validation: Table, seed: int) -> list[tuple[Table, Table]]:
    """Pairs to learn from and to judge by: folds of train where it is small, else validation."""
    folds = min(FOLDS, len(train.labels))
    kind: type[KFold] | type[StratifiedKFold] = KFold
    if problem == "single_label_classification":
        folds = min(FOLDS, int(np.unique(train.labels, return_counts=True)[1].min()))
        kind = StratifiedKFold
    if len(train.labels) > FEW_ROWS or folds < 2:
        return [(train, validation)]
    split = kind(folds, shuffle=True, random_state=seed).split
    return [(train[seen], train[unseen]) for seen, unseen in split(train.x, train.labels)]


def _solver(problem: str, outputs: int) -> Solve:
    """A function from rows and strength to the solution; it starts where it ended last time."""
    match problem:
        case "single_label_classification":
            one = LogisticRegression(max_iter=2000, warm_start=True)
            return lambda rows, strength: _by_label(one.set_params(C=strength), rows, outputs)
        case "multi_label_classification":
            each = [LogisticRegression(max_iter=2000, warm_start=True) for _ in range(outputs)]
            return lambda rows, strength: _joined(
                [
                    _yes_or_no(regression.set_params(C=strength), rows, column)
                    for column, regression in enumerate(each)
                ]
            )
        case "regression":
            return _ridge
        case _:
            raise AssertionError(problem)


def _by_label(regression: LogisticRegression, rows: Table, outputs: int) -> Linear:
    """One softmax over the labels; a label that has no row is never the answer."""
    regression.fit(rows.x, rows.labels, rows.counts)
    found, bias = regression.coef_, regression.intercept_
    if len(regression.classes_) == 2:  # one row for the second label: split it between the two
        found = np.concatenate([-found, found]) / 2
        bias = np.concatenate([-bias, bias]) / 2
    solution = Linear(np.zeros((outputs, found.shape[1])), np.full(outputs, NEVER))
    solution.weight[regression.classes_] = found
    solution.bias[regression.classes_] = bias
    return solution


def _yes_or_no(regression: LogisticRegression, rows: Table, column: int) -> Linear:
    """One label of several, by itself."""
    answers = rows.labels[:, column].astype(int)
    if len(np.unique(answers)) == 1:
        bias = -NEVER if answers[0] else NEVER
        return Linear(np.zeros((1, rows.x.shape[1])), np.array([bias]))
    regression.fit(rows.x, answers, rows.counts)
    return Linear(regression.coef_, regression.intercept_)


def _joined(solutions: list[Linear]) -> Linear:
    weights, biases = [s.weight for s in solutions], [s.bias for s in solutions]
    return Linear(np.concatenate(weights), np.concatenate(biases))


def _ridge(rows: Table, strength: float) -> Linear:
    ridge = Ridge(alpha=1 / strength).fit(rows.x, rows.labels.reshape(len(rows.x), -1), rows.counts)
    return Linear(ridge.coef_.reshape(-1, rows.x.shape[1]), ridge.intercept_.reshape(-1))


def _loss(problem: str, solution: Linear, rows: Table) -> float:
    """Mean log loss of labels, squared error of scores."""
    logits = rows.x @ solution.weight.T + solution.bias
    match problem:
        case "single_label_classification":
            chosen = logits[np.arange(len(logits)), rows.labels]
            each = np.logaddexp.reduce(logits, axis=1) - chosen
        case "multi_label_classification":
            each = (np.logaddexp(0, logits) - logits * rows.labels).sum(axis=1)
        case _:
            each = ((logits - rows.labels.reshape(len(logits), -1)) ** 2).sum(axis=1)
    return float(np.average(each, weights=rows.counts))


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


def _around(
    model: PreTrainedModel, layer: nn.Linear, inputs: Inputs, collator: Collator, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What goes into the dense layer and into the last linear one, for some rows."""
    with _listening(layer) as into, _listening(last_linear(model)) as out:
        batch = collator.pad(inputs, rows)
        model(**{name: tensor.to(model.device) for name, tensor in batch.items()})
    return into[0], out[0]


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
