"""Temperature scaling: fits one temperature and folds it into the last layer.

The model that is measured, the one that is exported and the one that a plain `pipeline` opens are
then the same, and its decisions do not change (Guo et al. 2017).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import brentq
from torch import nn
from transformers import PreTrainedModel

from nlp_transfer.config.sections.evaluation import EvaluationConfig
from nlp_transfer.errors import UserError
from nlp_transfer.inference.torch_engine import predict_logits
from nlp_transfer.models.head import last_linear
from nlp_transfer.problems import Problem
from nlp_transfer.problems.single_label import SINGLE_LABEL
from nlp_transfer.tokenization.encoded import Collator
from nlp_transfer.tokenization.encoding import Inputs
from nlp_transfer.utils.distributed import ProcessContext, broadcast_from_rank_zero
from nlp_transfer.utils.logging import logger

COLDEST, HOTTEST = 0.05, 20.0
FOLDS = 5
BLOCK = 100_000  # logits
FEWEST_ROWS = 10
NEAR = 1.1  # factor by which a part of the rows is first expected to differ
TRIED_ROWS = 16  # in one batch, to see whether the last layer's output is the logits


@dataclass(frozen=True)
class Calibration:
    """By what the logits were divided, and why by nothing, if so."""

    temperature: float  # 1 where it is left out
    left_out: str | None

    def before(self, logits: np.ndarray) -> np.ndarray:
        """What the model's logits were."""
        return logits * self.temperature

    def after(self, logits: np.ndarray) -> np.ndarray:
        """What the calibrated model's logits are."""
        return logits / np.float32(self.temperature)


def fit_calibration(
    logits: np.ndarray, references: np.ndarray, problem: Problem, config: EvaluationConfig
) -> Calibration:
    """A temperature for the logits of rows that the model has not learned from.

    Args:
        logits: float [rows, labels], of validation or out of fold.
        references: as `Corpus.references` gives them.
    """
    if not config.calibrate:
        return Calibration(1.0, "evaluation.calibrate=false")
    if not problem.has_labels:
        return Calibration(1.0, "scores have no confidence")
    if len(logits) < FEWEST_ROWS:
        return Calibration(1.0, f"{len(logits)} rows are too few to fit a temperature")
    return _decide(logits, references, problem)


def apply_calibration(
    model: PreTrainedModel,
    calibration: Calibration,
    inputs: Inputs,
    collator: Collator,
    process: ProcessContext,
) -> Calibration:
    """Divide what the model's last layer says; the calibration, or why it was left out.

    Args:
        inputs: of which a few are tried, to see that the layer's output is the logits.
    """
    if calibration.left_out is None:
        layer = scalable_layer(model, inputs, collator)
        if broadcast_from_rank_zero(lambda: layer is None, process):
            calibration = Calibration(1.0, "the logits are not the output of a last linear layer")
        else:
            assert layer is not None, "the processes hold the same model"
            scale(layer, 1 / calibration.temperature)
            logger.info("calibrated: the logits are divided by %.4f", calibration.temperature)
    if calibration.left_out is not None:
        logger.info("calibration is left out: %s", calibration.left_out)
    return calibration


def scalable_layer(model: PreTrainedModel, inputs: Inputs, collator: Collator) -> nn.Linear | None:
    """The layer whose output is the logits; None where there is none.

    It is if halving its weights halves the logits of a batch, which floating point does exactly.
    """
    try:
        layer = last_linear(model)
    except UserError:
        return None
    some = inputs.first(TRIED_ROWS)
    whole = int(some.offsets[-1]) * len(some)  # tokens enough for a single batch
    before = predict_logits(model, some, collator, whole)
    scale(layer, 0.5)
    after = predict_logits(model, some, collator, whole)
    scale(layer, 2.0)
    return layer if np.array_equal(2 * after, before) else None


def scale(layer: nn.Linear, factor: float) -> None:
    """Multiply the output of the layer."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(factor)


def fit_temperature(
    logits: np.ndarray,
    references: np.ndarray,
    problem: Problem = SINGLE_LABEL,
    near: float | None = None,
) -> float | None:
    """The temperature of least log loss; None where the logits know nothing of the references.

    Where every row is right, the log loss has no minimum (the colder, the better). There the
    temperature is drawn to one: half its squared logarithm is added to the summed log loss, which
    is a log-normal prior of deviation one.

    Args:
        near: the temperature of most of these rows; it only saves time.
    """
    # Log loss is convex in the inverse of the temperature; this is how it rises.
    labels = logits.shape[1]
    size = max(1, BLOCK // labels)  # blocks stay in the cache, whole tables do not
    blocks = [slice(start, start + size) for start in range(0, len(logits), size)]

    def slope_of(rows: slice, inverse: float) -> float:
        logits64 = logits[rows].astype(np.float64)
        right = problem.targets(references[rows], labels)
        return float(((problem.probabilities(inverse * logits64) - right) * logits64).sum())

    def slope(inverse: float) -> float:
        return sum(slope_of(rows, inverse) for rows in blocks)

    def penalised(inverse: float) -> float:
        return slope(inverse) + np.log(inverse) / inverse

    if near is not None:
        low, high = max(1 / HOTTEST, 1 / (near * NEAR)), min(NEAR / near, 1 / COLDEST)
        if slope(low) < 0 < slope(high):
            return 1 / brentq(slope, low, high, xtol=1e-12)
    if slope(1 / HOTTEST) >= 0:
        return None
    if slope(1 / COLDEST) > 0:
        return 1 / brentq(slope, 1 / HOTTEST, 1 / COLDEST, xtol=1e-12)
    if penalised(1 / COLDEST) <= 0:
        return COLDEST
    return 1 / brentq(penalised, 1 / HOTTEST, 1 / COLDEST, xtol=1e-12)


def _decide(logits: np.ndarray, references: np.ndarray, problem: Problem) -> Calibration:
    """A temperature that lowers the log loss also of rows that it was not fitted on."""
    temperature = fit_temperature(logits, references, problem)
    if temperature is None:
        return Calibration(1.0, "no temperature fits the held-out rows")
    parts = np.arange(len(logits)) % FOLDS
    unseen = np.empty(len(logits))
    for part in range(FOLDS):
        here = parts == part
        other = fit_temperature(logits[~here], references[~here], problem, temperature)
        if other is None:
            return Calibration(1.0, "no temperature fits four fifths of the held-out rows")
        unseen[here] = problem.log_losses(references[here], logits[here] / other)
    if unseen.mean() >= problem.log_losses(references, logits).mean():
        return Calibration(1.0, "no temperature lowered the log loss of unseen held-out rows")
    return Calibration(temperature, None)
