"""The `Trainer` of one stage: the planned batches, the one loss, our rates, our evaluation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, Trainer, TrainerControl

from nlp_transfer.batches import IGNORED_LABEL, PlannedBatches


def document_loss(label_smoothing: float) -> Callable[..., torch.Tensor]:
    """The only loss: a sum over rows, divided by the documents of the global batch.

    Accumulation and the number of processes cannot change it: `num_items_in_batch` is counted by
    the `Trainer` over all micro-batches and processes of one step.
    """

    def loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any) -> torch.Tensor:
        total = nn.functional.cross_entropy(
            outputs.logits.float(),
            labels,
            ignore_index=IGNORED_LABEL,
            label_smoothing=label_smoothing,
            reduction="sum",
        )
        return total / num_items_in_batch

    return loss


class PlannedLoader(DataLoader[Any]):
    """A loader that hands the epoch on to the plan (a plain one never tells its batch sampler)."""

    def set_epoch(self, epoch: int) -> None:
        """Called by the `Trainer` before every epoch."""
        assert isinstance(self.batch_sampler, PlannedBatches)
        self.batch_sampler.set_epoch(epoch)


class StageTrainer(Trainer):
    """The `Trainer` with three documented hooks: what it reads, what learns, how it evaluates."""

    def __init__(
        self,
        *,
        batches: PlannedBatches,
        groups: list[dict[str, Any]],
        measure: Callable[[PreTrainedModel], dict[str, float | None]],
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self.optimizer: torch.optim.Optimizer | None
        self.control: TrainerControl
        self._batches = batches
        self._groups = groups
        self._measure = measure

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The planned batches; not prepared by accelerate, which would shard them once more."""
        return PlannedLoader(self.train_dataset, batch_sampler=self._batches, collate_fn=_as_it_is)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:  # noqa: ARG002
        """The library's optimizer over our parameter groups."""
        if self.optimizer is None:
            optimizer, defaults = self.get_optimizer_cls_and_kwargs(self.args)
            self.optimizer = optimizer(self._groups, **defaults)
        return self.optimizer

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float | None]:
        """Validation metrics through the one forward loop of this package."""
        values = {f"eval_{name}": value for name, value in self._measure(self.model).items()}
        self.log(values)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, values
        )
        return values


def _as_it_is(batch: Any) -> Any:
    return batch
