"""Turns a stage into the `Trainer`'s arguments: nothing else of it is decided here."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from nlp_transfer.config.choices import Schedule
from nlp_transfer.config.schema import Config
from nlp_transfer.config.sections.training import TrainingConfig
from nlp_transfer.evaluation.metric_set import Metrics
from nlp_transfer.models.strategies.stages import Stage, stage_steps
from nlp_transfer.runs.folder import RunFolder
from nlp_transfer.tokenization.encoded import Encoded
from nlp_transfer.training.losses import Loss
from nlp_transfer.training.optimization.batching import accumulation_steps

LOGS_PER_STAGE = 50
SCHEDULES = {Schedule.constant: "constant_with_warmup"}  # by the library's names, where others
FEWEST_LOOKS = 5  # at validation, in a stage that has as many epochs


def epochs_between(stage: Stage, rows: int, held_out: int) -> int:
    """How many epochs pass from one look at validation to the next.

    One, unless validation is larger than train: then as much is learned from as is looked at, as
    long as there are a few looks.
    """
    return max(min(math.ceil(held_out / rows), math.floor(stage.epochs / FEWEST_LOOKS)), 1)


def stage_home(folder: RunFolder, index: int, stage: Stage) -> Path:
    """Where a stage keeps its checkpoints, and what it made."""
    return folder.checkpoints / f"{index}-{stage.name}"


def stage_arguments(  # noqa: PLR0913
    config: Config,
    stage: Stage,
    index: int,
    precision: str,
    loss: Loss,
    metrics: Metrics,
    encoded: Encoded,
    folder: RunFolder,
) -> TrainingArguments:
    """The arguments of the library's `Trainer` for one stage.

    Args:
        index: of the stage in its strategy.
        loss: of the stage; one that reads no logits says nothing of the metrics, and the batches of
            one that reads embeddings are run whole.
    """
    training, process = config.training, folder.process
    steps = stage_steps(stage, len(encoded.splits["train"].labels), training.batch_size)
    # The Trainer prefers these variables to its arguments: a launcher or a shell may set them.
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder.path / "tensorboard" / stage.name)
    os.environ["ACCELERATE_MIXED_PRECISION"] = {"fp32": "no"}.get(precision, precision)
    arguments = TrainingArguments(
        output_dir=str(stage_home(folder, index, stage)),
        seed=(config.seed + index) % 2**32,
        num_train_epochs=stage.epochs,
        max_steps=-1 if stage.steps is None and loss.reads_logits else steps,
        **_batches(training, loss, process.world_size),
        learning_rate=stage.encoder_learning_rate,
        lr_scheduler_type=SCHEDULES.get(training.schedule, training.schedule.value),
        warmup_steps=round(training.warmup * steps),
        weight_decay=training.weight_decay,
        max_grad_norm=training.max_grad_norm,
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        use_cpu=process.device.type == "cpu",
        **_validation(training.batch_size, stage, loss, metrics, encoded),
        save_strategy="no",  # `SavesAndStops` asks for checkpoints
        restore_callback_states_from_checkpoint=True,
        logging_steps=max(steps // LOGS_PER_STAGE, 1),
        logging_nan_inf_filter=False,
        report_to=training.report_to,
        run_name=f"{folder.path.name}-{stage.name}",
        torch_compile=training.compile,
        remove_unused_columns=False,
        disable_tqdm=True,
    )
    # One process, one device: several GPUs are several processes, never a DataParallel.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def _batches(training: TrainingConfig, loss: Loss, world_size: int) -> dict[str, Any]:
    """The sizes that the plan of batches asks for; the Trainer itself only logs the first."""
    micro = training.micro_batch_size
    assert not isinstance(micro, str), "auto is decided before the first stage"
    accumulation = accumulation_steps(training.batch_size, micro, world_size)
    return {
        "per_device_train_batch_size": math.ceil(training.batch_size / (accumulation * world_size)),
        "gradient_accumulation_steps": 1 if loss.reads_embeddings else accumulation,
    }


def _validation(
    batch_size: int, stage: Stage, loss: Loss, metrics: Metrics, encoded: Encoded
) -> dict[str, Any]:
    """How often the stage is measured on validation, and by which metric."""
    rows = len(encoded.splits["train"].labels)
    measured = loss.reads_logits and "validation" in encoded.splits
    held_out = len(encoded.splits["validation"].labels) if measured else 0
    return {
        "eval_strategy": "steps" if measured else "no",
        "eval_steps": epochs_between(stage, rows, held_out) * math.ceil(rows / batch_size),
        "metric_for_best_model": metrics.best if measured else None,
        "greater_is_better": metrics.greater_is_better,
    }
