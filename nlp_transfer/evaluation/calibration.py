"""Makes confidence mean what it says: one temperature, folded into the last layer in memory.

What is measured, exported and answered by a plain `pipeline` is then one model, and its answers
are the ones it gave before (Guo et al. 2017).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import brentq
from torch import nn
from transformers import PreTrainedModel

from nlp_transfer.config.schema import EvaluationConfig
from nlp_transfer.errors import UserError
from nlp_transfer.evaluation.metrics import decision_losses, log_losses
from nlp_transfer.inference.torch_engine import predict_logits
from nlp_transfer.models.loading import last_linear
from nlp_transfer.problems import Problem
from nlp_transfer.problems.detection import problem_of_config
from nlp_transfer.problems.single_label import SINGLE_LABEL
from nlp_transfer.tokenization.encoding import Collator, Encoded, Inputs
from nlp_transfer.utils.distributed import ProcessContext, broadcast_from_rank_zero
from nlp_transfer.utils.logging import logger

COLDEST, HOTTEST = 0.05, 20.0
FOLDS = 5
TRIED_ROWS = 16  # in one batch, to see whether the last layer's output is the logits


@dataclass(frozen=True)
class Calibration:
    """By what the logits were divided, and why by nothing, if so."""

    temperature: float  # 1 where it is left out
    left_out: str | None

    def before(self, logits: np.ndarray) -> np.ndarray:
        """What the model's logits were."""
        return logits * self.temperature


def calibrate(
    model: PreTrainedModel, encoded: Encoded, config: EvaluationConfig, process: ProcessContext
) -> Calibration:
    """Fit a temperature on validation and fold it into the model; every process does the same."""
    if not config.calibrate:
        return Calibration(1.0, "evaluation.calibrate=false")
    problem = problem_of_config(model.config.to_dict())
    if not problem.has_labels:
        return _left_out("scores have no confidence")
    validation, collator = encoded.splits["validation"], encoded.collator
    layer = scalable_layer(model, validation.inputs, collator)
    if broadcast_from_rank_zero(lambda: layer is None, process):
        return _left_out("the logits are not the output of a last linear layer")
    assert layer is not None, "the processes hold the same model"
    logits = predict_logits(model, validation.inputs, collator, config.max_tokens, process)
    found = broadcast_from_rank_zero(lambda: _decide(logits, validation.labels, problem), process)
    if found.left_out is not None:
        return _left_out(found.left_out)
    scale(layer, 1 / found.temperature)
    logger.info("calibrated: the logits are divided by %.4f", found.temperature)
    return found


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
    """Multiply what the layer says."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(factor)


def fit_temperature(
    logits: np.ndarray, references: np.ndarray, problem: Problem = SINGLE_LABEL
) -> float | None:
    """The temperature of least log loss; None where there is none between the limits.

    There is none where every row is right (the colder, the better) and where the logits know
    nothing of the references (the hotter, the better).
    """
    # Log loss is convex in the inverse of the temperature; this is how it rises.
    given = logits.astype(np.float64)
    right = problem.targets(references, logits.shape[1])

    def slope(inverse: float) -> float:
        return float(((problem.probabilities(inverse * given) - right) * given).mean())

    if slope(1 / HOTTEST) >= 0 or slope(1 / COLDEST) <= 0:
        return None
    return 1 / brentq(slope, 1 / HOTTEST, 1 / COLDEST, xtol=1e-12)


def _decide(logits: np.ndarray, references: np.ndarray, problem: Problem) -> Calibration:
    """A temperature that lowers the log loss of validation, also of rows it was not fitted on."""
    temperature = fit_temperature(logits, references, problem)
    if temperature is None:
        targets = problem.targets(references, logits.shape[1])
        answers = logits > 0 if problem.several else logits.argmax(axis=1)
        right = bool((answers == (targets if problem.several else targets.argmax(axis=1))).all())
        why = "every validation text is right" if right else "no temperature fits validation"
        return Calibration(1.0, why)
    losses = decision_losses if problem.several else log_losses
    parts = np.arange(len(logits)) % FOLDS
    unseen = np.empty(len(logits))
    for part in range(FOLDS):
        here = parts == part
        other = fit_temperature(logits[~here], references[~here], problem)
        if other is None:
            return Calibration(1.0, "validation is too small to tell a temperature")
        unseen[here] = losses(references[here], problem.probabilities(logits[here] / other))
    if unseen.mean() >= losses(references, problem.probabilities(logits)).mean():
        return Calibration(1.0, "no temperature lowered the log loss of held-out validation texts")
    return Calibration(temperature, None)


def _left_out(why: str) -> Calibration:
    logger.info("calibration is left out: %s", why)
    return Calibration(1.0, why)
