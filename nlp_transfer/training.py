"""Runs one `Trainer` per stage and hands back a plain model."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from torch import nn
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    PrinterCallback,
    ProgressCallback,
    TrainerCallback,
    TrainingArguments,
)

from nlp_transfer.batches import PlannedBatches, accumulation_steps
from nlp_transfer.callbacks import FiniteLoss, StageProgress
from nlp_transfer.config import Config, Solver, TrainingConfig
from nlp_transfer.evaluation import Metrics
from nlp_transfer.features import trained_on_features
from nlp_transfer.inference import predict_logits
from nlp_transfer.lora import adapted
from nlp_transfer.machine import Machine, decide_precision, logger
from nlp_transfer.model import Anatomy, Pretrained
from nlp_transfer.run_folder import RunFolder
from nlp_transfer.solver import solve_head
from nlp_transfer.stage_trainer import StageTrainer, document_loss, weigh_labels
from nlp_transfer.strategy import Stage, frozen_below, parameter_groups, stage_steps
from nlp_transfer.tokenization import Encoded, TrainingRows

LOGS_PER_STAGE = 50
FEWEST_LOOKS = 5  # at validation, in a stage that has as many epochs
COMPARED_ROWS = 16  # of validation, before and after adapters are merged


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


def count_parameters(model: nn.Module, stage: Stage, anatomy: Anatomy) -> tuple[int, int]:
    """How many parameters learn in a stage, of how many."""
    sizes = [(p.numel(), stage.learns(anatomy, name)) for name, p in model.named_parameters()]
    return sum(size for size, learns in sizes if learns), sum(size for size, _ in sizes)


@dataclass(frozen=True)
class _Outcome:
    """What finding the weights of one stage gave."""

    steps: int
    best: float | None
    log: list[dict[str, float | None]]


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
    start = time.perf_counter()
    some = encoded.splits["validation"].inputs.first(COMPARED_ROWS)
    ask = partial(predict_logits, model, some, encoded.collator, config.evaluation.max_tokens)
    with adapted(model, stage, anatomy, ask):
        learning, all_of_them = count_parameters(model, stage, anatomy)
        logger.info(
            "stage %s: %s learns, %s of %s parameters (%.1f%%)",
            stage.name,
            stage.describe(anatomy),
            f"{learning:,}",
            f"{all_of_them:,}",
            100 * learning / all_of_them,
        )
        features = trained_on_features(pretrained, encoded, stage, config.features, machine)
        with features as given, frozen_below(model, stage, anatomy):
            encoded_at = time.perf_counter()
            measure = partial(_measure, metrics, given, config.evaluation.max_tokens, machine)
            outcome = None
            if stage.solver is Solver.exact:
                outcome = _solve(pretrained, given, measure, config, machine)
            if outcome is None:
                # Planned by the texts' own lengths, whatever is stored of them.
                batches = _batches(config.training, encoded, arguments, machine)
                groups = parameter_groups(model, stage, anatomy, config.training.weight_decay)
                outcome = _descend(
                    StageTrainer(
                        model=model,
                        args=arguments,
                        train_dataset=TrainingRows(given.splits["train"], given.collator),
                        eval_dataset=TrainingRows(given.splits["validation"], given.collator),
                        batches=batches,
                        groups=groups,
                        measure=measure,
                        **_watched(stage, metrics, config, _weights(pretrained, given, config)),
                    )
                )
    model.zero_grad(set_to_none=True)
    return StageHistory(
        name=stage.name,
        learns=stage.describe(anatomy),
        parameters=learning,
        all_parameters=all_of_them,
        steps=outcome.steps,
        seconds=time.perf_counter() - start,
        encoding_seconds=encoded_at - start,
        best=outcome.best,
        log=outcome.log,
    )


def _weights(pretrained: Pretrained, encoded: Encoded, config: Config) -> np.ndarray | None:
    """How much a row of each label counts."""
    labels, count = encoded.splits["train"].labels, pretrained.model.config.num_labels
    return weigh_labels(labels, count, config.training.class_weights)


def _measure(
    metrics: Metrics, given: Encoded, max_tokens: int, machine: Machine, model: PreTrainedModel
) -> dict[str, float | None]:
    """Validation metrics of the model as it is now."""
    validation = given.splits["validation"]
    logits = predict_logits(model, validation.inputs, given.collator, max_tokens, machine)
    return metrics.compute(logits, validation.labels)


def _watched(
    stage: Stage, metrics: Metrics, config: Config, weights: np.ndarray | None
) -> dict[str, Any]:
    """The loss and the callbacks: progress, a loss that is not finite, early stopping."""
    training = config.training
    finite = FiniteLoss(document_loss(training.label_smoothing, weights))
    in_terminal = training.progress and sys.stderr.isatty()
    progress = StageProgress(f"stage {stage.name}", metrics.best, in_terminal)
    callbacks: list[TrainerCallback] = [finite, progress]
    if training.early_stopping is not None:
        callbacks.append(EarlyStoppingCallback(training.early_stopping))
    return {"compute_loss_func": finite, "callbacks": callbacks}


def _descend(trainer: StageTrainer) -> _Outcome:
    """Train by gradient, and leave nothing of the `Trainer` in the model."""
    trainer.remove_callback(ProgressCallback)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    # Under bf16 and fp16 accelerate puts its autocast over the model's forward; take it off.
    trainer.model.__dict__.pop("forward", None)
    trainer.model.__dict__.pop("_original_forward", None)
    state = trainer.state
    log = [entry for entry in state.log_history if "train_runtime" not in entry]
    return _Outcome(state.global_step, state.best_metric, log)


def _solve(
    pretrained: Pretrained,
    given: Encoded,
    measure: Callable[[PreTrainedModel], dict[str, float | None]],
    config: Config,
    machine: Machine,
) -> _Outcome | None:
    """Solve the head; None where it has to be trained by gradient instead."""
    strength = solve_head(
        pretrained,
        given.splits["train"],
        given.splits["validation"],
        given.collator,
        config.evaluation.max_tokens,
        machine,
        config.seed,
        _weights(pretrained, given, config),
    )
    if strength is None:
        logger.info("  this head cannot hold a linear function: it is trained by gradient")
        return None
    found = measure(pretrained.model)
    best = config.evaluation.best
    logger.info(
        "  solved exactly, as a regression with C = %g; validation %s %.4f",
        strength,
        best,
        found[best],
    )
    return _Outcome(0, found[best], [{f"eval_{name}": value for name, value in found.items()}])


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


def _epochs_between(stage: Stage, rows: int, held_out: int) -> int:
    """How many epochs pass from one look at validation to the next.

    One, unless validation is larger than train: then as much is learned from as is looked at, as
    long as there are a few looks.
    """
    return max(min(math.ceil(held_out / rows), math.floor(stage.epochs / FEWEST_LOOKS)), 1)


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
    rows, held_out = (len(encoded.splits[name].labels) for name in ("train", "validation"))
    steps = stage_steps(stage, rows, training.batch_size)
    measured_every = _epochs_between(stage, rows, held_out) * math.ceil(rows / training.batch_size)
    keep_best = "steps" if training.keep_best else "no"
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
        eval_strategy="steps",
        eval_steps=measured_every,
        save_strategy=keep_best,
        save_steps=measured_every,
        save_only_model=True,
        save_total_limit=1,
        load_best_model_at_end=training.keep_best,
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
