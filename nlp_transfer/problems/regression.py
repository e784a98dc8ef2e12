"""A score; references are float32 [rows], logits and answers [rows, 1]."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nlp_transfer.problems.base import Cells, Parsed, Problem, number
from nlp_transfer.problems.registry import PROBLEMS, register_problem

SCORE = "score"  # the only "label"
CONTRADICTION = 0.1  # of the range of scores: two of one text that differ by more


@register_problem
class Regression(Problem):
    """A number without bounds."""

    name = "regression"
    problem_type = "regression"
    metric_kind = "regression"
    default_metrics = ("pearson", "spearman", "mse")
    loss = "squared_error"
    solver = "ridge"
    columns = ("score",)
    has_labels = False
    outputs = "scores"
    integer_references = False
    class_weights = False
    has_label_names = False
    rows_have = "scores"
    pipeline_options = 'function_to_apply="none", '

    def describe(self, labels: int) -> str:
        del labels
        return "a score"

    def parse(self, cells: Cells, explicit: bool) -> Parsed:
        del explicit
        scores = [number(cell) for cell in cells]
        wrong = [row for row, value in enumerate(scores) if value is None]
        return Parsed(scores, wrong, "a label that is not a number (dataset.problem=regression)")

    def order_labels(self, labels: set[Any], order: Sequence[str] | None) -> list[str]:
        del labels, order
        return [SCORE]

    def encode(self, labels: Cells, position: Mapping[str, int]) -> Parsed:
        del position
        return Parsed(list(labels), [])

    def references(self, encoded: Cells) -> np.ndarray:
        return np.array(encoded, dtype=np.float32)

    def classes(self, references: np.ndarray) -> np.ndarray | None:
        del references
        return None

    def strata(self, references: np.ndarray) -> np.ndarray:
        """Tenths of the scores."""
        borders = np.quantile(references, np.linspace(0, 1, 11)[1:-1])
        return np.searchsorted(borders, references)

    def describe_references(self, references: np.ndarray, labels: Sequence[str]) -> list[str]:
        del labels
        return [f"{score:g}" for score in references]

    def nothing_to_learn(self, references: np.ndarray, labels: Sequence[str]) -> str | None:
        del labels
        alike = np.ptp(references) == 0
        return f"the score {references[0]:g}; there is nothing to learn" if alike else None

    def contradictory(
        self, references: np.ndarray, texts: np.ndarray, count: int
    ) -> tuple[np.ndarray, str]:
        least, most = np.full(count, np.inf), np.full(count, -np.inf)
        np.minimum.at(least, texts, references)
        np.maximum.at(most, texts, references)
        return most - least > CONTRADICTION * np.ptp(references), "scores"

    def row_losses(self, references: np.ndarray, logits: np.ndarray) -> np.ndarray:
        """The squared error of each score."""
        return (self.probabilities(logits)[:, 0] - references) ** 2

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """The scores, float64 [rows, 1]."""
        return logits.astype(np.float64)


REGRESSION = PROBLEMS[Regression.name]
