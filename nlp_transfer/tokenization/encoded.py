"""Texts as tokens: the splits of a corpus, and how their rows become batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from nlp_transfer.tokenization.model_inputs import Inputs, Texts, pad_rows


@dataclass(frozen=True)
class EncodedSplit:
    """One split: inputs, labels by row, and how many texts lost their end."""

    inputs: Inputs
    labels: np.ndarray  # as `Corpus.references` gives them
    cut: int
    texts: Texts | None = None  # only where a training changes them


@dataclass(frozen=True)
class Encoded:
    """Every split of a corpus, and how its rows are padded."""

    splits: dict[str, EncodedSplit]
    collator: Collator
    unlabeled: EncodedSplit | None = None  # texts whose labels say nothing
    unlabeled_alone: bool = False  # whether these are all that a stage without labels may read

    def adapted_texts(self, shared: bool) -> int:
        """How many texts a stage that reads no labels learns from; of windows each is one.

        Args:
            shared: whether folds share it, where there are texts without labels.
        """
        train = len(self.splits["train"].inputs)
        if self.unlabeled is None:
            return train
        return len(self.unlabeled.inputs) + (0 if shared else train)


@dataclass(frozen=True)
class Collator:
    """Pads rows to the longest of their batch, on the tokenizer's own side."""

    padding: dict[str, int]  # value by input name
    side: str  # right or left

    def pad(self, inputs: Inputs, rows: np.ndarray | list[int]) -> dict[str, torch.Tensor]:
        """Tensors [rows, longest], int64, with `attention_mask`; hidden states stay float32."""
        batch = pad_rows(inputs, rows, self.padding, self.side)
        return {name: torch.from_numpy(array) for name, array in batch.items()}


class Draw(NamedTuple):
    """A row of a micro-batch."""

    row: int
    counts: bool  # False: it fills up, and adds nothing to the loss
    epoch: int = 0
    place: int = 0  # in the epoch: with the two, every time that a row is read has a number


Reread = Callable[[Sequence[Draw]], Inputs]


class TrainingRows(torch.utils.data.Dataset[dict[str, Any]]):
    """Rows of a split as `PlannedBatches` asks for them.

    Args:
        reread: the inputs of some rows as they are this time; None: as they are in the split.
        longest: tokens that are read of a row; None: all of them.
        times: how often a row is in its batch.
    """

    def __init__(
        self,
        split: EncodedSplit,
        collator: Collator,
        reread: Reread | None = None,
        longest: int | None = None,
        times: int = 1,
    ) -> None:
        self.split = split
        self.collator = collator
        self.reread = reread
        self.is_fixed = reread is None  # whether a row has the same tokens whenever it is read
        self.times = times
        self.lengths = np.minimum(split.inputs.lengths, longest or np.inf).astype(np.int64)
        self.documents, self.shares = split.inputs.documents, split.inputs.shares

    def __len__(self) -> int:
        return len(self.split.labels)

    def __getitems__(self, draws: list[Draw]) -> dict[str, torch.Tensor]:
        """One micro-batch; `labels` are as `document_loss` reads them."""
        draws = draws * self.times
        rows = [draw.row for draw in draws]
        answers = self.split.labels[self.documents[rows]].reshape(len(rows), -1)
        counts = self.shares[rows] * np.array([draw.counts for draw in draws])
        labels = np.concatenate([counts[:, None], answers], axis=1).astype(np.float32)
        inputs = self.split.inputs
        if self.reread is not None:
            inputs, rows = self.reread(draws), list(range(len(draws)))
        return {**self.collator.pad(inputs, rows), "labels": torch.from_numpy(labels)}
