"""Solves regularised linear regressions; their strength by cross-validation where rows are few."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import KFold, StratifiedKFold

STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # scikit-learn's C, 1/alpha of a ridge
UNCHOSEN = 0.03  # where no rows are left to choose the strength by
FEW_ROWS = 2000  # up to here the strength is chosen by cross-validation, beyond by validation
FOLDS = 5
PRECISE = 1e-6  # the gradient at which a regression counts as solved
NEVER = -100.0  # a logit


@dataclass(frozen=True)
class Table:
    """Features float64 [rows, width], labels, and how much each row counts [rows]."""

    x: np.ndarray
    labels: np.ndarray  # ids [rows], 0/1 [rows, labels] or scores [rows]
    counts: np.ndarray  # of several labels also [rows, labels]

    def __getitem__(self, rows: np.ndarray) -> Table:
        return Table(self.x[rows], self.labels[rows], self.counts[rows])


@dataclass(frozen=True)
class Linear:
    """Logits are `x @ weight.T + bias`."""

    weight: np.ndarray  # [labels, width]
    bias: np.ndarray  # [labels]


Solve = Callable[[Table, float], Linear]


def solve(
    problem: str, outputs: int, train: Table, validation: Table | None, seed: int
) -> tuple[float, Linear]:
    """The best strength, and the regression with it on all of train."""
    cuts = _cuts(problem, train, validation, seed)
    if not cuts:
        return UNCHOSEN, _solver(problem, outputs)(train, UNCHOSEN)
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


def out_of_fold(outputs: int, rows: Table, folds: np.ndarray) -> np.ndarray:
    """Logits [rows, labels] of every row by a logistic regression that has not seen it.

    Args:
        folds: int [rows], the fold of each; the strength is the one that does best on fold 0.
    """
    problem = "single_label_classification"
    solver = _solver(problem, outputs)
    seen, unseen = rows[folds != 0], rows[folds == 0]
    best, least = STRENGTHS[0], np.inf
    for strength in STRENGTHS:
        loss = _loss(problem, solver(seen, strength), unseen)
        if loss > least:
            break  # the loss falls and then rises, and the strongest cost most
        best, least = strength, loss
    logits = np.empty((len(rows.x), outputs))
    for fold in np.unique(folds):
        solution = solver(rows[folds != fold], best)
        logits[folds == fold] = rows.x[folds == fold] @ solution.weight.T + solution.bias
    return logits


def _cuts(
    problem: str, train: Table, validation: Table | None, seed: int
) -> list[tuple[Table, Table]]:
    """Pairs to learn from and to judge by: folds of train where it is small, else validation.

    Empty where there is neither.
    """
    folds = min(FOLDS, len(train.labels))
    kind: type[KFold] | type[StratifiedKFold] = KFold
    if problem == "single_label_classification":
        folds = min(FOLDS, int(np.unique(train.labels, return_counts=True)[1].min()))
        kind = StratifiedKFold
    if folds < 2:
        return [] if validation is None else [(train, validation)]
    if validation is not None and len(train.labels) > FEW_ROWS:
        return [(train, validation)]
    split = kind(folds, shuffle=True, random_state=seed).split
    return [(train[seen], train[unseen]) for seen, unseen in split(train.x, train.labels)]


def _solver(problem: str, outputs: int) -> Solve:
    """A function from rows and strength to the solution; it starts where it ended last time."""
    match problem:
        case "single_label_classification":
            one = LogisticRegression(tol=PRECISE, max_iter=5000, warm_start=True)
            return lambda rows, strength: _by_label(one.set_params(C=strength), rows, outputs)
        case "multi_label_classification":
            each = [
                LogisticRegression(tol=PRECISE, max_iter=5000, warm_start=True)
                for _ in range(outputs)
            ]
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
    counts = rows.counts if rows.counts.ndim == 1 else rows.counts[:, column]
    regression.fit(rows.x, answers, counts)
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
            each = np.logaddexp(0, logits) - logits * rows.labels
            if rows.counts.ndim == 1:
                each = each.sum(axis=1)
        case _:
            each = ((logits - rows.labels.reshape(len(logits), -1)) ** 2).sum(axis=1)
    return float(np.average(each, weights=rows.counts))
