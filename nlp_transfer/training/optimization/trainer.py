"""The `Trainer` of one stage: planned batches, one loss, rates by layer, one evaluation."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch.utils.data import DataLoader
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerControl,
    TrainerState,
)

from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.training.optimization.batching import PlannedBatches
from nlp_transfer.training.optimization.best_epoch import BestEpoch, ValidationResult
from nlp_transfer.training.optimization.checkpointing import STATE, keep_newest, newest_whole, seal
from nlp_transfer.utils.device import trim_memory
from nlp_transfer.utils.distributed import ProcessContext, broadcast_from_rank_zero, wait
from nlp_transfer.utils.logging import logger


@dataclass(frozen=True)
class Speed:
    """How fast a stage went, over all processes, validation not counted."""

    texts_per_second: float
    tokens_per_second: float  # padding not counted
    padding: float  # share of what was computed


@dataclass(frozen=True)
class Outcome:
    """What finding the weights of one stage gave."""

    steps: int
    best: float | None
    speed: Speed | None
    log: list[dict[str, float | None]]
    kept_step: int | None = None  # None: the last one


class PlannedLoader(DataLoader[Any]):
    """A loader that hands the epoch on to the plan (a plain one never tells its batch sampler)."""

    def set_epoch(self, epoch: int) -> None:
        """Called by the `Trainer` before every epoch."""
        assert isinstance(self.batch_sampler, PlannedBatches)
        self.batch_sampler.set_epoch(epoch)


class StageTrainer(Trainer):
    """The `Trainer` with five hooks: what it reads, counts, lets learn, evaluates and saves.

    Two of them are private, because no public one is in their place. Every label would be counted
    where a row has several: `_get_num_items_in_batch` counts documents. And callbacks hear of a
    checkpoint only afterwards: `_save_checkpoint` clears away half of one before, leaves out what
    nobody needs, and says it when the disk is full.
    """

    def __init__(
        self,
        *,
        batches: PlannedBatches,
        groups: list[dict[str, Any]],
        measure: Callable[[PreTrainedModel], ValidationResult] | None,
        best_epoch: BestEpoch | None,
        process: ProcessContext,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self.optimizer: torch.optim.Optimizer | None
        self.control: TrainerControl
        self._batches = batches
        self._groups = groups
        self._measure = measure
        self.best_epoch = best_epoch
        self._process = process
        self.evaluation_seconds = 0.0

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The planned batches; not prepared by accelerate, which would shard them once more."""
        return PlannedLoader(self.train_dataset, batch_sampler=self._batches, collate_fn=_identity)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Any:
        """Documents of one step over all processes: the library would count every label."""
        documents = sum(batch["labels"][:, 0].sum() for batch in batch_samples)
        return self.accelerator.gather(torch.as_tensor(documents, device=device)).sum()

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:  # noqa: ARG002
        """The library's optimizer over our parameter groups."""
        if self.optimizer is None:
            optimizer, defaults = self.get_optimizer_cls_and_kwargs(self.args)
            self.optimizer = optimizer(self._groups, **defaults)
        return self.optimizer

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float | None]:
        """Validation metrics through the one forward loop of this package."""
        if self._measure is None:
            raise UserError(
                ExitCode.CONFIG,
                "A callback asked for an evaluation, and this training has no validation split: "
                "with few rows, cross-validation measures instead. Give a validation split, and "
                "evaluation.folds=0.",
            )
        start = time.perf_counter()
        result = self._measure(self.model)
        chosen_by = self.args.metric_for_best_model
        value = result.metrics[chosen_by]
        if self.best_epoch is not None:
            self.best_epoch.consider(value, result.losses, self.state.global_step)
        trim_memory()
        self.evaluation_seconds += time.perf_counter() - start
        values: dict[str, float | None] = {"eval_loss": float(result.losses.mean())}
        values |= {f"eval_{name}": value for name, value in result.metrics.items()}
        self.log(values)
        if value is None:  # the library compares it: worse than any number
            values[f"eval_{chosen_by}"] = -math.inf if self.args.greater_is_better else math.inf
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, values
        )
        return values

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """The library's checkpoint, sealed when it is whole; only then do older ones go."""
        home = Path(self.args.output_dir)
        folder = home / f"checkpoint-{self.state.global_step}"
        try:
            if self._process.is_first:
                shutil.rmtree(folder, ignore_errors=True)  # half of one, from before
            wait(self._process)
            # After the last step nothing needs the optimizer any more: two thirds of the bytes.
            self.args.save_only_model = self.state.global_step >= self.state.max_steps
            super()._save_checkpoint(model, trial)
            if self.best_epoch is not None:
                self.best_epoch.save(folder, self._process.is_first)
            wait(self._process)
            if self._process.is_first:
                seal(folder)
        except (OSError, RuntimeError, SafetensorError) as error:
            free = shutil.disk_usage(home).free / 1e6
            shutil.rmtree(folder, ignore_errors=True)
            raise UserError(
                ExitCode.RUN_FOLDER,
                f"The checkpoint {folder} cannot be written ({free:.1f} MB are free): {error}. The "
                "one before it is whole: make room, and the same command continues from there.",
            ) from error
        if self._process.is_first:
            keep_newest(home, 2)


def _identity(batch: Any) -> Any:
    return batch


def descend(
    trainer: StageTrainer, batches: PlannedBatches, lengths: np.ndarray, is_packed: bool = False
) -> Outcome:
    """Train by gradient, from the newest checkpoint there is, and leave nothing in the model.

    Args:
        lengths: tokens of each row of train, as they are given to the model.
        is_packed: whether the model computes no padding.

    Raises:
        UserError: if a step does not fit into memory.
    """
    trainer.remove_callback(ProgressCallback)
    trainer.remove_callback(PrinterCallback)
    home = Path(trainer.args.output_dir)
    checkpoint = broadcast_from_rank_zero(lambda: newest_whole(home), trainer._process)
    start = time.perf_counter()
    try:
        _resume(trainer, checkpoint)
    except torch.OutOfMemoryError as error:
        raise UserError(
            ExitCode.MACHINE,
            f"Step {trainer.state.global_step + 1} does not fit into memory. Add "
            "training.micro_batch_size=auto or training.gradient_checkpointing=true; the batches, "
            "and so the model, stay the same.",
        ) from error
    seconds = time.perf_counter() - start - trainer.evaluation_seconds
    # Under bf16 and fp16 accelerate puts its autocast over the model's forward; take it off.
    trainer.model.__dict__.pop("forward", None)
    trainer.model.__dict__.pop("_original_forward", None)
    state = trainer.state
    log = [entry for entry in state.log_history if "train_runtime" not in entry]
    before = 0 if checkpoint is None else int(checkpoint.name.rpartition("-")[2])
    speed = None
    if state.global_step > before:
        epochs = state.epoch * (state.global_step - before) / state.global_step
        speed = _speed(epochs, seconds, batches, lengths, is_packed)
    best = trainer.best_epoch
    if best is None:
        return Outcome(state.global_step, None, speed, log)
    best.restore()
    if best.value is None and best.step is not None:
        name = trainer.args.metric_for_best_model
        logger.info("  %s was undefined on validation: the last weights are kept", name)
    return Outcome(state.global_step, best.value, speed, log, best.step)


def _resume(trainer: StageTrainer, checkpoint: Path | None) -> None:
    """From a checkpoint to the end of the stage, or from its beginning."""
    if checkpoint is None:
        trainer.train()
        return
    state = TrainerState.load_from_json(str(checkpoint / STATE))
    logger.info("  resumes from step %d of %d", state.global_step, state.max_steps)
    if trainer.best_epoch is not None:
        trainer.best_epoch.load(checkpoint)
    patience = state.stateful_callbacks.get(EarlyStoppingCallback.__name__)
    if patience is not None:
        count = patience["attributes"]["early_stopping_patience_counter"]
        if count >= patience["args"]["early_stopping_patience"]:
            trainer.state = state  # it had ended: the library would make one more epoch
            return
    trainer.train(resume_from_checkpoint=str(checkpoint))


def _speed(
    epochs: float, seconds: float, batches: PlannedBatches, lengths: np.ndarray, is_packed: bool
) -> Speed:
    documents, tokens, padded = batches.count(lengths)
    speed = Speed(
        texts_per_second=epochs * documents / seconds,
        tokens_per_second=epochs * tokens / seconds,
        padding=0.0 if is_packed else 1 - tokens / padded,
    )
    logger.info(
        "  %.1f s in steps: %.0f texts/s, %s tokens/s without padding (%.1f%% of all was padding)",
        seconds,
        speed.texts_per_second,
        f"{speed.tokens_per_second:,.0f}",
        100 * speed.padding,
    )
    return speed
