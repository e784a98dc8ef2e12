"""The metrics of distributions over the labels; entropies and losses are in nats."""

from __future__ import annotations

import numpy as np
from scipy.special import entr

from nlp_transfer.evaluation.metrics.classification import accuracy, f1_macro
from nlp_transfer.evaluation.metrics.formulas import ACCURACY, ENTROPY, F1_MACRO
from nlp_transfer.evaluation.metrics.probabilities import SMALLEST
from nlp_transfer.evaluation.registry import (
    Form,
    IntervalMethod,
    register_mean_error,
    register_metric,
)
from nlp_transfer.evaluation.rows import Predictions

KIND = "soft"


@register_mean_error(
    "log_loss",
    KIND,
    predictions=Predictions.probabilities,
    formula=r"-\frac{1}{n} \sum_i \sum_k q_{ik} \log p_{ik}",
    source="cross-entropy with the share $q_{ik}$ of the annotators",
)
def log_losses_against_distribution(
    references: np.ndarray, probabilities: np.ndarray
) -> np.ndarray:
    """By row: cross-entropy; at least the entropy of the annotators."""
    return -(references * np.log(np.clip(probabilities, SMALLEST, 1))).sum(axis=1)


@register_mean_error(
    "annotator_entropy",
    KIND,
    predictions=Predictions.probabilities,
    interval=IntervalMethod.bca,
    formula=r"-\frac{1}{n} \sum_i \sum_k q_{ik} \log q_{ik}",
    source=ENTROPY,
)
def annotator_entropies(references: np.ndarray, _: np.ndarray) -> np.ndarray:
    """By row: how much the annotators disagree."""
    return entr(references.astype(np.float64)).sum(axis=1)


@register_mean_error(
    "model_entropy",
    KIND,
    predictions=Predictions.probabilities,
    interval=IntervalMethod.bca,
    formula=r"-\frac{1}{n} \sum_i \sum_k p_{ik} \log p_{ik}",
    source=ENTROPY,
)
def model_entropies(_: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """By row: how undecided the model is, to compare with `annotator_entropy`."""
    return entr(probabilities).sum(axis=1)


# Of the likeliest label of the distribution.
register_metric(
    "accuracy",
    KIND,
    form=Form.counts,
    formula=ACCURACY,
    source="of the label that most annotators gave",
)(accuracy)
register_metric(
    "f1_macro",
    KIND,
    form=Form.counts,
    macro=True,
    formula=F1_MACRO,
    source="of the label that most annotators gave",
)(f1_macro)
