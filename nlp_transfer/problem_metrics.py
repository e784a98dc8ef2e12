"""Metrics of texts with several labels, and of scores."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import stats
from sklearn import metrics as sk

from nlp_transfer.config import Problem

Score = Callable[[np.ndarray, np.ndarray], float]


def _f1(average: str) -> Score:
    """Of the labels with a probability above one half."""
    return lambda references, probabilities: sk.f1_score(
        references, probabilities > 0.5, average=average, zero_division=0.0
    )


def _average_precision(references: np.ndarray, probabilities: np.ndarray) -> float:
    """How well each label ranks the texts, averaged over the labels that the split has."""
    present = [i for i in range(references.shape[1]) if references[:, i].any()]
    if not present:
        return math.nan
    each = [sk.average_precision_score(references[:, i], probabilities[:, i]) for i in present]
    return float(np.mean(each))


def _log_loss(references: np.ndarray, probabilities: np.ndarray) -> float:
    """Of every label's yes or no."""
    right = np.where(references > 0, probabilities, 1 - probabilities)
    return float(-np.log(np.maximum(right, np.finfo(np.float64).tiny)).mean())


def _correlation(of: Callable[..., tuple[float, float]]) -> Score:
    """Undefined where either side is the same everywhere."""
    return lambda references, scores: (
        math.nan
        if min(len(scores), np.unique(scores).size, np.unique(references).size) < 2
        else float(of(references, scores)[0])
    )


# Of references 0/1 and probabilities, both [rows, labels]; of references and scores, both [rows].
PROBLEM_METRICS: dict[Problem, dict[str, Score]] = {
    Problem.multi_label: {
        "f1_micro": _f1("micro"),
        "f1_macro": _f1("macro"),
        "f1_weighted": _f1("weighted"),
        "accuracy": lambda references, probabilities: sk.accuracy_score(  # all labels right
            references, probabilities > 0.5
        ),
        "ranking_precision": sk.label_ranking_average_precision_score,  # of each text's labels
        "average_precision": _average_precision,
        "log_loss": _log_loss,
    },
    Problem.regression: {
        "pearson": _correlation(stats.pearsonr),
        "spearman": _correlation(stats.spearmanr),
        "mse": sk.mean_squared_error,
        "mae": sk.mean_absolute_error,
    },
}
