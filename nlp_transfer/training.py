"""Runs one `Trainer` per stage and hands back a plain model."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainingArguments,
)

from nlp_transfer.batches import IGNORED_LABEL, PlannedBatches, accumulation_steps
from nlp_transfer.callbacks import FiniteLoss, StageProgress
from nlp_transfer.config import Config, Solver, TrainingConfig
from nlp_transfer.evaluation import Metrics
from nlp_transfer.features import trained_on_features
from nlp_transfer.inference import predict_logits
from nlp_transfer.machine import Machine, decide_precision, logger
from nlp_transfer.model import Anatomy, Pretrained
from nlp_transfer.run_folder import RunFolder
from nlp_transfer.solver import solve_head
from nlp_transfer.strategy import Stage, frozen_below, parameter_groups
from nlp_transfer.tokenization import Encoded, TrainingRows

LOGS_PER_STAGE = 50


@dataclass(frozen=True)
class StageHistory:
    """What one stage did."""

    name: str
    learns: str  # in words
    parameters: int  # that learned
    all_parameters: int
    steps: int
    seconds: float
    encoding_seconds: float  # of these, on the frozen part's output, once
    best: float | None  # the metric that chose the epoch
    log: list[dict[str, float | None]]  # losses, rates, validation metrics, by step


@dataclass(frozen=True)
class Trained:
    """A plain model and the history of every stage."""

    model: PreTrainedModel
    history: list[StageHistory]


def train(
    pretrained: Pretrained,
    encoded: Encoded,
    stages: list[Stage],
    metrics: Metrics,
    config: Config,
    folder: RunFolder,
) -> Trained:
    """Run the stages in order, each with an optimizer (and a DDP wrap) over just what learns in it.

    Raises:
        UserError: if the loss is not finite, or the machine cannot do the precision asked for.
    """
    machine = folder.machine
    asked = config.training.precision
    precision = folder.decide("precision", lambda: decide_precision(asked, machine.device))
    history = []
    for index, stage in enumerate(stages):
        arguments = _arguments(config, stage, index, precision, metrics, encoded, folder)
        history.append(
            _train_stage(pretrained, encoded, stage, metrics, config, machine, arguments)
        )
    return Trained(pretrained.model, history)


def stage_steps(stage: Stage, rows: int, batch_size: int) -> int:
    """Optimizer steps of a stage."""
    return math.ceil(stage.epochs * math.ceil(rows / batch_size))


def count_parameters(model: nn.Module, stage: Stage, anatomy: Anatomy) -> tuple[int, int]:
    """How many parameters learn in a stage, of how many."""
    sizes = [(p.numel(), stage.learns(anatomy, name)) for name, p in model.named_parameters()]
    return sum(size for size, learns in sizes if learns), sum(size for size, _ in sizes)


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


def _train_stage(  # noqa: PLR0913
    pretrained: Pretrained,
    encoded: Encoded,
    stage: Stage,
    metrics: Metrics,
    config: Config,
    machine: Machine,
    arguments: TrainingArguments,
) -> StageHistory:
    model, anatomy = pretrained.model, pretrained.anatomy
    learning, all_of_them = count_parameters(model, stage, anatomy)
    logger.info(
        "stage %s: %s learns, %s of %s parameters (%.1f%%)",
        stage.name,
        stage.describe(anatomy),
        f"{learning:,}",
        f"{all_of_them:,}",
        100 * learning / all_of_them,
    )

    def measure(current: PreTrainedModel) -> dict[str, float | None]:
        tokens = config.evaluation.max_tokens
        logits = predict_logits(current, validation.inputs, encoded.collator, tokens, machine)
        return metrics.compute(logits, validation.labels)

    finite = FiniteLoss(document_loss(config.training.label_smoothing))
    in_terminal = config.training.progress and sys.stderr.isatty()
    callbacks: list[TrainerCallback] = [
        finite,
        StageProgress(f"stage {stage.name}", metrics.best, in_terminal),
    ]
    if config.training.early_stopping is not None:
        callbacks.append(EarlyStoppingCallback(config.training.early_stopping))
    start = time.perf_counter()
    features = trained_on_features(pretrained, encoded, stage, config.features, machine)
    with features as given, frozen_below(model, stage, anatomy):
        encoding_seconds = time.perf_counter() - start
        validation = given.splits["validation"]
        if stage.solver is Solver.exact and _solve(pretrained, given, config, machine):
            found = measure(model)
            logger.info("  validation %s %.4f", metrics.best, found[metrics.best])
            return StageHistory(
                name=stage.name,
                learns=stage.describe(anatomy),
                parameters=learning,
                all_parameters=all_of_them,
                steps=0,
                seconds=time.perf_counter() - start,
                encoding_seconds=encoding_seconds,
                best=found[metrics.best],
                log=[{f"eval_{name}": value for name, value in found.items()}],
            )
        trainer = StageTrainer(
            model=model,
            args=arguments,
            train_dataset=TrainingRows(given.splits["train"], given.collator),
            eval_dataset=TrainingRows(validation, given.collator),
            compute_loss_func=finite,
            callbacks=callbacks,
            batches=_batches(config.training, encoded, arguments, machine),
            groups=parameter_groups(model, stage, anatomy, config.training.weight_decay),
            measure=measure,
        )
        trainer.remove_callback(ProgressCallback)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        # Under bf16 and fp16 accelerate puts its autocast over the model's forward; take it off.
        vars(model).pop("forward", None)
        vars(model).pop("_original_forward", None)
    model.zero_grad(set_to_none=True)
    return StageHistory(
        name=stage.name,
        learns=stage.describe(anatomy),
        parameters=learning,
        all_parameters=all_of_them,
        steps=trainer.state.global_step,
        seconds=time.perf_counter() - start,
        encoding_seconds=encoding_seconds,
        best=trainer.state.best_metric,
        log=[entry for entry in trainer.state.log_history if "train_runtime" not in entry],
    )


def _solve(pretrained: Pretrained, given: Encoded, config: Config, machine: Machine) -> bool:
    """Solve the head; False where it has to be trained by gradient instead."""
    strength = solve_head(
        pretrained,
        given.splits["train"],
        given.splits["validation"],
        given.collator,
        config.evaluation.max_tokens,
        machine,
        config.seed,
    )
    if strength is None:
        logger.info("  this head cannot hold a linear function: it is trained by gradient")
        return False
    logger.info("  the head is solved exactly, as a logistic regression with C = %g", strength)
    return True


def _batches(
    config: TrainingConfig, encoded: Encoded, arguments: TrainingArguments, machine: Machine
) -> PlannedBatches:
    return PlannedBatches(
        encoded.splits["train"].inputs.lengths,
        config.batch_size,
        arguments.seed,
        accumulation=arguments.gradient_accumulation_steps,
        rank=machine.rank,
        world_size=machine.world_size,
    )


def _arguments(  # noqa: PLR0913
    config: Config,
    stage: Stage,
    index: int,
    precision: str,
    metrics: Metrics,
    encoded: Encoded,
    folder: RunFolder,
) -> TrainingArguments:
    training, machine = config.training, folder.machine
    accumulation = accumulation_steps(
        training.batch_size, training.micro_batch_size, machine.world_size
    )
    steps = stage_steps(stage, len(encoded.splits["train"].inputs), training.batch_size)
    keep_best = "epoch" if training.keep_best else "no"
    # Else a launcher's variable of this name would decide.
    os.environ["ACCELERATE_MIXED_PRECISION"] = {"fp32": "no"}.get(precision, precision)
    arguments = TrainingArguments(
        output_dir=str(folder.checkpoints / f"{index}-{stage.name}"),
        seed=(config.seed + index) % 2**32,
        num_train_epochs=stage.epochs,
        # What the plan asks for; the Trainer itself only logs it.
        per_device_train_batch_size=math.ceil(
            training.batch_size / (accumulation * machine.world_size)
        ),
        gradient_accumulation_steps=accumulation,
        learning_rate=stage.encoder_learning_rate,
        lr_scheduler_type=training.schedule.value,
        warmup_steps=round(training.warmup * steps),
        weight_decay=training.weight_decay,
        max_grad_norm=training.max_grad_norm,
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        use_cpu=machine.device.type == "cpu",
        eval_strategy="epoch",
        save_strategy=keep_best,
        save_only_model=True,
        save_total_limit=1,
        load_best_model_at_end=keep_best == "epoch",
        metric_for_best_model=metrics.best,
        greater_is_better=metrics.greater_is_better,
        logging_steps=max(steps // LOGS_PER_STAGE, 1),
        logging_nan_inf_filter=False,
        report_to=[],
        remove_unused_columns=False,
        disable_tqdm=True,
    )
    if training.schedule.value == "constant":
        arguments.lr_scheduler_type = "constant_with_warmup"
    # One process, one device: several GPUs are several processes, never a DataParallel.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def _as_it_is(batch: Any) -> Any:
    return batch
