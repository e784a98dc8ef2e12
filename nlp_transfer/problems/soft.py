"""A distribution over the labels: probabilities, or how many annotators chose each label.

References are probabilities, float32 [rows, labels]; the class of a row is its likeliest label.
The answer is one label, and the exported checkpoint a plain single-label classifier.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nlp_transfer.problems.base import UNLABELLED, Cells, Parsed, Problem, number, unknown_label
from nlp_transfer.problems.registry import PROBLEMS, register_problem


@register_problem
class Soft(Problem):
    """Labels on which annotators may disagree."""

    name = "soft"
    metric_kind = "soft"
    default_metrics = ("log_loss", "accuracy", "annotator_entropy", "model_entropy")
    loss = "soft_cross_entropy"
    solver = "logistic_soft"
    integer_references = False
    class_weights = False
    reads_columns = True
    needs_columns = True
    rows_have = "a distribution over the labels each"

    def labels_in(self, cells: Cells) -> set[Any]:
        return {name for cell in cells for name, _ in cell}

    def parse(self, cells: Cells, explicit: bool) -> Parsed:
        """Pairs of label and share; the shares of a row sum to one."""
        del explicit
        rows: list[list[tuple[str, float]]] = []
        wrong = []
        for row, cell in enumerate(cells):
            shares = [number(value) for _, value in cell]
            total = sum(share or 0.0 for share in shares)
            if total <= 0 or any(share is None or share < 0 for share in shares):
                wrong.append(row)
                rows.append([])
                continue
            pairs = zip(cell, shares, strict=True)
            rows.append([(name, (share or 0.0) / total) for (name, _), share in pairs])
        return Parsed(
            rows, wrong, "label columns that do not hold shares or votes (numbers from 0 on)"
        )

    def read_columns(self, columns: Mapping[str, Cells]) -> Parsed:
        names = list(columns)
        return Parsed(
            [list(zip(names, x, strict=True)) for x in zip(*columns.values(), strict=True)], []
        )

    def encode(self, labels: Cells, position: Mapping[str, int]) -> Parsed:
        rows, wrong = [], []
        for row, pairs in enumerate(labels):
            shares = [0.0] * len(position)
            for name, share in pairs:
                index = position.get(name, UNLABELLED)
                if index == UNLABELLED:
                    wrong.append(row)
                    break
                shares[index] = share
            rows.append(shares)
        return Parsed(rows, wrong, unknown_label(position))

    def references(self, encoded: Cells) -> np.ndarray:
        return np.array(encoded, dtype=np.float32)

    def classes(self, references: np.ndarray) -> np.ndarray | None:
        """The likeliest label of each row; of equally likely ones the first."""
        return references.argmax(axis=1)

    def targets(self, references: np.ndarray, labels: int) -> np.ndarray:
        del labels
        return references.astype(np.float64)

    def row_errors(self, references: np.ndarray, logits: np.ndarray) -> np.ndarray:
        """The share of the likeliest label less that of the answer, float64 [rows].

        Of two equally likely labels both are right, so that the order of the columns is nothing.
        """
        answers = self._answers(logits)
        shares = references[np.arange(len(references)), answers]
        return (references.max(axis=1) - shares).astype(np.float64)

    def strata(self, references: np.ndarray) -> np.ndarray:
        return references.argmax(axis=1)

    def count(self, references: np.ndarray, labels: int) -> np.ndarray:
        return np.bincount(references.argmax(axis=1), minlength=labels)

    def describe_references(self, references: np.ndarray, labels: Sequence[str]) -> list[str]:
        return [
            ", ".join(f"{name} {share:.2g}" for name, share in zip(labels, row, strict=True))
            for row in references.tolist()
        ]

    def nothing_to_learn(self, references: np.ndarray, labels: Sequence[str]) -> str | None:
        del labels
        alike = bool((references == references[0]).all())
        return "the same distribution; there is nothing to learn" if alike else None

    def contradictory(
        self, references: np.ndarray, texts: np.ndarray, count: int
    ) -> tuple[np.ndarray, str]:
        """Where the likeliest label differs."""
        return super().contradictory(references.argmax(axis=1), texts, count)


SOFT = PROBLEMS[Soft.name]
