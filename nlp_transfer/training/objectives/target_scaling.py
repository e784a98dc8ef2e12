"""Lets scores of any size be learned: standardised by the mean and the standard deviation of train.

Rates are absolute: a last layer that begins near zero would not come to say 1,000. So the model
learns (score - mean) / std, and in the end both are folded into its last linear layer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from transformers import PreTrainedModel

from nlp_transfer.evaluation.calibration import scalable_layer, scale
from nlp_transfer.inference.torch_engine import predict_logits
from nlp_transfer.models.head import last_linear
from nlp_transfer.models.loading import Pretrained
from nlp_transfer.problems.detection import problem_of_config
from nlp_transfer.tokenization.encoded import Encoded
from nlp_transfer.utils.distributed import ProcessContext, broadcast_from_rank_zero
from nlp_transfer.utils.logging import logger

SMALLEST_STD = 1e-9  # of the largest score: less than that is rounding
PROBE_ROWS = 256  # of train, to see whether a checkpoint's own head knows these scores


@dataclass(frozen=True)
class TargetScaler:
    """A score is `mean` and `std` times what the model says while it learns."""

    mean: float = 0.0
    std: float = 1.0

    def standard(self, scores: np.ndarray) -> np.ndarray:
        """Scores as they are learned."""
        return scores if self == UNSCALED else (scores.astype(float) - self.mean) / self.std

    def original(self, values: np.ndarray) -> np.ndarray:
        """What is learned, in the units of the scores."""
        return values if self == UNSCALED else values * self.std + self.mean

    def of(self, encoded: Encoded) -> Encoded:
        """The splits with their scores as they are learned."""
        splits = {
            name: replace(split, labels=self.standard(split.labels))
            for name, split in encoded.splits.items()
        }
        return replace(encoded, splits=splits)

    def fold(self, model: PreTrainedModel) -> None:
        """Let a model that has learned in these units say the scores themselves."""
        if self != UNSCALED:
            _stretch(model, self.std, self.mean)


UNSCALED = TargetScaler()


def fit_target_scaler(
    pretrained: Pretrained, encoded: Encoded, process: ProcessContext
) -> TargetScaler:
    """The units in which train's scores are learned; a head that the checkpoint has adopts them.

    Every process does the same. What is no score is left as it is.
    """
    model, train = pretrained.model, encoded.splits["train"]
    if problem_of_config(model.config.to_dict()).has_labels:
        return UNSCALED
    layer = scalable_layer(model, train.inputs, encoded.collator)
    if broadcast_from_rank_zero(lambda: layer is None, process):
        logger.info("scores are learned as they are: the model has no last linear layer")
        return UNSCALED
    assert layer is not None, "the processes hold the same model"
    scores = train.labels.astype(float)
    mean = float(scores.mean()) if layer.bias is not None else 0.0
    std = float(np.sqrt(np.square(scores - mean).mean()))
    if std <= SMALLEST_STD * float(np.abs(scores).max()):
        std = 1.0
    scaler = TargetScaler(mean, std)
    text = (
        "scores are learned as (score - %.5g) / %.5g: predicting %.5g for every row has a loss of 1"
    )
    logger.info(text, mean, std, mean)
    if pretrained.own_head:
        _adopt(scaler, pretrained, encoded, process)
    return scaler


def _adopt(
    scaler: TargetScaler, pretrained: Pretrained, encoded: Encoded, process: ProcessContext
) -> None:
    """Let a checkpoint's own head begin with the answers it has, in these units.

    Where these are worse than the mean, it was made for scores of another size: they are moved and
    stretched until mean and std are right.
    """
    model, train = pretrained.model, encoded.splits["train"]
    first_rows = train.inputs.first(PROBE_ROWS)
    predicted = predict_logits(model, first_rows, encoded.collator, process=process)[:, 0].astype(
        float
    )
    predicted = broadcast_from_rank_zero(lambda: predicted, process)
    mean, std = scaler.mean, scaler.std
    scores = train.labels[train.inputs.documents[:PROBE_ROWS]]
    if np.square((predicted - scores) / std).mean() > 1:
        logger.info(
            "  the checkpoint's own head predicts scores on another scale: it is fitted to these"
        )
        mean = float(predicted.mean()) if last_linear(model).bias is not None else 0.0
        std = float(np.sqrt(np.square(predicted - mean).mean())) or 1.0
    _stretch(model, 1 / std, -mean / std)


def _stretch(model: PreTrainedModel, factor: float, shift: float) -> None:
    """Multiply what a model says, and add to it."""
    layer = last_linear(model)
    scale(layer, factor)
    if layer.bias is not None:
        layer.bias.data.add_(shift)
