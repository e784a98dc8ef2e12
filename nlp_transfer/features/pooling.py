"""Chooses which layer's tokens a solved head reads, and how they are pooled, by leave-one-out.

Of a frozen encoder the last layer is not always the best one to read: it has learned most of what
the encoder was trained for. The layers above the chosen one are left out, so the checkpoint stays a
plain one, and a smaller one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from nlp_transfer.config.choices import Pooling
from nlp_transfer.config.constants import POOLED_LAST_LAYER, POOLED_LAYER
from nlp_transfer.config.schema import Config
from nlp_transfer.features.linear_models import leave_one_out
from nlp_transfer.features.summaries import FIRST, MEAN, summaries
from nlp_transfer.models.loading import Pretrained
from nlp_transfer.models.mean_pooling import PARTS, settled_pooling, solves_head, with_pooling
from nlp_transfer.models.structure import find_structure, keep_layers
from nlp_transfer.problems import Problem
from nlp_transfer.problems.detection import problem_of_config
from nlp_transfer.tokenization.encoded import Encoded
from nlp_transfer.tokenization.subsets import select_documents
from nlp_transfer.utils.logging import logger

ROWS = 1000  # of train, by which the choice is made
LAYERS = 3  # the last ones, whose means are compared
LOWER = 0.02  # the share by which the errors of a lower layer must be smaller
# The first token must be better than the mean by so many standard errors: where it only looked
# better, it was worse by five points (docs/results: few labels).
SURE = 2.0


@dataclass(frozen=True)
class PooledLayer:
    """Which layer's tokens the head reads, and how they are pooled."""

    layer: int  # from 1
    pooling: str  # a value of `Pooling`


def with_chosen_pooling(
    pretrained: Pretrained,
    encoded: Encoded,
    config: Config,
    decide: Callable[[str, Callable[[], Any]], Any],
    folds: np.ndarray | None = None,
    fold: int | None = None,
) -> Pretrained:
    """The classifier with the pooling that was asked for, or that `auto` chooses for this training.

    Args:
        decide: keeps what was decided by its name, for all trainings of a run.
        folds: of the rows of train, int [rows].
        fold: the one that the training leaves out.
    """
    kind = pretrained.model.config.model_type
    pooling = settled_pooling(config, kind)
    if pooling is Pooling.auto and solves_head(config.strategy) and kind in PARTS:
        layers, name = pretrained.structure.layers, POOLED_LAST_LAYER
        depths = range(layers, layers + 1)
        if _may_leave_layers_out(config):
            name, depths = POOLED_LAYER, range(max(layers - LAYERS, 0) + 1, layers + 1)
        choose = partial(choose_pooled_layers, pretrained, encoded, config.seed, depths, folds)
        choices = choose if folds is None else partial(decide, f"{name}s", choose)
        entries = decide(name, lambda: choices()[0]) if fold is None else choices()[fold + 1]
        chosen = PooledLayer(**entries)
        pooling = Pooling(chosen.pooling)
        pretrained = _up_to(pretrained, chosen.layer)
    return with_pooling(pretrained, pooling)


def _may_leave_layers_out(config: Config) -> bool:
    """Whether the encoder stays as it is, and nobody has said how many layers it has."""
    stages = config.strategy.stages.values()
    return config.checkpoint.layers is None and all(stage.layers == "0" for stage in stages)


def _up_to(pretrained: Pretrained, layer: int) -> Pretrained:
    layers = pretrained.structure.layers
    if layer == layers:
        return pretrained
    logger.info("the head reads layer %d of %d; those above it are left out", layer, layers)
    keep_layers(pretrained.model, range(layer))
    return replace(pretrained, structure=find_structure(pretrained.model))


def choose_pooled_layers(
    pretrained: Pretrained,
    encoded: Encoded,
    seed: int,
    depths: range,
    folds: np.ndarray | None = None,
) -> list[dict[str, Any]]:
    """What a linear model of frozen features does best with, as the entries of a `PooledLayer`.

    By leave-one-out on at most `ROWS` rows of train, for all of them, then for those outside of
    each fold.

    Args:
        depths: of the layers that are compared; the last one is preferred where they are equal.
        folds: of the rows of train, int [rows].
    """
    train = encoded.splits["train"]
    rows = np.random.default_rng(seed).permutation(len(train.labels))[:ROWS]
    part = select_documents(train, rows)
    features = summaries(pretrained, part.inputs, encoded.collator, depths)
    problem = problem_of_config(pretrained.model.config.to_dict())
    parts = [np.ones(len(rows), bool)]
    if folds is not None:
        parts += [folds[rows] != fold for fold in range(int(folds.max()) + 1)]
    errors = [_errors(features[kept], part.labels[kept], problem) for kept in parts]
    _log(errors[0], depths)
    return [asdict(best_pooled_layer(of_part, depths)) for of_part in errors]


def _errors(features: np.ndarray, labels: np.ndarray, problem: Problem) -> np.ndarray:
    """Squared errors of rows that a ridge has not seen, by the mean of each layer, then by the
    first token of the last layer: [layers + 1, rows].

    Of a text with one label, the label is one of as many outputs as there are labels.
    """
    classes = problem.integer_references
    outputs = np.eye(int(labels.max()) + 1)[labels] if classes else labels
    outputs = outputs.reshape(len(labels), -1).astype(np.float64)
    compared = [*np.moveaxis(features[:, :, MEAN], 1, 0), features[:, -1, FIRST]]
    answers = np.array([leave_one_out(x, outputs) for x in compared])
    return ((answers - outputs) ** 2).mean(axis=-1)


def best_pooled_layer(errors: np.ndarray, depths: range) -> PooledLayer:
    """Where the errors [layers + 1, rows] are smallest; in doubt the mean of the last layer."""
    *means, first = errors
    by_layer = np.mean(means, axis=1)
    place = len(means) - 1 - int(by_layer[::-1].argmin())
    if by_layer[place] > (1 - LOWER) * by_layer[-1]:
        place = len(means) - 1
    gain = means[place] - first
    if gain.mean() > SURE * gain.std() / np.sqrt(len(gain)):
        return PooledLayer(depths[-1], Pooling.first.value)
    return PooledLayer(depths[place], Pooling.mean.value)


def _log(errors: np.ndarray, depths: range) -> None:
    *means, first = errors.mean(axis=1)
    figures = [
        f"mean of layer {depth} {mean:.3f}" for depth, mean in zip(depths, means, strict=True)
    ]
    logger.info(
        "squared errors of frozen features, leave-one-out on %d rows: %s, first token %.3f",
        errors.shape[1],
        ", ".join(figures),
        first,
    )
