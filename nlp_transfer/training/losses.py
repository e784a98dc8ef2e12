"""The losses by name: one function each, open to other packages.

A loss gives one number a row, and nothing else: weights of rows, windows, accumulation and the
number of processes are the same for all of them (`document_loss`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.problems import Problem
from nlp_transfer.registry import Registry, has_two_parameters


@dataclass(frozen=True)
class LossOptions:
    """What a loss may be told by the configuration."""

    label_smoothing: float = 0.0
    label_weights: torch.Tensor | None = None  # float32 [labels]; None: all labels count the same
    temperature: float = 0.1  # of similarities between embeddings
    problem: Problem | None = None


RowLoss = Callable[[torch.Tensor, torch.Tensor, LossOptions], torch.Tensor]
AnyRowLoss = TypeVar("AnyRowLoss", bound=Callable[..., torch.Tensor])


@dataclass(frozen=True)
class Loss:
    """One loss.

    `function(outputs, answers, options)` returns float32 [rows]. `outputs` are float32 logits
    [rows, labels], or embeddings [rows, width]; `answers` are float32 [rows, answers]: a label's
    id, 0/1 or a share for each label, or a score.
    """

    name: str
    function: RowLoss
    reads: str = "logits"
    """logits; embeddings (of the whole batch in one call); generated pairs; teacher: logits, and
    those of a teacher as answers; and of texts without labels: passes (the embeddings of each text
    in two passes, of the whole batch in one call), or tokens (the logits of masked tokens)."""
    problems: tuple[str, ...] | None = None  # the names of those that it is for; None: any
    reads_options: bool = True

    def __repr__(self) -> str:
        return f"Loss({self.name}, reads {self.reads})"

    @classmethod
    def from_callable(
        cls, function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], name: str | None = None
    ) -> Loss:
        """A loss of `function(logits, labels)`, one number a row.

        `logits` are float32 [rows, labels]. `labels` are ids int64 [rows] where a text has one
        label; else float32 in the shape of the logits: 0, 1 or a share for each label, or a score.

        Raises:
            UserError: for a function without a name, such as a lambda or a partial.

        >>> import torch
        >>> smooth = torch.nn.CrossEntropyLoss(reduction="none", label_smoothing=0.1)
        >>> Loss.from_callable(smooth).name
        'CrossEntropyLoss'
        """
        is_module = isinstance(function, nn.Module)
        name = name or str(getattr(function, "__name__", type(function).__name__ * is_module))
        if not name.isidentifier():
            raise UserError(
                ExitCode.CONFIG,
                f"The loss {function!r} has no name. Use Loss.from_callable(fn, name='my_loss').",
            )
        return cls(name, PlainLoss(function, name), reads_options=False)

    @property
    def reads_labels(self) -> bool:
        """Whether it is a function of train's labels."""
        return self.reads != "pairs" and not self.adapts

    @property
    def adapts(self) -> bool:
        """Whether it learns from texts alone, those without labels among them."""
        return self.reads in ("passes", "tokens")

    @property
    def reads_embeddings(self) -> bool:
        """Whether it compares the embeddings of a whole batch."""
        return self.reads in ("embeddings", "passes")

    @property
    def reads_logits(self) -> bool:
        """Whether the head learns, and every epoch can be measured on validation."""
        return self.reads in ("logits", "teacher")


@dataclass(frozen=True)
class PlainLoss:
    """A function of logits and labels as a function of rows."""

    function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    name: str

    def __call__(
        self, outputs: torch.Tensor, answers: torch.Tensor, options: LossOptions
    ) -> torch.Tensor:
        """float32 [rows].

        Raises:
            UserError: the function does not give one number a row.
        """
        del options
        one_label = outputs.shape[1] > answers.shape[1]
        labels = answers[:, 0].long() if one_label else answers
        if isinstance(self.function, nn.Module):
            self.function.to(outputs.device)  # its weights of labels, for example
        losses = self.function(outputs, labels)
        if not isinstance(losses, torch.Tensor) or losses.shape[:1] != outputs.shape[:1]:
            shape = list(losses.shape) if isinstance(losses, torch.Tensor) else losses
            raise UserError(
                ExitCode.CONFIG,
                f"The loss {self.name} gave {shape} for {len(outputs)} rows; expected one number "
                "for each row. Leave the mean to the package: reduction='none'.",
            )
        return losses if losses.ndim == 1 else losses.flatten(1).mean(dim=1)


LOSSES: Registry[Loss] = Registry(
    "training.loss",
    "a loss",
    "nlp_transfer.losses",
    [
        f"nlp_transfer.training.objectives.{name}"
        for name in ("contrastive", "pair_distillation", "adaptation")
    ],
)


def register_loss(
    name: str, *problems: str, reads: str = "logits"
) -> Callable[[AnyRowLoss], AnyRowLoss]:
    """Make a loss known by its name (`training.loss`); a decorator.

    Args:
        problems: the kinds of labels that it is for; none: any.
        reads: see `Loss.reads`.

    The function is one of `(logits, labels)`, as for `Loss.from_callable`, or of
    `(outputs, answers, options)`, as for `Loss`.

    Raises:
        ValueError: where the name is taken.
    """

    def register(function: AnyRowLoss) -> AnyRowLoss:
        is_plain = isinstance(function, nn.Module) or has_two_parameters(function)
        rows: Any = PlainLoss(function, name) if is_plain else function
        LOSSES.add(name, Loss(name, rows, reads, problems or None, not is_plain), function)
        return function

    return register


def find_loss(name: str | None, problem: Problem) -> Loss:
    """The loss of a name; None: that of the problem.

    Raises:
        UserError: there is none of this name, or it is not for this problem.
    """
    name = name or problem.loss
    loss = LOSSES.find(name)
    # A kind of another package may name a loss of ours as its own.
    problems = None if name == problem.loss else loss.problems
    if problems is not None and problem.name not in problems:
        raise UserError(
            ExitCode.CONFIG,
            f"training.loss={name} is for {' and '.join(problems)}, and the problem is "
            f"{problem.name}, whose loss is {problem.loss}.",
        )
    return loss


@register_loss("cross_entropy", "single_label", "ordinal")
def cross_entropy(
    logits: torch.Tensor, answers: torch.Tensor, options: LossOptions
) -> torch.Tensor:
    """Cross-entropy with the label of the row."""
    ids = answers[:, 0].long()
    smoothing = options.label_smoothing
    losses = nn.functional.cross_entropy(logits, ids, label_smoothing=smoothing, reduction="none")
    return losses if options.label_weights is None else losses * options.label_weights[ids]


@register_loss("binary_cross_entropy", "multi_label")
def binary_cross_entropy(
    logits: torch.Tensor, answers: torch.Tensor, options: LossOptions
) -> torch.Tensor:
    """Binary cross-entropy of each label, mean over the labels."""
    smooth = answers * (1 - options.label_smoothing) + options.label_smoothing / 2
    entropy = nn.functional.binary_cross_entropy_with_logits
    return entropy(logits, smooth, pos_weight=options.label_weights, reduction="none").mean(dim=1)


@register_loss("squared_error", "regression")
def squared_error(
    logits: torch.Tensor,
    answers: torch.Tensor,
    options: LossOptions,  # noqa: ARG001
) -> torch.Tensor:
    """Squared error of the scaled scores (`TargetScaler`)."""
    return (logits - answers).square().mean(dim=1)


@register_loss("squared_earth_mover", "ordinal")
def squared_earth_mover(
    logits: torch.Tensor, answers: torch.Tensor, options: LossOptions
) -> torch.Tensor:
    """Squared distance of the cumulative distributions, summed over the classes.

    Hou, Yu and Samaras 2016, "Squared Earth Mover's Distance-based Loss", eq. 5 with l = 2.
    """
    ids, classes = answers[:, 0].long(), logits.shape[1]
    targets = nn.functional.one_hot(ids, classes).to(logits.dtype)
    targets = targets * (1 - options.label_smoothing) + options.label_smoothing / classes
    distance = (logits.softmax(dim=1) - targets).cumsum(dim=1)
    losses = distance.square().sum(dim=1)
    return losses if options.label_weights is None else losses * options.label_weights[ids]


@register_loss("soft_cross_entropy", "soft")
def soft_cross_entropy(
    logits: torch.Tensor, answers: torch.Tensor, options: LossOptions
) -> torch.Tensor:
    """Cross-entropy against a distribution over the labels."""
    smooth = answers * (1 - options.label_smoothing) + options.label_smoothing / answers.shape[1]
    return -(smooth * logits.log_softmax(dim=1)).sum(dim=1)


def document_loss(
    loss: Loss, options: LossOptions, embeddings: Callable[[], torch.Tensor] | None = None
) -> Callable[..., torch.Tensor]:
    """What the `Trainer` minimises: a sum over rows, divided by the documents of the global batch.

    Accumulation and the number of processes cannot change it: `num_items_in_batch` is counted over
    all micro-batches and processes of one step. `labels` are float32 [rows, 1 + answers]: how much
    a row counts (a window the share of its document, what only fills up nothing), and its answer.

    Args:
        embeddings: those of the last forward pass, for a loss that reads them.
    """
    options_of = cache(lambda device: _on(options, device))

    def compute(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any) -> torch.Tensor:
        read = outputs.logits.float() if embeddings is None else embeddings()
        losses = loss.function(read, labels[:, 1:], options_of(read.device))
        return (losses * labels[:, 0]).sum() / num_items_in_batch

    return compute


def losses_of_rows(loss: Loss, logits: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """The loss of each row, float64 [rows], without label smoothing and class weights.

    Args:
        logits: float [rows, labels].
        answers: as an `EncodedSplit` holds them.
    """
    columns = torch.from_numpy(answers.reshape(len(answers), -1).astype(np.float32))
    losses = loss.function(torch.from_numpy(logits).float(), columns, LossOptions())
    return losses.double().numpy()


def _on(options: LossOptions, device: torch.device) -> LossOptions:
    weights = options.label_weights
    weights_there = None if weights is None else weights.to(device)
    return replace(options, label_weights=weights_there)
