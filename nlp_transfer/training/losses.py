"""Says how much each label counts, in the loss and in a solved head."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from nlp_transfer.config.schema import ClassWeights
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.problems import Problem

POWERS = {ClassWeights.balanced: 1.0, ClassWeights.sqrt: 0.5}


def weigh_labels(
    found: np.ndarray, labels: tuple[str, ...], problem: Problem, asked: Any
) -> np.ndarray | None:
    """How much a row of each label counts, float64 [labels]; None where all count the same.

    On average over train a row counts as much as one. Where a text may have several labels, it is
    the yes to each label that is weighed, against a no that counts one.

    Args:
        found: the labels of train, as `Corpus.references` gives them.
        asked: `training.class_weights`.

    Raises:
        UserError: where the weights do not fit the labels.
    """
    if asked == ClassWeights.none.value:
        return None
    if not problem.class_weights:
        raise UserError(
            ExitCode.CONFIG,
            f"training.class_weights={asked} has nothing to weigh: the rows have "
            f"{problem.rows_have}.",
        )
    if problem.several:
        rows = found.sum(axis=0)
        power = None if isinstance(asked, dict) else POWERS[ClassWeights(asked)]
        if power is None:
            return _by_name(asked, labels)
        return (np.maximum(len(found) - rows, 1) / np.maximum(rows, 1)) ** power
    rows = np.bincount(found, minlength=len(labels))
    if isinstance(asked, dict):
        weights = _by_name(asked, labels)
    else:
        # A label without rows is met by no row of train.
        weights = np.maximum(rows, 1) ** -POWERS[ClassWeights(asked)]
    return weights * rows.sum() / (weights * rows).sum()


def _by_name(asked: dict[str, float], labels: tuple[str, ...]) -> np.ndarray:
    if set(asked) != set(labels):
        raise UserError(
            ExitCode.CONFIG,
            f"training.class_weights={asked} must give a weight to each of {', '.join(labels)} "
            "and to nothing else.",
        )
    return np.array([float(asked[label]) for label in labels])


def document_loss(
    problem: str, label_smoothing: float, label_weights: np.ndarray | None = None
) -> Callable[..., torch.Tensor]:
    """The only loss: a sum over rows, divided by the documents of the global batch.

    Accumulation and the number of processes cannot change it: `num_items_in_batch` is counted over
    all micro-batches and processes of one step. `labels` are float32 [rows, 1 + answers]: how much
    a row counts (a window the share of its document, what only fills up nothing), and its answer:
    a label's id, 0/1 for each label, or a score.

    Args:
        problem: Hugging Face's `problem_type`.
        label_weights: how much a row of each label counts, float [labels]; None: the same.
    """
    weights = None if label_weights is None else torch.from_numpy(label_weights).float()

    def by_row(logits: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
        weight = None if weights is None else weights.to(logits.device)
        match problem:
            case "regression":
                return (logits - answers).square().mean(dim=1)
            case "multi_label_classification":
                smooth = answers * (1 - label_smoothing) + label_smoothing / 2
                entropy = nn.functional.binary_cross_entropy_with_logits
                return entropy(logits, smooth, pos_weight=weight, reduction="none").mean(dim=1)
            case _:
                ids = answers[:, 0].long()
                entropy = nn.functional.cross_entropy
                each = entropy(logits, ids, label_smoothing=label_smoothing, reduction="none")
                return each if weight is None else each * weight[ids]

    def loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any) -> torch.Tensor:
        each = by_row(outputs.logits.float(), labels[:, 1:])
        return (each * labels[:, 0]).sum() / num_items_in_batch

    return loss
