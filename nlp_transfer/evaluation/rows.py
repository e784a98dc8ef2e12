"""Rows with their references and what a model answered, counted by label."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import numpy as np
from scipy import sparse

# The values whose mean a metric is, [rows] or [rows, k].
ByRow: TypeAlias = np.ndarray | sparse.csr_array


class Predictions(StrEnum):
    """What of a model's answers a metric compares with the references."""

    decisions = "decisions"
    """Label numbers, int64 [rows]; of several labels 0/1 [rows, labels]."""
    probabilities = "probabilities"
    """float64 [rows, labels]."""
    scores = "scores"
    """Where the answer is a number, float64 [rows]."""


@dataclass(frozen=True)
class Classes:
    """What a metric has to know about the labels."""

    names: tuple[str, ...]
    positive: int  # index of the positive label of a binary metric


@dataclass(frozen=True)
class Counts:
    """Rows by label, float [..., labels]."""

    hits: np.ndarray  # predicted so, and it is so
    predicted: np.ndarray
    actual: np.ndarray

    @classmethod
    def of(cls, confusion: np.ndarray) -> Counts:
        """From confusion matrices [..., references, predictions]."""
        hits = np.diagonal(confusion, axis1=-2, axis2=-1)
        return cls(hits, confusion.sum(axis=-2), confusion.sum(axis=-1))

    @property
    def present(self) -> np.ndarray:
        """Which labels the references or the predictions hold, bool [..., labels]."""
        return self.predicted + self.actual > 0

    @property
    def precision(self) -> np.ndarray:
        """By label; 0 for one that is never predicted."""
        return ratio(self.hits, self.predicted)

    @property
    def recall(self) -> np.ndarray:
        """By label; 0 for one that has no row."""
        return ratio(self.hits, self.actual)

    @property
    def f1(self) -> np.ndarray:
        """By label; 0 for one that is nowhere."""
        return ratio(2 * self.hits, self.predicted + self.actual)


def ratio(part: np.ndarray, whole: np.ndarray, undefined: float = 0.0) -> np.ndarray:
    """Elementwise; `undefined` where the whole is not positive."""
    return np.divide(part, whole, out=np.full(np.shape(whole), undefined), where=whole > 0)


@dataclass(frozen=True)
class EvaluatedRows:
    """Rows with their references and what a model answered."""

    references: np.ndarray
    """As `Problem.references` gives them."""
    probabilities: np.ndarray
    """float64 [rows, labels]; where the answer is a number, [rows]."""
    decisions: np.ndarray
    """As `Predictions.decisions`; where the answer is a number, unused."""
    classes: Classes
    labels: np.ndarray | None = None
    """What counts are of, in the form of the decisions; None: the references."""

    def __len__(self) -> int:
        return len(self.references)

    @property
    def has_many_labels_a_row(self) -> bool:
        """Whether a row may have several labels."""
        return self.decisions.ndim == 2

    @property
    def truth(self) -> np.ndarray:
        """What the decisions should be."""
        return self.references if self.labels is None else self.labels

    def predictions(self, kind: Predictions) -> np.ndarray:
        """What a metric compares with the references."""
        return self.decisions if kind is Predictions.decisions else self.probabilities

    @functools.cached_property
    def columns(self) -> sparse.csr_array:
        """Hits, predictions and references of every label, 0/1 [rows, 3 × labels]."""
        if self.has_many_labels_a_row:
            sides = (self.truth != 0, self.decisions != 0)
            actual, predicted = (sparse.csr_array(side).astype(np.float64) for side in sides)
        else:
            actual, predicted = (self._one_hot(x) for x in (self.truth, self.decisions))
        return sparse.hstack([actual.multiply(predicted), predicted, actual], format="csr")

    def _one_hot(self, labels: np.ndarray) -> sparse.csr_array:
        rows, shape = np.arange(len(labels)), (len(labels), len(self.classes.names))
        return sparse.csr_array((np.ones(len(labels)), (rows, labels)), shape=shape)

    @functools.cached_property
    def _values_by_row(self) -> dict[str, ByRow]:
        return {}

    def values_by_row(self, name: str, compute: Callable[[], ByRow]) -> ByRow:
        """The values whose mean a metric is, [rows] or [rows, k]; computed once."""
        if name not in self._values_by_row:
            self._values_by_row[name] = compute()
        return self._values_by_row[name]

    @functools.cached_property
    def totals(self) -> Counts:
        """Every row counted once, float [labels]."""
        if self.has_many_labels_a_row:
            return Counts(*np.split(np.asarray(self.columns.sum(axis=0)), 3))
        sides = (self.truth[self.truth == self.decisions], self.decisions, self.truth)
        labels = len(self.classes.names)
        return Counts(*(np.bincount(side, minlength=labels).astype(np.float64) for side in sides))

    def counts(self, weights: np.ndarray) -> Counts:
        """Of rows that count as often as their weights [..., rows]."""
        summed = np.asarray(weights @ self.columns)
        return Counts(*np.split(summed, 3, axis=-1))
