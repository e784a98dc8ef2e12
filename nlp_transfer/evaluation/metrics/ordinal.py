"""The metrics of ordered classes."""

from __future__ import annotations

import numpy as np

from nlp_transfer.evaluation.metrics.classification import accuracy, f1_macro
from nlp_transfer.evaluation.metrics.formulas import ACCURACY, F1_MACRO, LOG_LOSS, OPITZ
from nlp_transfer.evaluation.metrics.probabilities import log_losses
from nlp_transfer.evaluation.registry import (
    Form,
    IntervalMethod,
    register_mean_error,
    register_metric,
)
from nlp_transfer.evaluation.rows import Classes, Predictions, ratio

KIND = "ordinal"


@register_metric(
    "quadratic_kappa",
    KIND,
    bounds=(-1.0, 1.0),
    formula=r"1 - \frac{\sum_i (y_i - \hat y_i)^2 / n}{\sum_{ij} (y_i - \hat y_j)^2 / n^2}",
    source="Cohen 1968; labels as steps 0, 1, 2 …",
)
def quadratic_kappa(
    references: np.ndarray, decisions: np.ndarray, weights: np.ndarray, _: Classes
) -> np.ndarray:
    """Agreement beyond chance, where an error counts as the square of its steps (Cohen 1968).

    1 - E[(x - y)²] / E[(x' - y')²], where x' and y' are drawn independently of each other; NaN
    where all references and decisions are the same class.
    """
    x, y = references.astype(np.float64), decisions.astype(np.float64)
    rows = weights.sum(axis=-1)
    mean_x, mean_y = weights @ x / rows, weights @ y / rows
    observed = weights @ (x - y) ** 2 / rows
    by_chance = weights @ (x**2 + y**2) / rows - 2 * mean_x * mean_y
    return 1 - ratio(observed, by_chance, np.nan)


@register_mean_error(
    "mae",
    KIND,
    predictions=Predictions.decisions,
    interval=IntervalMethod.bca,
    formula=r"\frac{1}{n} \sum_i \lvert y_i - \hat y_i \rvert",
    source="in steps",
)
def steps_off(references: np.ndarray, decisions: np.ndarray) -> np.ndarray:
    """By row: how many steps the answer is from the reference."""
    return np.abs(references - decisions).astype(np.float64)


register_metric("accuracy", KIND, form=Form.counts, formula=ACCURACY)(accuracy)
register_metric("f1_macro", KIND, form=Form.counts, macro=True, formula=F1_MACRO, source=OPITZ)(
    f1_macro
)
register_mean_error(
    "log_loss",
    KIND,
    predictions=Predictions.probabilities,
    formula=LOG_LOSS,
    source="Good 1952",
)(log_losses)
