"""The metrics of decisions.

A macro average is over the labels that the references or the predictions hold, as in scikit-learn:
a label that is nowhere in a slice, or in a resample, counts neither for the model nor against it.
"""

from __future__ import annotations

import numpy as np

from nlp_transfer.evaluation.metrics.formulas import (
    ACCURACY,
    F1,
    F1_MACRO,
    MACRO,
    OPITZ,
    PRECISION,
    RECALL,
    RIJSBERGEN,
)
from nlp_transfer.evaluation.registry import Form, IntervalMethod, register_metric
from nlp_transfer.evaluation.rows import Classes, Counts, ratio


def confusion_matrix(references: np.ndarray, predictions: np.ndarray, labels: int) -> np.ndarray:
    """int [references, predictions]."""
    cells = np.bincount(references * labels + predictions, minlength=labels * labels)
    return cells.reshape(labels, labels)


@register_metric("accuracy", "single_label", form=Form.counts, formula=ACCURACY)
def accuracy(counts: Counts, _: Classes) -> np.ndarray:
    """The share of rows that are right."""
    return ratio(counts.hits.sum(axis=-1), counts.actual.sum(axis=-1))


@register_metric(
    "f1",
    "single_label",
    form=Form.counts,
    binary=True,
    formula=F1 + r",\; k \text{ positive}",
    source=RIJSBERGEN,
)
def f1(counts: Counts, classes: Classes) -> np.ndarray:
    """Of the positive label."""
    return counts.f1[..., classes.positive]


@register_metric(
    "f1_micro",
    "multi_label",
    form=Form.counts,
    formula=r"\frac{2 \sum_k TP_k}{\sum_k (2\,TP_k + FP_k + FN_k)}",
    source=RIJSBERGEN,
)
def f1_micro(counts: Counts, _: Classes) -> np.ndarray:
    """Of all labels together."""
    return _together(counts).f1[..., 0]


@register_metric(
    "f1_macro",
    "single_label",
    "multi_label",
    form=Form.counts,
    macro=True,
    formula=F1_MACRO,
    source=OPITZ,
)
def f1_macro(counts: Counts, _: Classes) -> np.ndarray:
    """Mean over the labels that are there."""
    return _mean_of_present(counts.f1, counts)


@register_metric(
    "f1_weighted",
    "single_label",
    "multi_label",
    form=Form.counts,
    formula=r"\frac{\sum_k n_k F_k}{\sum_k n_k}",
    source="scikit-learn, `average='weighted'`",
)
def f1_weighted(counts: Counts, _: Classes) -> np.ndarray:
    """Mean over the labels, weighted by their rows."""
    return ratio((counts.f1 * counts.actual).sum(axis=-1), counts.actual.sum(axis=-1))


@register_metric(
    "precision",
    "single_label",
    form=Form.counts,
    binary=True,
    formula=PRECISION + r",\; k \text{ positive}",
    source=RIJSBERGEN,
)
def precision(counts: Counts, classes: Classes) -> np.ndarray:
    """Of the positive label."""
    return counts.precision[..., classes.positive]


@register_metric(
    "precision_micro",
    "multi_label",
    form=Form.counts,
    formula=r"\frac{\sum_k TP_k}{\sum_k (TP_k + FP_k)}",
    source=RIJSBERGEN,
)
def precision_micro(counts: Counts, _: Classes) -> np.ndarray:
    """Of all labels together."""
    return _together(counts).precision[..., 0]


@register_metric(
    "precision_macro",
    "single_label",
    "multi_label",
    form=Form.counts,
    macro=True,
    formula=MACRO + "P_k",
    source=RIJSBERGEN,
)
def precision_macro(counts: Counts, _: Classes) -> np.ndarray:
    """Mean over the labels that are there."""
    return _mean_of_present(counts.precision, counts)


@register_metric(
    "recall",
    "single_label",
    form=Form.counts,
    binary=True,
    formula=RECALL + r",\; k \text{ positive}",
    source=RIJSBERGEN,
)
def recall(counts: Counts, classes: Classes) -> np.ndarray:
    """Of the positive label."""
    return counts.recall[..., classes.positive]


@register_metric(
    "recall_micro",
    "multi_label",
    form=Form.counts,
    formula=r"\frac{\sum_k TP_k}{\sum_k (TP_k + FN_k)}",
    source=RIJSBERGEN,
)
def recall_micro(counts: Counts, _: Classes) -> np.ndarray:
    """Of all labels together."""
    return _together(counts).recall[..., 0]


@register_metric(
    "recall_macro",
    "single_label",
    "multi_label",
    form=Form.counts,
    macro=True,
    formula=MACRO + "R_k",
    source=RIJSBERGEN,
)
def recall_macro(counts: Counts, _: Classes) -> np.ndarray:
    """Mean over the labels that are there."""
    return _mean_of_present(counts.recall, counts)


@register_metric(
    "matthews",
    "single_label",
    form=Form.counts,
    bounds=(-1.0, 1.0),
    formula=r"\frac{c\,n - \sum_k \hat n_k n_k}"
    r"{\sqrt{(n^2 - \sum_k \hat n_k^2)(n^2 - \sum_k n_k^2)}},\; c = \sum_k TP_k",
    source="Matthews 1975; Gorodkin 2004 for more than two labels",
)
def matthews(counts: Counts, _: Classes) -> np.ndarray:
    """Gorodkin 2004; 0 where only one label is predicted, or only one is there."""
    hits, predicted, actual = counts.hits.sum(axis=-1), counts.predicted, counts.actual
    rows = actual.sum(axis=-1)
    spread = (rows**2 - (predicted**2).sum(axis=-1)) * (rows**2 - (actual**2).sum(axis=-1))
    agreed = hits * rows - (predicted * actual).sum(axis=-1)
    return ratio(agreed, np.sqrt(np.maximum(spread, 0)))


def _mean_of_present(by_label: np.ndarray, counts: Counts) -> np.ndarray:
    """NaN where no label is there."""
    present = counts.present
    if present.all():
        return by_label.mean(axis=-1)
    return ratio((by_label * present).sum(axis=-1), present.sum(axis=-1), np.nan)


def _together(counts: Counts) -> Counts:
    """All labels as one."""
    parts = (counts.hits, counts.predicted, counts.actual)
    return Counts(*(part.sum(axis=-1, keepdims=True) for part in parts))


@register_metric(
    "accuracy",
    "multi_label",
    form=Form.mean,
    interval=IntervalMethod.share,
    formula=r"\frac{1}{n} \sum_i [\hat Y_i = Y_i]",
    source="all labels of a row are right (subset accuracy)",
)
def exact_matches(references: np.ndarray, decisions: np.ndarray) -> np.ndarray:
    """By row: whether every label's yes or no is right, bool [rows]."""
    return (references == decisions).all(axis=1)
