"""R-Drop: each text is read twice, and the two answers are made to agree.

Dropout leaves out other units each time, so the answers differ; their divergence is added to the
loss (Liang et al. 2021, "R-Drop: Regularized Dropout for Neural Networks", eq. 3 and 4, halved: the
losses of the two readings count as their mean).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from nlp_transfer.problems import Problem
from nlp_transfer.training.losses import Loss, LossOptions

READINGS = 2


def with_consistency(loss: Loss, weight: float) -> Loss:
    """A loss of logits, and `weight` times how far the two readings of each row are apart.

    The rows of a batch come twice: all of them, and all of them again.
    """

    def rows(outputs: torch.Tensor, answers: torch.Tensor, options: LossOptions) -> torch.Tensor:
        assert options.problem is not None
        return loss.function(outputs, answers, options) + weight * divergence(
            outputs, options.problem
        )

    return replace(loss, function=rows)


def divergence(logits: torch.Tensor, problem: Problem) -> torch.Tensor:
    """How far the answers to each row are from those of its other reading.

    Half of the mean of the two Kullback-Leibler divergences; of several labels a text, of each
    label by itself, their mean; of scores, half of the squared difference.

    Args:
        logits: float32 [2 · rows, labels].

    Returns:
        float32 [2 · rows], the same for both readings of a row.
    """
    first, second = logits.chunk(READINGS)
    if not problem.has_labels:
        apart = (first - second).square().mean(dim=1)
    elif problem.several:
        # (p - q) · (logit p - logit q) is the sum of both divergences of a Bernoulli variable.
        shares = torch.sigmoid(first) - torch.sigmoid(second)
        apart = (shares * (first - second)).mean(dim=1) / 2
    else:
        logs = first.log_softmax(dim=1), second.log_softmax(dim=1)
        apart = ((logs[0].exp() - logs[1].exp()) * (logs[0] - logs[1])).sum(dim=1) / 2
    return (apart / READINGS).repeat(READINGS)


def has_dropout(model: nn.Module) -> bool:
    """Whether two readings of a text can differ."""
    return any(isinstance(part, nn.Dropout) and part.p > 0 for part in model.modules())
