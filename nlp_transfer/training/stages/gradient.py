"""Trains a stage by gradient."""

from __future__ import annotations

import math
import sys
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

from transformers import EarlyStoppingCallback, TrainerCallback

from nlp_transfer.models.mean_pooling import reads_first_token
from nlp_transfer.models.shortcuts.last_layer import shortened
from nlp_transfer.models.shortcuts.linear_maps import fast_linear_maps
from nlp_transfer.models.shortcuts.packing import without_padding
from nlp_transfer.models.strategies.learning import parameter_groups
from nlp_transfer.tokenization.encoded import Encoded, TrainingRows
from nlp_transfer.training.forecast.budget import ends_in_time, minutes_between_checkpoints
from nlp_transfer.training.objectives.objective import objective_of
from nlp_transfer.training.optimization.arguments import epochs_between
from nlp_transfer.training.optimization.best_epoch import BestEpoch
from nlp_transfer.training.optimization.callbacks import FiniteLoss, SavesAndStops, StageProgress
from nlp_transfer.training.optimization.sharded_trainer import ShardedStageTrainer
from nlp_transfer.training.optimization.signals import stop_error
from nlp_transfer.training.optimization.trainer import Outcome, StageTrainer, descend
from nlp_transfer.training.stages.sharding import refuse_sharding, sharded_stage, used_rows
from nlp_transfer.training.stages.stage_run import StageRun
from nlp_transfer.utils.logging import in_notebook, logger


def train_by_gradient(run: StageRun, encoded: Encoded) -> Outcome:
    """Train on what is given: tokens, or what the frozen part of the model makes of them."""
    config, process = run.config, run.process
    model, structure = run.pretrained.model, run.pretrained.structure
    refuse_sharding(run)
    stops = SavesAndStops(process, minutes_between_checkpoints(config))
    in_time = ends_in_time(run.stage.name, run.extensions.deadline, process.device)
    compares = run.loss.reads_embeddings
    only_first = run.loss.reads != "tokens" and (not compares or _embeds_first_token(run, encoded))
    with (
        objective_of(run, encoded) as objective,
        used_rows(run, objective.tokens),
        fast_linear_maps(model),
        shortened(model, only_first),
        without_padding(model) if compares else nullcontext(False) as is_packed,
        sharded_stage(run) as run,
    ):
        model = run.pretrained.model
        log: list[dict[str, float | None]] = []
        if objective.held_out is not None:
            log = [{"step": 0, **objective.held_out()}]
        finite = FiniteLoss(objective.loss)
        groups = parameter_groups(model, run.stage, structure, config.training.weight_decay)
        trainer = (ShardedStageTrainer if run.is_sharded else StageTrainer)(
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
        outcome = descend(trainer, objective.batches, objective.lengths, is_packed)
        log += outcome.log
        if objective.held_out is not None and stops.stopped_by is None:
            log.append({"step": outcome.steps, **objective.held_out()})
            _log_held_out(log[0], log[-1])
    if stops.stopped_by is not None:
        raise stop_error(stops.stopped_by, f"after step {outcome.steps}")
    return replace(outcome, log=log)


def _log_held_out(before: dict[str, float | None], after: dict[str, float | None]) -> None:
    for key, name in (("eval_loss", "loss"), ("eval_perplexity", "perplexity")):
        if key in before:
            logger.info("  %s on held-out texts: %.4f, then %.4f", name, before[key], after[key])


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
