"""The metrics of distributions over the labels; entropies and losses are in nats."""

from __future__ import annotations

import functools

import numpy as np
from scipy.special import entr

from nlp_transfer.evaluation.metrics.classification import (
    SMALLEST,
    UP_FROM_ZERO,
    accuracy,
    f1_macro,
)
from nlp_transfer.evaluation.registry import Form, IntervalMethod, metric
from nlp_transfer.evaluation.rows import Predictions

KIND = "soft"
of_probabilities = functools.partial(
    metric,
    predictions=Predictions.probabilities,
    form=Form.mean,
    greater_is_better=False,
    bounds=UP_FROM_ZERO,
)


@of_probabilities("log_loss", KIND, interval=IntervalMethod.bootstrap_t)
def log_losses_against_distribution(
    references: np.ndarray, probabilities: np.ndarray
) -> np.ndarray:
    """By row: cross-entropy; at least the entropy of the annotators."""
    return -(references * np.log(np.clip(probabilities, SMALLEST, 1))).sum(axis=1)


@of_probabilities("annotator_entropy", KIND, interval=IntervalMethod.bca)
def annotator_entropies(references: np.ndarray, _: np.ndarray) -> np.ndarray:
    """By row: how much the annotators disagree."""
    return entr(references.astype(np.float64)).sum(axis=1)


@of_probabilities("model_entropy", KIND, interval=IntervalMethod.bca)
def model_entropies(_: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """By row: how undecided the model is, to compare with `annotator_entropy`."""
    return entr(probabilities).sum(axis=1)


# Of the likeliest label of the distribution.
metric("accuracy", KIND, form=Form.counts)(accuracy)
metric("f1_macro", KIND, form=Form.counts, macro=True)(f1_macro)
