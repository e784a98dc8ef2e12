"""Runs one stage: by gradient with the `Trainer`, or solved exactly."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    TrainerCallback,
    TrainingArguments,
)

from nlp_transfer.config.choices import Parallel, Solver
from nlp_transfer.config.schema import Config
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.evaluation.metric_set import Metrics
from nlp_transfer.features.cache import trained_on_features
from nlp_transfer.features.head_solver import solve_head
from nlp_transfer.inference.torch_engine import predict_logits
from nlp_transfer.models.loading import Pretrained
from nlp_transfer.models.lora import adapted
from nlp_transfer.models.mean_pooling import reads_first_token
from nlp_transfer.models.shortcuts.last_layer import shortened
from nlp_transfer.models.shortcuts.linear_maps import fast_linear_maps
from nlp_transfer.models.shortcuts.packing import without_padding
from nlp_transfer.models.stages import Stage, frozen_below, parameter_groups
from nlp_transfer.problems import Problem
from nlp_transfer.tokenization.encoding import Encoded, TrainingRows
from nlp_transfer.training.extensions import NO_EXTENSIONS, Extensions
from nlp_transfer.training.forecast.budget import ends_in_time, minutes_between_checkpoints
from nlp_transfer.training.losses import Loss, find_loss, losses_of_rows
from nlp_transfer.training.objectives.augmentation import is_augmented
from nlp_transfer.training.objectives.class_weights import weigh_labels
from nlp_transfer.training.objectives.objective import objective_of
from nlp_transfer.training.objectives.target_scaling import TargetScaler
from nlp_transfer.training.optimization.arguments import epochs_between
from nlp_transfer.training.optimization.best_epoch import BestEpoch, ValidationResult
from nlp_transfer.training.optimization.callbacks import FiniteLoss, SavesAndStops, StageProgress
from nlp_transfer.training.optimization.history import StageHistory
from nlp_transfer.training.optimization.sharded_trainer import ShardedStageTrainer
from nlp_transfer.training.optimization.signals import stop_error
from nlp_transfer.training.optimization.spread_stage import refuse_spread, spread_stage, used_rows
from nlp_transfer.training.optimization.trainer import Outcome, StageTrainer, descend
from nlp_transfer.training.plan import count_parameters
from nlp_transfer.utils.distributed import ProcessContext
from nlp_transfer.utils.logging import in_notebook, logger

COMPARED_ROWS = 16  # before and after adapters are merged


@dataclass(frozen=True)
class StageRun:
    """One stage and all that it is done with."""

    pretrained: Pretrained
    encoded: Encoded
    scaler: TargetScaler
    stage: Stage
    metrics: Metrics
    config: Config
    process: ProcessContext
    arguments: TrainingArguments
    earlier: Sequence[Stage] = ()  # the stages before it
    extensions: Extensions = NO_EXTENSIONS

    @property
    def is_spread(self) -> bool:
        """Whether the processes hold a slice of the model each, while this stage trains it."""
        by_gradient = self.stage.solver is Solver.gradient
        spread = self.config.training.parallel is Parallel.fsdp
        return spread and by_gradient and self.process.world_size > 1

    @property
    def has_validation(self) -> bool:
        """Whether there is something to measure; where not, the last weights are kept."""
        return "validation" in self.encoded.splits and self.loss.reads_logits

    @property
    def labels_read(self) -> bool:
        """Whether an earlier stage has learned from the labels."""
        return any(self._loss_of(stage).reads_labels for stage in self.earlier)

    @property
    def rereads_texts(self) -> bool:
        """Whether the texts of train are changed each time that they are read."""
        by_gradient = self.stage.solver is Solver.gradient
        return by_gradient and is_augmented(self.config.training, self.loss)

    @property
    def loss(self) -> Loss:
        """What this stage minimises."""
        return self._loss_of(self.stage)

    def _loss_of(self, stage: Stage) -> Loss:
        return loss_of(stage, self.config, self.metrics.problem, self.extensions)

    def measure(self, encoded: Encoded, model: PreTrainedModel) -> ValidationResult:
        """Validation metrics and losses of the model as it is now.

        Args:
            encoded: what the stage reads, tokens or stored features.
        """
        validation, tokens = encoded.splits["validation"], self.config.evaluation.max_tokens
        logits = predict_logits(model, validation.inputs, encoded.collator, tokens, self.process)
        original = self.scaler.original
        return ValidationResult(
            self.metrics.compute(original(logits), original(validation.labels)),
            losses_of_rows(self._validation_loss, logits, validation.labels),
        )

    @property
    def _validation_loss(self) -> Loss:
        """That of the stage, or of the problem where the stage does not compare with labels."""
        return self.loss if self.loss.reads == "logits" else find_loss(None, self.metrics.problem)

    @property
    def label_weights(self) -> np.ndarray | None:
        """How much a row of each label counts."""
        references = self.encoded.splits["train"].labels
        model_config = self.pretrained.model.config
        labels = tuple(model_config.id2label[i] for i in range(model_config.num_labels))
        problem = self.metrics.problem
        return weigh_labels(references, labels, problem, self.config.training.class_weights)


def loss_of(
    stage: Stage, config: Config, problem: Problem, extensions: Extensions = NO_EXTENSIONS
) -> Loss:
    """The loss that a stage names, or that of the run.

    Raises:
        UserError: there is none of this name, it is not for this problem, or not for this stage.
    """
    loss = extensions.find_loss(stage.loss, config.training.loss, problem)
    if loss.reads_logits is not stage.head:
        needs = f"reads {loss.reads}: the head has nothing to learn from it"
        if not stage.head:
            needs = "reads logits: the head has to learn"
        raise UserError(
            ExitCode.CONFIG,
            f"Stage {stage.name}: the loss {loss.name} {needs}. Set "
            f"strategy.stages.{stage.name}.head={str(not stage.head).lower()}.",
        )
    if (loss.reads == "teacher") is not bool(stage.teacher):
        raise UserError(
            ExitCode.CONFIG,
            f"Stage {stage.name}: strategy.stages.{stage.name}.teacher={stage.teacher}, and the "
            f"loss is {loss.name}. A teacher goes with loss=distillation, and it with a teacher.",
        )
    return loss


def run_stage(run: StageRun) -> StageHistory:
    """Let the model learn what the stage says.

    Raises:
        UserError: if the loss is not finite, or a step does not fit into memory.
    """
    stage, config, encoded = run.stage, run.config, run.encoded
    model, anatomy = run.pretrained.model, run.pretrained.anatomy
    start = time.perf_counter()
    sample_split = encoded.splits.get("validation", encoded.splits["train"])
    sample, tokens = sample_split.inputs.first(COMPARED_ROWS), config.evaluation.max_tokens
    predict = partial(predict_logits, model, sample, encoded.collator, tokens)
    checkpointed = recomputed(model, config.training.gradient_checkpointing)
    with adapted(model, stage, anatomy, predict), checkpointed:
        learning, all_of_them = count_parameters(model, stage, anatomy)
        logger.info(
            "stage %s learns %s, %s of %s parameters (%.1f%%)",
            stage.name,
            stage.describe(anatomy),
            f"{learning:,}",
            f"{all_of_them:,}",
            100 * learning / all_of_them,
        )
        inputs = _stage_inputs(run)
        with inputs as stage_inputs, frozen_below(model, stage, anatomy):
            encoded_at = time.perf_counter()
            outcome = _solve(run, stage_inputs) if stage.solver is Solver.exact else None
            if outcome is None:
                outcome = _by_gradient(run, stage_inputs)
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
        speed=outcome.speed,
        log=outcome.log,
        kept_step=outcome.kept_step,
    )


def _stage_inputs(run: StageRun) -> AbstractContextManager[Encoded]:
    """What the stage trains on: tokens, or stored features of texts that stay as they are.

    A model that is spread over processes is not split: what is frozen of it is spread, too.
    """
    if run.rereads_texts or run.loss.adapts or run.is_spread:
        return nullcontext(run.encoded)
    features = run.config.features
    return trained_on_features(run.pretrained, run.encoded, run.stage, features, run.process)


@contextmanager
def recomputed(model: PreTrainedModel, enabled: bool) -> Iterator[None]:
    """Activations are thrown away in the forward pass, and computed again in the backward pass."""
    if enabled:
        model.activation_checkpointing_enable({"use_reentrant": False})
        model.disable_input_require_grads()  # they would carry gradients through what is frozen
    try:
        yield
    finally:
        if enabled:
            model.activation_checkpointing_disable()


def _by_gradient(run: StageRun, encoded: Encoded) -> Outcome:
    """Train on what is given: tokens, or what the frozen part of the model makes of them."""
    config, process = run.config, run.process
    model, anatomy = run.pretrained.model, run.pretrained.anatomy
    refuse_spread(run)
    stops = SavesAndStops(process, minutes_between_checkpoints(config))
    in_time = ends_in_time(run.stage.name, run.extensions.deadline, process.device)
    compares = run.loss.reads_embeddings
    only_first = run.loss.reads != "tokens" and (not compares or _embeds_first_token(run, encoded))
    with (
        objective_of(run, encoded) as objective,
        used_rows(run, objective.tokens),
        fast_linear_maps(model),
        shortened(model, only_first),
        without_padding(model) if compares else nullcontext(),
        spread_stage(run) as run,
    ):
        model = run.pretrained.model
        log: list[dict[str, float | None]] = []
        if objective.withheld is not None:
            log = [{"step": 0, **objective.withheld()}]
        finite = FiniteLoss(objective.loss)
        groups = parameter_groups(model, run.stage, anatomy, config.training.weight_decay)
        trainer = (ShardedStageTrainer if run.is_spread else StageTrainer)(
            model=model,
            args=run.arguments,
            train_dataset=objective.rows,
            batches=objective.batches,
            groups=[*groups, *objective.groups],
            best_epoch=_best_epoch(run),
            process=process,
            compute_loss_func=finite,
            callbacks=[finite, *_progress(run), stops, *in_time, *run.extensions.callbacks],
            **_validation(run, encoded),
        )
        outcome = descend(trainer, objective.batches, objective.lengths)
        log += outcome.log
        if objective.withheld is not None and stops.stopped_by is None:
            log.append({"step": outcome.steps, **objective.withheld()})
            _log_withheld(log[0], log[-1])
    if stops.stopped_by is not None:
        raise stop_error(stops.stopped_by, f"after step {outcome.steps}")
    return replace(outcome, log=log)


def _log_withheld(before: dict[str, float | None], after: dict[str, float | None]) -> None:
    for key, name in (("eval_loss", "loss"), ("eval_perplexity", "perplexity")):
        if key in before:
            logger.info("  %s on withheld texts: %.4f, then %.4f", name, before[key], after[key])


def _embeds_first_token(run: StageRun, encoded: Encoded) -> bool:
    """Whether the first token, which is at the beginning of every row, is the embedding."""
    return reads_first_token(run.pretrained) and encoded.collator.side == "right"


def _best_epoch(run: StageRun) -> BestEpoch | None:
    """Where the best weights are kept; None: the last ones are handed back."""
    if not (run.has_validation and run.config.training.keep_best):
        return None
    learn = {
        name: parameter
        for name, parameter in run.pretrained.model.named_parameters()
        if parameter.requires_grad
    }
    return BestEpoch(learn, run.metrics.greater_is_better)


def _validation(run: StageRun, encoded: Encoded) -> dict[str, Any]:
    """What the trainer measures on, where there is something."""
    if not run.has_validation:
        return {"measure": None}
    return {
        "measure": partial(run.measure, encoded),
        "eval_dataset": TrainingRows(encoded.splits["validation"], encoded.collator),
    }


def _progress(run: StageRun) -> list[TrainerCallback]:
    """The progress of the stage, and its early end where it no longer gets better."""
    training = run.config.training
    shows_bar = training.progress and (sys.stderr.isatty() or in_notebook())
    callbacks: list[TrainerCallback] = [StageProgress(run.stage.name, run.metrics.best, shows_bar)]
    if training.early_stopping is not None and run.has_validation:
        rows, held_out = (len(run.encoded.splits[n].labels) for n in ("train", "validation"))
        between = epochs_between(run.stage, rows, held_out)  # two looks; it counts looks
        callbacks.append(EarlyStoppingCallback(math.ceil(training.early_stopping / between)))
    return callbacks


def _solve(run: StageRun, encoded: Encoded) -> Outcome | None:
    """Solve the head; None where it has to be trained by gradient instead."""
    strength = solve_head(
        run.pretrained,
        encoded.splits["train"],
        encoded.splits.get("validation"),
        encoded.collator,
        run.config.evaluation.max_tokens,
        run.process,
        run.config.seed,
        run.label_weights,
        fitted_on_train=run.labels_read and not run.stage.pristine,
    )
    if strength is None:
        logger.info("  this head cannot hold a linear function: it is trained by gradient")
        return None
    logger.info("  solved exactly, as a regression with C = %g", strength)
    if not run.has_validation:
        return Outcome(0, None, None, [])
    result = run.measure(encoded, run.pretrained.model)
    loss, best = float(result.losses.mean()), run.metrics.best
    value = result.metrics[best]
    if value is not None:
        logger.info("  validation loss %.4f, %s %.4f", loss, best, value)
    log = {"eval_loss": loss} | {f"eval_{name}": value for name, value in result.metrics.items()}
    return Outcome(0, value, None, [log])
