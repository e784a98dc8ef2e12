"""The loss of each row, and whether rows can tell two sets of answers apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nlp_transfer.problems import Problem

SMALLEST = 1e-12  # probability


def row_losses(logits: np.ndarray, references: np.ndarray, problem: Problem) -> np.ndarray:
    """How wrong the answer to each row is, float64 [rows].

    The log loss against the right distribution; the mean log loss over several labels; the squared
    error of a score.

    Args:
        logits: float [rows, labels].
        references: as `Corpus.references` gives them.
    """
    values = problem.probabilities(logits)
    if not problem.has_labels:
        return (values.reshape(len(values)) - references) ** 2
    right = problem.targets(references, logits.shape[1])
    log_yes = np.log(np.maximum(values, SMALLEST))
    if not problem.several:
        return -(right * log_yes).sum(axis=1)
    log_no = np.log(np.maximum(1 - values, SMALLEST))
    return -(right * log_yes + (1 - right) * log_no).mean(axis=1)


def row_errors(logits: np.ndarray, references: np.ndarray, problem: Problem) -> np.ndarray:
    """Whether the likeliest label of each row is wrong, float64 [rows], 0 or 1.

    Of several labels and of scores it is the row's loss. Unlike a log loss it does not depend on
    how sure a model is that learned from a few rows: out of fold, fine-tuned models are too sure.
    """
    classes = problem.classes(references) if problem.one_label else None
    if classes is None:
        return row_losses(logits, references, problem)
    return (logits.argmax(axis=1) != classes).astype(np.float64)


@dataclass(frozen=True)
class PairedDifference:
    """The mean of a difference over rows, with its standard error."""

    mean: float
    standard_error: float

    @classmethod
    def of(cls, one: np.ndarray, other: np.ndarray) -> PairedDifference:
        """Of `one - other`, row by row: float [rows] each."""
        differences = one - other
        deviation = float(differences.std(ddof=1)) if len(differences) > 1 else np.inf
        return cls(float(differences.mean()), deviation / np.sqrt(len(differences)))

    @property
    def is_lower(self) -> bool:
        """Whether the first is lower by more than the standard error."""
        return self.mean < -self.standard_error

    @property
    def is_higher(self) -> bool:
        """Whether the first is higher by more than the standard error."""
        return self.mean > self.standard_error
