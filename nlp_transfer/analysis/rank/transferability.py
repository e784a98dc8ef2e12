"""Scores of frozen features that predict how well a checkpoint will classify after training."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.covariance import ledoit_wolf

from nlp_transfer.problems import Problem
from nlp_transfer.problems.base import SMALLEST
from nlp_transfer.quality.label_errors import directions, nearest

NEIGHBOURS = 10
ROUNDS = 100  # of the fixed-point iteration
CONVERGED = 1e-6  # relative change of alpha / beta


def log_maximum_evidence(x: np.ndarray, targets: np.ndarray) -> float:
    """LogME: the largest log evidence of a Bayesian linear model, a row; the mean over targets.

    You et al. 2021, "LogME: Practical Assessment of Pre-trained Models for Transfer Learning",
    algorithm 1, with the fixed-point iteration of the 2022 version.

    Args:
        x: features [rows, width].
        targets: [rows, labels], the probabilities that are right, or a score.
    """
    x, targets = x.astype(np.float64), targets.reshape(len(x), -1).astype(np.float64)
    u, singular, _ = np.linalg.svd(x, full_matrices=False)
    return float(np.mean([_evidence(u, singular**2, x.shape[1], y) for y in targets.T]))


def _evidence(u: np.ndarray, squared: np.ndarray, width: int, y: np.ndarray) -> float:
    """Maximised over the precisions alpha (of the weights) and beta (of the noise)."""
    rows, projected = len(y), (u.T @ y) ** 2
    outside = max(float(y @ y - projected.sum()), 0.0)  # what no weight can explain
    ratio = 1.0  # alpha / beta
    for _ in range(ROUNDS):
        freedom = float((squared / (squared + ratio)).sum())
        weights = float((squared * projected / (squared + ratio) ** 2).sum())  # squared length
        error = float((ratio**2 * projected / (squared + ratio) ** 2).sum()) + outside
        alpha = freedom / max(weights, SMALLEST)
        beta = (rows - freedom) / max(error, SMALLEST)
        before, ratio = ratio, alpha / beta
        if abs(ratio - before) <= CONVERGED * before:
            break
    weights = float((squared * projected / (squared + ratio) ** 2).sum())
    error = float((ratio**2 * projected / (squared + ratio) ** 2).sum()) + outside
    determinant = float(np.log(alpha + beta * squared).sum())
    determinant += (width - len(squared)) * np.log(alpha)
    evidence = width * np.log(alpha) + rows * np.log(beta) - determinant
    evidence -= beta * error + alpha * weights + rows * np.log(2 * np.pi)
    return float(evidence / (2 * rows))


def h_score(x: np.ndarray, classes: np.ndarray) -> float:
    """How much of the features' variance is between classes, in units of their covariance.

    Bao et al. 2019, with the covariance shrunk by Ledoit and Wolf, as Ibrahim et al. 2022 propose:
    the plain score only counts labels where there are fewer rows than features.

    Args:
        x: features [rows, width].
        classes: int [rows].
    """
    x = x.astype(np.float64) - x.mean(axis=0)
    covariance, shrinkage = ledoit_wolf(x, assume_centered=True)
    _, codes, counts = np.unique(classes, return_inverse=True, return_counts=True)
    means = np.zeros((len(counts), x.shape[1]))
    np.add.at(means, codes, x)
    means /= counts[:, None]
    between = (means * (counts / len(x))[:, None]).T @ means
    between *= 1 - shrinkage
    return float(np.trace(np.linalg.solve(covariance, between)))


def neighbour_logits(
    x: np.ndarray, references: np.ndarray, problem: Problem, labels: int
) -> np.ndarray:
    """What the nearest other rows say of each row, by cosine: logits [rows, labels], or scores.

    Args:
        x: features [rows, width].
    """
    count = min(NEIGHBOURS, len(x) - 1)
    around = nearest(directions(x.astype(np.float32)), count, torch.device("cpu"))
    if not problem.has_labels:
        return references[around].reshape(len(x), count, -1).mean(axis=1)
    shares = problem.targets(references, labels)[around].mean(axis=1)
    shares = (count * shares + 1 / labels) / (count + 1)  # no share is 0 or 1
    return np.log(shares / (1 - shares)) if problem.several else np.log(shares)
