"""Turns logits into answers, as the configuration of a classifier says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nlp_transfer.config.schema import Problem

THRESHOLDS = "label_thresholds"  # in the configuration of a classifier: {name: probability}
HALF = 0.5
# What a text is answered with, besides probabilities.
GIVEN = {
    Problem.single_label: ("label", "score"),
    Problem.multi_label: ("labels",),
    Problem.regression: ("score",),
}


@dataclass(frozen=True)
class Prediction:
    """One answer."""

    label: str  # the one that is given; where a text may have several, the likeliest
    score: float  # probability of `label`; of a regression, the score
    probabilities: dict[str, float]  # of every label, in the model's order
    labels: tuple[str, ...] = ()  # where a text may have several: those that are given


@dataclass(frozen=True)
class Decoder:
    """What a classifier answers with.

    A label is given where its probability is above its threshold: of several labels each for
    itself, by default above one half; of two that exclude each other, the one with a threshold,
    else the other. Without thresholds the likeliest is given.
    """

    labels: tuple[str, ...]
    problem: Problem = Problem.single_label
    thresholds: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_model_config(cls, config: Mapping[str, Any]) -> Decoder:
        """What a `config.json` says; folders of other origin may not name their problem."""
        labels, problem = label_names(config), problem_in(config.get("problem_type"))
        if len(labels) == 1 and problem is Problem.single_label:
            problem = Problem.multi_label  # as `pipeline` reads it: yes or no
        return cls(labels, problem, config.get(THRESHOLDS) or {})

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """float64 [rows, labels]; of a regression, the scores."""
        return probabilities_of(logits, self.problem)

    def write_to(self, model_config: Any) -> None:
        """Write the thresholds into a classifier's configuration, for every door."""
        if self.thresholds or getattr(model_config, THRESHOLDS, None):
            setattr(model_config, THRESHOLDS, dict(self.thresholds))

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        """Which label each row gets, int64 [rows]; of several labels, bool [rows, labels]."""
        if self.problem is Problem.multi_label:
            return probabilities > [self.thresholds.get(label, HALF) for label in self.labels]
        for label, threshold in self.thresholds.items():
            this = self.labels.index(label)
            return np.where(probabilities[:, this] > threshold, this, 1 - this)
        return probabilities.argmax(axis=1)

    def prediction(self, row: np.ndarray) -> Prediction:
        """One row of `probabilities` in words."""
        chosen, several = self.decide(row[None])[0], self.problem is Problem.multi_label
        best = int(row.argmax()) if several else int(chosen)
        return Prediction(
            label=self.labels[best],
            score=float(row[best]),
            probabilities=dict(zip(self.labels, map(float, row), strict=True)),
            labels=self.names(chosen) if several else (),
        )

    def names(self, chosen: np.ndarray) -> tuple[str, ...]:
        """The labels of one row of several."""
        return tuple(self.labels[i] for i in np.flatnonzero(chosen))


def probabilities_of(logits: np.ndarray, problem: Problem) -> np.ndarray:
    """What logits say, float64 [rows, labels]: probabilities, or of a regression the scores."""
    match problem:
        case Problem.multi_label:
            return np.exp(-np.logaddexp(0, -logits.astype(np.float64)))
        case Problem.regression:
            return logits.astype(np.float64)
        case _:
            return softmax(logits)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities [rows, labels] in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def problem_in(problem_type: str | None) -> Problem:
    """The problem of a model's configuration; folders of other origin may not name it."""
    return Problem(problem_type or Problem.single_label.value)


def label_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The labels of a `config.json`, in the model's order; transformers writes none for two."""
    names = config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}
    by_number = {int(number): name for number, name in names.items()}
    return tuple(by_number[i] for i in range(len(by_number)))
