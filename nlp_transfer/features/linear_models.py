"""Solves regularised linear models; their strength by cross-validation where rows are few."""

from __future__ import annotations

import numpy as np
from sklearn.model_selection import KFold, StratifiedKFold

from nlp_transfer.features.solvers import SOLVERS, HeadSolver, Linear, Table, is_large
from nlp_transfer.problems import Problem
from nlp_transfer.problems.single_label import SINGLE_LABEL

STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # scikit-learn's C, 1/alpha of a ridge
PENALTIES = (10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)  # of a ridge of normalised rows
UNCHOSEN = 0.03  # where no rows are left to choose the strength by
ENOUGH_ROWS = 100  # of validation, to choose by
FEW_ROWS = 2000  # up to here the strength is chosen by cross-validation, beyond by validation
FOLDS = 5


def solve(
    problem: Problem,
    outputs: int,
    train: Table,
    validation: Table | None,
    seed: int,
    fitted_on_train: bool = False,
) -> tuple[float, Linear]:
    """The best strength, and the solution with it on all of train.

    Args:
        fitted_on_train: whether the features have learned from train. Folds of train would then
            choose by rows that the model knows: validation chooses where it is large enough, else
            nothing.
    """
    solver = SOLVERS[problem.solver]
    if fitted_on_train:
        enough = validation is not None and len(validation.labels) >= ENOUGH_ROWS
        cuts = [(train, validation)] if enough and validation is not None else []
    else:
        cuts = _cuts(problem, train, validation, seed)
    if not cuts:
        return UNCHOSEN, solver.prepare(outputs)(train, UNCHOSEN)
    warm = [solver.prepare(outputs) for _ in cuts]
    large = is_large(train, outputs)
    losses: dict[float, float] = {}
    for strength in STRENGTHS:
        by_cut = [
            _mean_loss(solver, solve_one(train_part, strength), held_out)
            for solve_one, (train_part, held_out) in zip(warm, cuts, strict=True)
        ]
        losses[strength] = float(np.mean(by_cut))
        if large and losses[strength] > min(losses.values()):
            break  # the loss falls and then rises, and the strongest cost most
    best = min(losses, key=lambda strength: losses[strength])
    # Solutions of large tables start from the last one, which is near.
    last = warm[0] if large and cuts[0][0] is train else solver.prepare(outputs)
    return best, last(train, best)


def out_of_fold(
    outputs: int, rows: Table, folds: np.ndarray, problem: Problem = SINGLE_LABEL
) -> np.ndarray:
    """Logits [rows, labels] of every row by a linear model that has not seen it.

    Args:
        folds: int [rows], the fold of each; the strength is the one that does best on fold 0.
    """
    solver = SOLVERS[problem.solver]
    solve_one = solver.prepare(outputs)
    train_part, held_out = rows[folds != 0], rows[folds == 0]
    best, least = STRENGTHS[0], np.inf
    for strength in STRENGTHS:
        loss = _mean_loss(solver, solve_one(train_part, strength), held_out)
        if loss > least:
            break  # the loss falls and then rises, and the strongest cost most
        best, least = strength, loss
    logits = np.empty((len(rows.x), outputs))
    for fold in np.unique(folds):
        logits[folds == fold] = solve_one(rows[folds != fold], best).logits(rows.x[folds == fold])
    return logits


def leave_one_out(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Outputs [rows, outputs] of every row by a ridge regression that has not seen it.

    In closed form, from one decomposition (Hastie et al. 2009, 7.10); of the penalties, the one
    with the smallest squared error.

    Args:
        x: features [rows, width].
        y: what is to be learned, float64 [rows, outputs].
    """
    mean = y.mean(axis=0)
    u, singular, _ = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    projected = u.T @ (y - mean)
    best, least = y, np.inf
    for penalty in PENALTIES:
        shrinkage = (singular**2 / (singular**2 + penalty)).astype(np.float64)
        leverage = np.minimum((u**2) @ shrinkage + 1 / len(x), 1 - 1e-6)[:, None]
        fitted = u @ (shrinkage[:, None] * projected) + mean
        answers = (fitted - leverage * y) / (1 - leverage)
        error = float(((answers - y) ** 2).mean())
        if error < least:
            best, least = answers, error
    return best


def _cuts(
    problem: Problem, train: Table, validation: Table | None, seed: int
) -> list[tuple[Table, Table]]:
    """Pairs to learn from and to judge by: folds of train where it is small, else validation.

    Empty where there is neither.
    """
    folds = min(FOLDS, len(train.labels))
    kind: type[KFold] | type[StratifiedKFold] = KFold
    if problem.integer_references:
        folds = min(FOLDS, int(np.unique(train.labels, return_counts=True)[1].min()))
        kind = StratifiedKFold
    if folds < 2:
        return [] if validation is None else [(train, validation)]
    if validation is not None and len(train.labels) > FEW_ROWS:
        return [(train, validation)]
    split = kind(folds, shuffle=True, random_state=seed).split
    return [
        (train[train_rows], train[held_out])
        for train_rows, held_out in split(train.x, train.labels)
    ]


def _mean_loss(solver: HeadSolver, solution: Linear, rows: Table) -> float:
    return float(np.average(solver.loss(solution.logits(rows.x), rows), weights=rows.counts))
