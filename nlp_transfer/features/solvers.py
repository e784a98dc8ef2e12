"""The solvers of a linear head on frozen features, by the name that a kind of label holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression, Ridge

from nlp_transfer.features.many_labels import (
    Loss,
    ManyLabels,
    Targets,
    sigmoid_loss,
    softmax_loss,
)

LARGE = 300_000  # rows times labels, from which on scikit-learn takes many times as long
PRECISE = 1e-6  # the gradient at which a logistic regression counts as solved
NEVER = -100.0  # a logit


@dataclass(frozen=True)
class Table:
    """Features float64 [rows, width], labels, and how much each row counts [rows]."""

    x: np.ndarray
    labels: np.ndarray  # ids [rows], scores [rows], or a number for each label [rows, labels]
    counts: np.ndarray  # of several labels also [rows, labels]

    def __getitem__(self, rows: np.ndarray) -> Table:
        return Table(self.x[rows], self.labels[rows], self.counts[rows])


@dataclass(frozen=True)
class Linear:
    """Logits are `x @ weight.T + bias`."""

    weight: np.ndarray  # [labels, width]
    bias: np.ndarray  # [labels]

    def logits(self, x: np.ndarray) -> np.ndarray:
        """float64 [rows, labels]."""
        return x @ self.weight.T + self.bias


Solve = Callable[[Table, float], Linear]


@dataclass(frozen=True)
class HeadSolver:
    """How a head is solved, and by what loss its strength is chosen."""

    prepare: Callable[[int], Solve]
    """From the number of outputs to a function of rows and strength; it starts where it ended."""
    loss: Callable[[np.ndarray, Table], np.ndarray]
    """From logits [rows, labels] and rows to a loss [rows]."""


def is_large(rows: Table, outputs: int) -> bool:
    """Whether the labels are solved together, in single precision.

    Not of two labels: one softmax over both has another penalty than scikit-learn's one row.
    """
    return outputs > 2 and len(rows.x) * outputs > LARGE


def _prepare_together(outputs: int, loss: Loss) -> Solve:
    """All labels at once, for many of them; a label without a yes is never the answer."""
    last: list[tuple[Table, np.ndarray, ManyLabels]] = []

    def solve(rows: Table, strength: float) -> Linear:
        if not last or last[0][0] is not rows:
            last[:] = [(rows, *_together(rows, loss))]
        _, columns, problem = last[0]
        weight, bias = problem.solve(strength)
        if loss is softmax_loss:  # what is added to all labels changes nothing
            weight, bias = weight - weight.mean(axis=0), bias - bias.mean()
        solution = Linear(np.zeros((outputs, weight.shape[1])), np.full(outputs, NEVER))
        if rows.labels.ndim > 1 and loss is sigmoid_loss:
            solution.bias[rows.labels.all(axis=0)] = -NEVER
        solution.weight[columns], solution.bias[columns] = weight, bias
        return solution

    return solve


def _together(rows: Table, loss: Loss) -> tuple[np.ndarray, ManyLabels]:
    """The labels that there is something to learn of, and their problem."""
    counts = rows.counts if rows.counts.ndim > 1 else rows.counts[:, None]
    if rows.labels.ndim == 1:
        columns, labels = np.unique(rows.labels, return_inverse=True)
    else:
        some, every = rows.labels.any(axis=0), rows.labels.all(axis=0)
        columns = np.flatnonzero(some & ~every if loss is sigmoid_loss else some)
        labels = rows.labels[:, columns].astype(np.float32)
        counts = counts[:, columns] if counts.shape[1] > 1 else counts
    targets = Targets(labels, counts.astype(np.float32))
    return columns, ManyLabels(rows.x, targets, len(columns), loss)


def _logistic() -> LogisticRegression:
    return LogisticRegression(tol=PRECISE, max_iter=5000, warm_start=True)


def _prepare_logistic(outputs: int) -> Solve:
    """One softmax over the labels; a label that has no row is never the answer."""
    model, together = _logistic(), _prepare_together(outputs, softmax_loss)

    def solve(rows: Table, strength: float) -> Linear:
        if is_large(rows, outputs):
            return together(rows, strength)
        if hasattr(model, "coef_") and len(model.classes_) != len(np.unique(rows.labels)):
            del model.coef_  # a fold without a row of some label: nothing to start from
        model.set_params(C=strength).fit(rows.x, rows.labels, rows.counts)
        return _linear(model, outputs)

    return solve


def _linear(model: LogisticRegression, outputs: int) -> Linear:
    weight, bias = model.coef_, model.intercept_
    if len(model.classes_) == 2:  # one row for the second label: split it between the two
        weight = np.concatenate([-weight, weight]) / 2
        bias = np.concatenate([-bias, bias]) / 2
    solution = Linear(np.zeros((outputs, weight.shape[1])), np.full(outputs, NEVER))
    solution.weight[model.classes_] = weight
    solution.bias[model.classes_] = bias
    return solution


def _log_loss(logits: np.ndarray, rows: Table) -> np.ndarray:
    own = logits[np.arange(len(logits)), rows.labels]
    return np.logaddexp.reduce(logits, axis=1) - own


def _prepare_logistic_soft(outputs: int) -> Solve:
    """Against a distribution: each row once for every label that has a share, counting that."""
    solve, together = _prepare_logistic(outputs), _prepare_together(outputs, softmax_loss)

    def solve_soft(rows: Table, strength: float) -> Linear:
        if is_large(rows, outputs):
            return together(rows, strength)
        row, label = np.nonzero(rows.labels)
        shares = rows.labels[row, label] * rows.counts[row]
        return solve(Table(rows.x[row], label, shares), strength)

    return solve_soft


def _soft_log_loss(logits: np.ndarray, rows: Table) -> np.ndarray:
    return np.logaddexp.reduce(logits, axis=1) - (rows.labels * logits).sum(axis=1)


def _prepare_logistic_by_label(outputs: int) -> Solve:
    """Each label by itself, yes or no."""
    models = [_logistic() for _ in range(outputs)]
    together = _prepare_together(outputs, sigmoid_loss)

    def solve(rows: Table, strength: float) -> Linear:
        if is_large(rows, outputs):
            return together(rows, strength)
        parts = [
            _yes_or_no(model.set_params(C=strength), rows, column)
            for column, model in enumerate(models)
        ]
        return Linear(
            np.concatenate([part.weight for part in parts]),
            np.concatenate([part.bias for part in parts]),
        )

    return solve


def _yes_or_no(model: LogisticRegression, rows: Table, column: int) -> Linear:
    answers = rows.labels[:, column].astype(int)
    if len(np.unique(answers)) == 1:
        bias = -NEVER if answers[0] else NEVER
        return Linear(np.zeros((1, rows.x.shape[1])), np.array([bias]))
    counts = rows.counts if rows.counts.ndim == 1 else rows.counts[:, column]
    model.fit(rows.x, answers, counts)
    return Linear(model.coef_, model.intercept_)


def _log_loss_by_label(logits: np.ndarray, rows: Table) -> np.ndarray:
    losses = np.logaddexp(0, logits) - logits * rows.labels
    return losses.sum(axis=1) if rows.counts.ndim == 1 else losses


def _prepare_ridge(outputs: int) -> Solve:
    del outputs
    return _ridge


def _ridge(rows: Table, strength: float) -> Linear:
    ridge = Ridge(alpha=1 / strength).fit(rows.x, rows.labels.reshape(len(rows.x), -1), rows.counts)
    return Linear(ridge.coef_.reshape(-1, rows.x.shape[1]), ridge.intercept_.reshape(-1))


def _squared_error(logits: np.ndarray, rows: Table) -> np.ndarray:
    return ((logits - rows.labels.reshape(len(logits), -1)) ** 2).sum(axis=1)


SOLVERS: dict[str, HeadSolver] = {
    "logistic": HeadSolver(_prepare_logistic, _log_loss),
    "logistic_soft": HeadSolver(_prepare_logistic_soft, _soft_log_loss),
    "logistic_by_label": HeadSolver(_prepare_logistic_by_label, _log_loss_by_label),
    "ridge": HeadSolver(_prepare_ridge, _squared_error),
}
