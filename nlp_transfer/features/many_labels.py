"""Solves a linear head of many labels: all at once, in single precision, in scaled axes.

scikit-learn's solver takes hundreds of steps where labels are many and rare. Here the features are
centred and rotated to their principal axes; there the curvature at the start is diagonal: of label
k along axis j it is `share_k (1 - share_k) variance_j + penalty`. L-BFGS on variables divided by
its root takes a few dozen steps to the same minimum.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

PRECISE = 1e-5  # the gradient, in scaled variables, at which a head counts as solved
STEPS = 500
PAIRS = 10  # of steps that the curvature is learned from
NOISE = 1e-7  # of the value, relatively
SMALLEST = 1e-3  # share of a step
FLATTEST = 1e-9  # curvature of a label that is settled
CELLS = 2_000_000  # logits held at once


@dataclass(frozen=True)
class Targets:
    """What the logits of the rows should be."""

    labels: np.ndarray
    """Ids [rows], or a number for each label [rows, labels]."""
    counts: np.ndarray
    """How much each row counts float32 [rows, 1], or of several labels [rows, labels]."""

    def __getitem__(self, rows: slice) -> Targets:
        return Targets(self.labels[rows], self.counts[rows])

    def subtract_from(self, probabilities: np.ndarray) -> None:
        """Make probabilities the derivatives of the loss."""
        if self.labels.ndim == 1:
            probabilities[np.arange(len(probabilities)), self.labels] -= 1
        else:
            probabilities -= self.labels
        probabilities *= self.counts


Loss = Callable[[np.ndarray, Targets], float]
"""From logits float32 [rows, labels] to the loss; the logits become probabilities."""


def softmax_loss(logits: np.ndarray, targets: Targets) -> float:
    """Cross-entropy of one softmax, against ids or distributions."""
    logits -= logits.max(axis=1, keepdims=True)
    if targets.labels.ndim == 1:
        own = logits[np.arange(len(logits)), targets.labels]
    else:
        own = np.einsum("ij,ij->i", logits, targets.labels)
    np.exp(logits, out=logits)
    sums = logits.sum(axis=1)
    logits /= sums[:, None]
    return float(np.dot(np.log(sums.astype(np.float64)) - own, targets.counts[:, 0]))


def sigmoid_loss(logits: np.ndarray, targets: Targets) -> float:
    """Cross-entropy of yes or no for each label."""
    tails = np.exp(-np.abs(logits))
    losses = np.log1p(tails)
    losses += np.maximum(logits, 0)
    losses -= targets.labels * logits
    losses *= targets.counts
    np.divide(np.where(logits > 0, 1, tails), 1 + tails, out=logits)
    return float(losses.sum(dtype=np.float64))


class ManyLabels:
    """The rows of one fit in their principal axes, and where the last solution was."""

    def __init__(self, x: np.ndarray, targets: Targets, labels: int, loss: Loss) -> None:
        """Rotate the features, float64 [rows, width]."""
        self.mean = x.mean(axis=0)
        centred = x - self.mean
        variances, self.axes = np.linalg.eigh(centred.T @ centred / len(x))
        self.variances = np.maximum(variances, 0)
        self.x = (centred @ self.axes).astype(np.float32)
        self.targets, self.loss = targets, loss
        self.total = float(targets.counts.mean() * len(x))
        self.solution = np.zeros((labels, x.shape[1] + 1))  # the bias is its last column

    def solve(self, strength: float) -> tuple[np.ndarray, np.ndarray]:
        """Weight float64 [labels, width] and bias [labels]; starts from the last solution."""
        penalty = 1 / (strength * self.total)
        scales = self._curvatures()[:, None] * np.append(self.variances, 1)
        scales[:, :-1] += penalty
        np.sqrt(scales, out=scales)

        def objective(scaled: np.ndarray) -> tuple[float, np.ndarray]:
            solution = scaled / scales
            loss, gradient = self._loss(solution)
            weight = solution[:, :-1]
            gradient[:, :-1] += penalty * weight
            return loss + penalty / 2 * float(np.vdot(weight, weight)), gradient / scales

        self.solution = minimum(objective, self.solution * scales) / scales
        weight = self.solution[:, :-1] @ self.axes.T
        return weight, self.solution[:, -1] - weight @ self.mean

    def _curvatures(self) -> np.ndarray:
        """How much the loss bends along the logit of each label, float64 [labels]."""
        sums = np.zeros(len(self.solution))
        for _, probabilities, targets, _ in self._parts(self.solution):
            probabilities -= np.square(probabilities)
            probabilities *= targets.counts
            sums += probabilities.sum(axis=0)
        return np.maximum(sums / self.total, FLATTEST)

    def _loss(self, solution: np.ndarray) -> tuple[float, np.ndarray]:
        """The mean loss of the rows, and its gradient float64 [labels, width + 1]."""
        loss, gradient = 0.0, np.zeros(solution.shape)
        for x, residuals, targets, of_part in self._parts(solution):
            loss += of_part
            targets.subtract_from(residuals)
            gradient[:, :-1] += residuals.T @ x
            gradient[:, -1] += residuals.sum(axis=0)
        return loss / self.total, gradient / self.total

    def _parts(
        self, solution: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray, Targets, float]]:
        """Some rows at a time: features, probabilities, targets and loss."""
        narrow = solution.astype(np.float32)
        size = max(1, CELLS // len(solution))
        for begin in range(0, len(self.x), size):
            part = slice(begin, begin + size)
            x, targets = self.x[part], self.targets[part]
            logits = x @ narrow[:, :-1].T
            logits += narrow[:, -1]
            loss = self.loss(logits, targets)
            yield x, logits, targets, loss


Objective = Callable[[np.ndarray], tuple[float, np.ndarray]]


def minimum(objective: Objective, start: np.ndarray) -> np.ndarray:
    """L-BFGS (Nocedal and Wright 2006, algorithm 7.4) that bears the noise of single precision.

    A full step nearly always does, because the variables are scaled. A step is halved where the
    value rises by more than its noise, and the search ends where halving does not help.
    """
    point, (value, gradient) = start, objective(start)
    pairs: deque[tuple[np.ndarray, np.ndarray, float]] = deque(maxlen=PAIRS)
    for _ in range(STEPS):
        if np.abs(gradient).max() <= PRECISE:
            break
        direction = -_times_inverse_hessian(gradient, pairs)
        slope = float(np.vdot(gradient, direction))
        size = 1.0
        while True:
            step = size * direction
            next_value, next_gradient = objective(point + step)
            if next_value <= value + 1e-4 * size * slope + NOISE * abs(value):
                break
            size /= 2
            if size < SMALLEST:
                return point
        change = next_gradient - gradient
        curvature = float(np.vdot(step, change))
        if curvature > 0:
            pairs.append((step, change, curvature))
        point, value, gradient = point + step, next_value, next_gradient
    return point


def _times_inverse_hessian(
    gradient: np.ndarray, pairs: deque[tuple[np.ndarray, np.ndarray, float]]
) -> np.ndarray:
    """The two loops of L-BFGS."""
    result, shares = gradient.copy(), []
    for step, change, curvature in reversed(pairs):
        shares.append(float(np.vdot(step, result)) / curvature)
        result -= shares[-1] * change
    if pairs:
        _, change, curvature = pairs[-1]
        result *= curvature / float(np.vdot(change, change))
    for (step, change, curvature), share in zip(pairs, reversed(shares), strict=True):
        result += (share - float(np.vdot(change, result)) / curvature) * step
    return result
