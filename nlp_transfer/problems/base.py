"""The protocol of a kind of label: how labels are parsed, decoded, compared and measured.

A kind is one subclass of `Problem`, registered under its name in `registry.py`. It knows numpy
only. What needs more registers beside it, by the names that it holds: the loss in
`training.losses`, the solver of a head in `features.solvers`, metrics in `evaluation.metrics`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from nlp_transfer.errors import ExitCode, UserError

UNLABELLED = -1  # how the Hub marks the rows of a split whose labels are kept secret
HALF = 0.5
LISTED = 20  # labels in a message
SMALLEST = float(np.finfo(np.float64).eps)  # a probability in a logarithm
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
Cells = Sequence[Any]


@dataclass(frozen=True)
class Parsed:
    """The label of each row in one type, and the rows that do not fit."""

    labels: list[Any]
    wrong: list[int]  # row numbers, from 0
    fault: str = ""  # what these rows have


class Problem:
    """One kind of label; the defaults are those of one label a text.

    `references` are what a corpus holds of a split: class ids int64 [rows], unless a kind says
    otherwise. `labels` are the names of the classes in the order of the logits.
    """

    name: ClassVar[str]  # as in dataset.problem, run.json and config.json
    problem_type: ClassVar[str] = "single_label_classification"  # Hugging Face's
    metric_kind: ClassVar[str]  # which metrics are defined
    default_metrics: ClassVar[tuple[str, ...]]  # the first chooses the epoch
    loss: ClassVar[str]
    solver: ClassVar[str]  # of a head on frozen features
    columns: ClassVar[tuple[str, ...]] = ("label", "score")  # of an answer; see `Prediction`
    has_labels: ClassVar[bool] = True  # False: the answer is a number
    several: ClassVar[bool] = False  # whether a text may have any number of labels
    integer_references: ClassVar[bool] = True  # class ids, one a text
    class_weights: ClassVar[bool] = True  # whether training.class_weights can be used
    reads_columns: ClassVar[bool] = False  # dataset.label may be a list of columns
    needs_columns: ClassVar[bool] = False  # and must be
    has_order: ClassVar[bool] = False  # dataset.order may be given
    has_label_names: ClassVar[bool] = True  # dataset.label_names may be given
    rows_have: ClassVar[str] = "one label each"  # completes "the texts have …"
    separator: ClassVar[str] = ", "  # between labels in a list of all of them
    outputs: ClassVar[str] = "probabilities"  # what the model computes for a text
    pipeline_options: ClassVar[str] = ""  # that transformers' `pipeline` needs for this kind
    pipeline_note: ClassVar[str | None] = None  # in what a `pipeline` answers otherwise

    @property
    def one_label(self) -> bool:
        """Whether the answer is exactly one label: there is a confusion matrix then."""
        return self.has_labels and not self.several

    def describe(self, labels: int) -> str:
        """What a text is answered with, for a person."""
        return f"one of {labels} labels"

    # Reading the label column

    def parse(self, cells: Cells, explicit: bool) -> Parsed:
        """The label of each row as a name or an integer (or a list of these, or a float).

        Args:
            cells: of the label column, as they stand in the data.
            explicit: whether dataset.problem names this kind; else the data showed it.
        """
        raise NotImplementedError

    def read_columns(self, columns: Mapping[str, Cells]) -> Parsed:
        """The cell of each row from a list of columns; only where `reads_columns`."""
        raise NotImplementedError

    def labels_in(self, cells: Cells) -> set[Any]:
        """Every label of the label column, also of lists."""
        return {label for cell in cells for label in (cell if isinstance(cell, list) else [cell])}

    def order_labels(self, labels: set[Any], order: Sequence[str] | None) -> list[str]:
        """The labels of train as the data writes them, in the order of the logits.

        Args:
            labels: names or integers.
            order: dataset.order, where `has_order`.
        """
        del order
        integers = all(integer(label) is not None for label in labels)
        # The text decides between 1 and 01: the order of a set differs from process to process.
        key = {str(label): (integer(label) if integers else 0, str(label)) for label in labels}
        return sorted(key, key=lambda label: key[label])

    def hint(self, labels: Sequence[str]) -> str | None:
        """Another kind that the data may be better described by; for the log."""
        del labels
        return None

    def encode(self, labels: Cells, position: Mapping[str, int]) -> Parsed:
        """What a corpus holds for each row; wrong are rows with a label that train does not have.

        Args:
            labels: as `parse` returns them.
            position: from each label as the data writes it to its index.
        """
        ids = [position.get(str(label), UNLABELLED) for label in labels]
        wrong = [row for row, index in enumerate(ids) if index == UNLABELLED]
        return Parsed(ids, wrong, unknown_label(position))

    def references(self, encoded: Cells) -> np.ndarray:
        """An array of what `encode` returned; one entry a row."""
        return np.array(encoded, dtype=np.int64)

    # What references say

    def classes(self, references: np.ndarray) -> np.ndarray | None:
        """The class of each row, int64 [rows]; None where a row has not exactly one."""
        return references

    def targets(self, references: np.ndarray, labels: int) -> np.ndarray:
        """The probabilities that are right, float64 [rows, labels]."""
        return np.eye(labels)[references]

    def strata(self, references: np.ndarray) -> np.ndarray:
        """What a cut keeps the shares of, int [rows]."""
        return references

    def count(self, references: np.ndarray, labels: int) -> np.ndarray:
        """Rows of each label, [labels]; only where `has_labels`."""
        return np.bincount(references, minlength=labels)

    def describe_references(self, references: np.ndarray, labels: Sequence[str]) -> list[str]:
        """The label of each row in words."""
        return [labels[index] for index in references]

    def nothing_to_learn(self, references: np.ndarray, labels: Sequence[str]) -> str | None:
        """What every row of train has, where that is the same; else None."""
        if len(np.unique(references)) > 1:
            return None
        return f"the label {labels[references[0]]!r}; a classifier needs at least two"

    def contradictory(
        self, references: np.ndarray, texts: np.ndarray, count: int
    ) -> tuple[np.ndarray, str]:
        """Which texts occur with labels that contradict each other, bool [count]; and of what.

        Args:
            texts: int [rows], which of the `count` texts each row has.
        """
        _, codes = np.unique(references, return_inverse=True, axis=0)
        different = np.unique(np.stack([texts, codes.reshape(-1)], axis=1), axis=0)
        return np.bincount(different[:, 0], minlength=count) > 1, "labels"

    # Decoding

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """float64 [rows, labels]."""
        return softmax(logits)

    def log_losses(self, references: np.ndarray, logits: np.ndarray) -> np.ndarray:
        """By row, float64 [rows]; only where `has_labels`."""
        log = np.log(np.clip(self.probabilities(logits), SMALLEST, 1))
        return -(self.targets(references, logits.shape[1]) * log).sum(axis=1)

    def row_losses(self, references: np.ndarray, logits: np.ndarray) -> np.ndarray:
        """How wrong the answer to each row is, float64 [rows]."""
        return self.log_losses(references, logits)

    def row_errors(self, references: np.ndarray, logits: np.ndarray) -> np.ndarray:
        """Whether each answer is wrong, float64 [rows]; its loss where no class is right.

        Unlike a log loss it does not depend on how sure a model is that learned from a few rows:
        out of fold, fine-tuned models are too sure.
        """
        classes = self.classes(references)
        if classes is None:
            return self.row_losses(references, logits)
        return (self._answers(logits) != classes).astype(np.float64)

    def _answers(self, logits: np.ndarray) -> np.ndarray:
        """What `decide` answers without thresholds."""
        return self.decide(self.probabilities(logits), [], {})

    def decide(
        self, probabilities: np.ndarray, labels: Sequence[str], thresholds: Mapping[str, float]
    ) -> np.ndarray:
        """The label of each row, int64 [rows]; of several labels, bool [rows, labels]."""
        del labels, thresholds
        return probabilities.argmax(axis=1)

    def may_have_thresholds(self, labels: int) -> bool:
        """Whether the probability from which a label is given can be chosen."""
        del labels
        return False

    def __repr__(self) -> str:
        return self.name


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities [rows, labels] in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def shown(label: str) -> str:
    """A label in a message: in quotes where spaces or line ends would be overlooked."""
    plain = label and label == label.strip() and label.isprintable()
    return label if plain else repr(label)


def some_of(labels: Iterable[str], separator: str = ", ") -> str:
    """Labels in one line, at most `LISTED` of them; spaces at an end are shown in quotes."""
    names = [shown(label) for label in labels]
    more = f" and {len(names) - LISTED:,} more" if len(names) > LISTED else ""
    return separator.join(names[:LISTED]) + more


def unknown_label(labels: Iterable[str]) -> str:
    """What a row with a label outside train has."""
    return f"a label that train does not have (it has {some_of(labels)})"


def refuse(message: str) -> UserError:
    """An error about the labels of the data."""
    return UserError(ExitCode.DATA, message)


def number(label: Any) -> float | None:
    """A finite number, also one that is written as text."""
    if isinstance(label, bool) or not isinstance(label, int | float | str):
        return None
    if isinstance(label, str) and not NUMBER.fullmatch(label.strip()):
        return None
    return float(label) if math.isfinite(float(label)) else None


def integer(label: Any) -> int | None:
    """An integer, also one that is written as text."""
    if isinstance(label, bool):
        return None
    if isinstance(label, int) or (isinstance(label, float) and label == UNLABELLED):
        return int(label)
    # Python reads no longer ones.
    return int(label) if isinstance(label, str) and re.fullmatch(r"-?\d{1,4000}", label) else None
