"""The metrics of probabilities that are means over rows."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from nlp_transfer.evaluation.metrics.formulas import LOG_LOSS
from nlp_transfer.evaluation.registry import MIN_ROWS, IntervalMethod, register_mean_error
from nlp_transfer.evaluation.rows import Predictions

BINS = 15  # of confidence, equally wide
SMALLEST = float(np.finfo(np.float64).eps)  # a probability in a logarithm, as in scikit-learn


@register_mean_error(
    "log_loss",
    "single_label",
    predictions=Predictions.probabilities,
    formula=LOG_LOSS,
    source="Good 1952",
)
def log_losses(references: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """By row, [rows]."""
    of_reference = probabilities[np.arange(len(references)), references]
    return -np.log(np.clip(of_reference, SMALLEST, 1))


@register_mean_error(
    "log_loss",
    "multi_label",
    predictions=Predictions.probabilities,
    formula=r"-\frac{1}{nK} \sum_i \sum_k y_{ik} \log p_{ik} + (1 - y_{ik}) \log (1 - p_{ik})",
    source="Good 1952; mean over the labels",
)
def decision_losses(references: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Log loss by row, of every label's yes or no."""
    right = np.where(references > 0, probabilities, 1 - probabilities)
    return -np.log(np.clip(right, SMALLEST, 1)).mean(axis=1)


@register_mean_error(
    "brier",
    "single_label",
    predictions=Predictions.probabilities,
    bounds=(0.0, 2.0),
    interval=IntervalMethod.bca,
    formula=r"\frac{1}{n} \sum_i \sum_k (p_{ik} - [y_i = k])^2",
    source="Brier 1950; half of it for two labels",
)
def brier_losses(references: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Squared distance from the truth by row, [rows]; half of it for two labels, as is usual."""
    labels = probabilities.shape[1]
    squared = ((probabilities - np.eye(labels)[references]) ** 2).sum(axis=1)
    return squared / 2 if labels == 2 else squared


def bins_of(confidence: np.ndarray) -> np.ndarray:
    """The bin of each confidence, 0 to `BINS - 1`."""
    return np.minimum((confidence * BINS).astype(int), BINS - 1)


@register_mean_error(
    "ece",
    "single_label",
    predictions=Predictions.probabilities,
    bounds=(0.0, 1.0),
    interval=IntervalMethod.calibration,
    min_rows=MIN_ROWS,
    reduce=lambda sums: np.abs(sums).sum(axis=-1),
    formula=r"\sum_{b=1}^{15} \frac{n_b}{n} \lvert \mathrm{acc}_b - \mathrm{conf}_b \rvert",
    source="Guo et al. 2017, eq. 3",
)
def gaps(references: np.ndarray, probabilities: np.ndarray) -> sparse.csr_array:
    """Confidence minus correctness of each row, in the bin of its confidence, [rows, BINS].

    The expected calibration error is the sum of the sizes of their means (Guo et al. 2017, eq. 3).
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == references
    rows, shape = np.arange(len(references) + 1), (len(references), BINS)
    return sparse.csr_array((confidence - right, bins_of(confidence), rows), shape=shape)
