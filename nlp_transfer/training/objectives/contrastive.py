"""A stage that pulls texts of one label together before the head is solved.

Supervised contrastive learning (Khosla et al. 2020, eq. 2, the sum outside of the logarithm) over
normalised embeddings. Every process runs the whole batch: each text needs all others of it, the
stage is short, and so any number of processes takes the very same steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from nlp_transfer.models.loading import Pretrained
from nlp_transfer.models.mean_pooling import reads_first_token
from nlp_transfer.problems import Problem
from nlp_transfer.training.losses import LossOptions, register_loss
from nlp_transfer.training.optimization.batching import PlannedBatches

ROWS_OF_A_LABEL = 2  # in a batch, at least
CLOSE = 0.5  # spreads of a score: so far apart two are 61% alike; neighbouring classes 14%
FAR = -1e9  # a similarity of nothing


@register_loss("contrastive", reads="embeddings")
def contrastive(
    embeddings: torch.Tensor, answers: torch.Tensor, options: LossOptions
) -> torch.Tensor:
    """How far each text is from those with its label, compared with all others of the batch.

    Args:
        embeddings: float32 [rows, width].

    Returns:
        float32 [rows]; nothing for a row that is like no other.
    """
    assert options.problem is not None
    return supervised_contrastive(
        embeddings, label_similarity(answers, options.problem), options.temperature
    )


def supervised_contrastive(
    embeddings: torch.Tensor, alike: torch.Tensor, temperature: float
) -> torch.Tensor:
    """How far each row is from those that it is like, compared with all others: float32 [rows].

    Args:
        embeddings: float32 [rows, width].
        alike: float32 [rows, rows], how much.
    """
    itself = torch.eye(len(embeddings), dtype=torch.bool, device=embeddings.device)
    directions = nn.functional.normalize(embeddings, dim=1)
    similarities = (directions @ directions.T / temperature).masked_fill(itself, FAR)
    log_shares = similarities.log_softmax(dim=1)
    alike = alike.masked_fill(itself, 0.0)
    return -(alike * log_shares).sum(dim=1) / alike.sum(dim=1).clamp_min(1e-6)


def label_similarity(answers: torch.Tensor, problem: Problem) -> torch.Tensor:
    """How alike the answers of two rows are, float32 [rows, rows] from 0 to 1.

    The same label or not; of several labels, the share of those of either that both have; of scores
    and of classes with an order, by their distance.
    """
    if problem.several:
        both = answers @ answers.T
        either = answers.sum(dim=1)[:, None] + answers.sum(dim=1)[None] - both
        # Two rows without any label are alike.
        return torch.where(either > 0, both / either.clamp_min(1), 1.0)
    distances = torch.cdist(answers, answers)
    if problem.integer_references and not problem.has_order:
        return (distances == 0).float()
    return torch.exp(-0.5 * (distances / CLOSE) ** 2)


class ContrastiveBatches(PlannedBatches):
    """The batches of a whole stage, as one epoch: labels balanced, at least two rows of each.

    A pure function of labels, seed, steps and batch size, the same on every process.

    Args:
        groups: row indices that count as one label; a row may be in several.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        batch_size: int,
        seed: int,
        *,
        groups: list[np.ndarray],
        steps: int,
        documents: np.ndarray | None = None,
    ) -> None:
        super().__init__(lengths, batch_size, seed, documents=documents)
        self._groups = groups
        self._steps = steps

    def __len__(self) -> int:
        return self._steps

    def plan_documents(self) -> Iterator[np.ndarray]:
        """The documents of each step."""
        yield from plan_groups(self._groups, self.batch_size, self._steps, self.seed)


def plan_groups(
    groups: list[np.ndarray], batch_size: int, steps: int, seed: int
) -> Iterator[np.ndarray]:
    """Batches of `batch_size` rows; each holds as many groups as leave two rows for each.

    Groups take turns, and so do the rows of a group: all of them, in an order that is drawn, before
    one comes again. A group of one row gives it twice (two dropouts of it are alike).
    """
    generator = np.random.default_rng(seed)
    per_batch = min(len(groups), max(batch_size // ROWS_OF_A_LABEL, 1))
    turns = _Cycle(np.arange(len(groups)), generator)
    rows = [_Cycle(group, generator) for group in groups]
    for _ in range(steps):
        groups_of_batch = turns.take(per_batch)
        share, more = divmod(batch_size, per_batch)
        counts = [share + (place < more) for place in range(per_batch)]
        yield np.concatenate(
            [rows[group].take(count) for group, count in zip(groups_of_batch, counts, strict=True)]
        )


class _Cycle:
    """Deals its members out, each once before one comes again."""

    def __init__(self, members: np.ndarray, generator: np.random.Generator) -> None:
        self._members = members
        self._generator = generator
        self._waiting: list[int] = []

    def take(self, count: int) -> list[int]:
        """The next ones; twice the same only where there are fewer."""
        members: list[int] = []
        for _ in range(count):
            if all(member in members for member in self._waiting):
                self._waiting += [int(m) for m in self._generator.permutation(self._members)]
            member = next((m for m in self._waiting if m not in members), self._waiting[0])
            self._waiting.remove(member)
            members.append(member)
        return members


def groups_of(labels: np.ndarray, problem: Problem, batch_size: int) -> list[np.ndarray]:
    """The rows that count as one label; of scores, those of one quantile.

    Args:
        labels: as an `EncodedSplit` holds them.
    """
    if problem.several:
        columns = [np.flatnonzero(column) for column in np.asarray(labels).T]
        nothing = np.flatnonzero(np.asarray(labels).sum(axis=1) == 0)
        return [rows for rows in (*columns, nothing) if len(rows)]
    if problem.integer_references:
        return [np.flatnonzero(labels == label) for label in np.unique(labels)]
    if problem.has_labels:  # a distribution over them
        likeliest = labels.argmax(axis=1)
        return [np.flatnonzero(likeliest == label) for label in np.unique(likeliest)]
    order = np.argsort(labels.reshape(len(labels), -1)[:, 0], kind="stable")
    parts = max(min(batch_size, len(order)) // ROWS_OF_A_LABEL, 1)
    return np.array_split(order, parts)


@contextmanager
def read_embeddings(pretrained: Pretrained) -> Iterator[Callable[[], torch.Tensor]]:
    """The embeddings of the texts that the model has seen last, as the head reads them.

    Inside the context, a function that returns float [rows, width]: the first token of what the
    encoder returns where the head reads that one, else the mean of all (see `mean_pooling`).
    """
    captured: dict[str, torch.Tensor] = {}

    def remember_mask(_: Any, __: Any, keywords: dict[str, Any]) -> None:
        captured["mask"] = keywords["attention_mask"]

    def remember_states(_: Any, __: Any, output: Any) -> None:
        captured["states"] = output[0]

    hooks = (
        pretrained.model.register_forward_pre_hook(remember_mask, with_kwargs=True),
        pretrained.model.base_model.register_forward_hook(remember_states),
    )
    pool = first_tokens if reads_first_token(pretrained) else average
    try:
        yield lambda: pool(captured["states"].float(), captured["mask"])
    finally:
        for hook in hooks:
            hook.remove()


def average(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean of the real tokens, [rows, width]."""
    real = mask.unsqueeze(-1).to(states.dtype)
    return (states * real).sum(dim=1) / real.sum(dim=1)


def first_tokens(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The first real token, [rows, width]."""
    return states[torch.arange(len(states), device=states.device), mask.argmax(dim=1)]
