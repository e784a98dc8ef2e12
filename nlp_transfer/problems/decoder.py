"""Turns logits into answers, as the configuration of a classifier says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nlp_transfer.problems.base import Problem
from nlp_transfer.problems.detection import problem_of_config
from nlp_transfer.problems.multi_label import MULTI_LABEL
from nlp_transfer.problems.single_label import SINGLE_LABEL

THRESHOLDS = "label_thresholds"  # in the configuration of a classifier: {name: probability}


@dataclass(frozen=True)
class Prediction:
    """The answer to one text.

    >>> from nlp_transfer import Classifier
    >>> prediction = Classifier.load("sentiment").predict(["a lovely film"])[0]
    >>> prediction.label, prediction.score > 0.5, list(prediction.probabilities)
    ('positive', True, ['negative', 'positive'])
    """

    label: str  # the one that is given; where a text may have several, the likeliest
    score: float  # probability of `label`; of a regression, the score
    probabilities: dict[str, float]  # of every label, in the model's order
    labels: tuple[str, ...] = ()  # where a text may have several: those that are given

    def __repr__(self) -> str:
        several = f", labels={self.labels}" if self.labels else ""
        return f"Prediction(label={self.label!r}, score={self.score:.3f}{several})"


@dataclass(frozen=True)
class Decoder:
    """What a classifier answers with.

    A label is given where its probability is above its threshold: of several labels each for
    itself, by default above one half; of two that exclude each other, the one with a threshold,
    else the other. Without thresholds the likeliest is given.
    """

    labels: tuple[str, ...]
    problem: Problem = SINGLE_LABEL
    thresholds: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_model_config(cls, config: Mapping[str, Any]) -> Decoder:
        """What a `config.json` says; folders of other origin may not name their problem."""
        labels, problem = label_names(config), problem_of_config(config)
        if len(labels) == 1 and problem is SINGLE_LABEL:
            problem = MULTI_LABEL  # as `pipeline` reads it: yes or no
        return cls(labels, problem, config.get(THRESHOLDS) or {})

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """float64 [rows, labels]; of a regression, the scores."""
        return self.problem.probabilities(logits)

    def write_to(self, model_config: Any) -> None:
        """Write the thresholds into a classifier's configuration, for every command."""
        if self.thresholds or getattr(model_config, THRESHOLDS, None):
            setattr(model_config, THRESHOLDS, dict(self.thresholds))

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        """Which label each row gets, int64 [rows]; of several labels, bool [rows, labels]."""
        return self.problem.decide(probabilities, self.labels, self.thresholds)

    def prediction(self, row: np.ndarray) -> Prediction:
        """One row of `probabilities` in words."""
        decision, several = self.decide(row[None])[0], self.problem.several
        best = int(row.argmax()) if several else int(decision)
        return Prediction(
            label=self.labels[best],
            score=float(row[best]),
            probabilities=dict(zip(self.labels, map(float, row), strict=True)),
            labels=self.names(decision) if several else (),
        )

    def names(self, decision: np.ndarray) -> tuple[str, ...]:
        """The labels of one row of several."""
        return tuple(self.labels[i] for i in np.flatnonzero(decision))


def label_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The labels of a `config.json`, in the model's order; transformers writes none for two."""
    names = config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}
    by_number = {int(number): name for number, name in names.items()}
    return tuple(by_number[i] for i in range(len(by_number)))
