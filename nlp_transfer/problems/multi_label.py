"""Any number of labels a text; references are 0 or 1 for each label, float32 [rows, labels]."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nlp_transfer.problems.base import (
    HALF,
    SMALLEST,
    UNLABELLED,
    Cells,
    Parsed,
    Problem,
    refuse,
    unknown_label,
)
from nlp_transfer.problems.registry import PROBLEMS, register_problem

YES_AND_NO = {
    **dict.fromkeys(("0", "0.0", "false", "no", "n", "f"), False),
    **dict.fromkeys(("1", "1.0", "true", "yes", "y", "t"), True),
}
SHOWN = 3  # other cells of a column


@register_problem
class MultiLabel(Problem):
    """Each label is a yes or no of its own."""

    name = "multi_label"
    problem_type = "multi_label_classification"
    metric_kind = "multi_label"
    default_metrics = ("f1_micro", "f1_macro", "ranking_precision", "average_precision")
    loss = "binary_cross_entropy"
    solver = "logistic_by_label"
    columns = ("labels",)
    several = True
    integer_references = False
    reads_columns = True
    rows_have = "any number of labels each"
    pipeline_options = "top_k=None, "

    def describe(self, labels: int) -> str:
        return f"any number of {labels} labels"

    def parse(self, cells: Cells, explicit: bool) -> Parsed:
        del explicit
        lists = [cell if isinstance(cell, list) else [cell] for cell in cells]
        wrong = [row for row, names in enumerate(lists) if not all(map(_is_name, names))]
        return Parsed(lists, wrong, "values other than names or integers among its labels")

    def read_columns(self, columns: Mapping[str, Cells]) -> Parsed:
        """The names of the columns that hold yes."""
        answers = {name: [_yes_or_no(cell) for cell in cells] for name, cells in columns.items()}
        other = {
            name: [row for row, yes in enumerate(of) if yes is None] for name, of in answers.items()
        }
        if any(other.values()):
            lines = [
                f"\n  {name}: {_others(rows, columns[name])}"
                for name, rows in other.items()
                if rows
            ]
            raise refuse(
                f"Every column of dataset.label={list(columns)} must hold 0 or 1 (or false or "
                f"true, no or yes). Found other cells:{''.join(lines)}"
            )
        rows = len(next(iter(columns.values())))
        return Parsed([[name for name in columns if answers[name][row]] for row in range(rows)], [])

    def encode(self, labels: Cells, position: Mapping[str, int]) -> Parsed:
        ids = [{position.get(str(label), UNLABELLED) for label in names} for names in labels]
        wrong = [row for row, some in enumerate(ids) if UNLABELLED in some]
        rows = [[int(index in some) for index in range(len(position))] for some in ids]
        return Parsed(rows, wrong, unknown_label(position))

    def references(self, encoded: Cells) -> np.ndarray:
        return np.array(encoded, dtype=np.float32)

    def classes(self, references: np.ndarray) -> np.ndarray | None:
        del references
        return None

    def targets(self, references: np.ndarray, labels: int) -> np.ndarray:
        del labels
        return references

    def strata(self, references: np.ndarray) -> np.ndarray:
        """The rarest label of each text, -1 where it has none."""
        share = np.where(references > 0, references.mean(axis=0), np.inf)
        return np.where(references.any(axis=1), share.argmin(axis=1), -1)

    def count(self, references: np.ndarray, labels: int) -> np.ndarray:
        del labels
        return references.sum(axis=0).astype(int)

    def describe_references(self, references: np.ndarray, labels: Sequence[str]) -> list[str]:
        return [
            ", ".join(name for name, has in zip(labels, row, strict=True) if has) or "none"
            for row in references
        ]

    def nothing_to_learn(self, references: np.ndarray, labels: Sequence[str]) -> str | None:
        del labels
        alike = bool((references == references[0]).all())
        return "the same labels; there is nothing to learn" if alike else None

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        logits = logits.astype(np.float64)
        smaller = np.exp(-np.abs(logits))  # it cannot overflow
        return np.where(logits < 0, smaller, 1) / (1 + smaller)

    def log_losses(self, references: np.ndarray, logits: np.ndarray) -> np.ndarray:
        """Mean over the labels of each row."""
        probabilities = self.probabilities(logits)
        right = np.where(references > 0, probabilities, 1 - probabilities)
        return -np.log(np.clip(right, SMALLEST, 1)).mean(axis=1)

    def decide(
        self, probabilities: np.ndarray, labels: Sequence[str], thresholds: Mapping[str, float]
    ) -> np.ndarray:
        return probabilities > [thresholds.get(label, HALF) for label in labels]

    def may_have_thresholds(self, labels: int) -> bool:
        del labels
        return True


def _yes_or_no(cell: Any) -> bool | None:
    return YES_AND_NO.get(str(cell).strip().lower())


def _others(rows: Sequence[int], cells: Cells) -> str:
    """How many cells are neither yes nor no, and the first of them."""
    first = ", ".join(f"row {row + 1}: {cells[row]!r}" for row in rows[:SHOWN])
    return f"{len(rows)} of {len(cells)} rows ({first}{', …' if len(rows) > SHOWN else ''})"


def _is_name(label: Any) -> bool:
    return isinstance(label, str | int) and label != "" and not isinstance(label, bool)


MULTI_LABEL = PROBLEMS[MultiLabel.name]
