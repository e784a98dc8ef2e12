"""Runs one `Trainer` per stage and hands back a plain model."""

from __future__ import annotations

import hashlib
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from nlp_transfer.config.schema import AUTO, Config, Solver, TrainingConfig
from nlp_transfer.data.corpus import Corpus
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.evaluation.evaluator import Metrics
from nlp_transfer.features.cache import trained_on_features
from nlp_transfer.features.head_solver import solve_head
from nlp_transfer.inference.torch_engine import predict_logits
from nlp_transfer.models.loading import Pretrained
from nlp_transfer.models.lora import adapted
from nlp_transfer.models.stages import Stage, frozen_below, parameter_groups
from nlp_transfer.runs.folder import RunFolder
from nlp_transfer.tokenization.encoding import Encoded, TrainingRows
from nlp_transfer.training.arguments import epochs_between, stage_arguments
from nlp_transfer.training.batch_size_finder import largest_micro_batch
from nlp_transfer.training.batching import PlannedBatches, accumulation_steps
from nlp_transfer.training.callbacks import FiniteLoss, SavesAndStops, StageProgress
from nlp_transfer.training.checkpointing import is_whole
from nlp_transfer.training.history import AFTER, StageHistory, load_after, read_history, write_after
from nlp_transfer.training.losses import document_loss, weigh_labels
from nlp_transfer.training.plan import count_parameters
from nlp_transfer.training.signals import stopped
from nlp_transfer.training.target_scaling import TargetScaler, fit_target_scaler
from nlp_transfer.training.trainer import Outcome, StageTrainer, descend
from nlp_transfer.utils.device import decide_precision, say_if_slow
from nlp_transfer.utils.distributed import (
    ProcessContext,
    assert_same_on_all_ranks,
    broadcast_from_rank_zero,
    wait,
)
from nlp_transfer.utils.logging import logger

COMPARED_ROWS = 16  # of validation, before and after adapters are merged


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
    process = folder.process
    asked = config.training.precision
    precision = folder.decide("precision", lambda: decide_precision(asked, process.device))
    say_if_slow(precision, process.device)
    config = _with_micro_batches(pretrained, encoded, precision, config, folder)
    _say_how_a_step_is_shared(config, process)
    scaler = fit_target_scaler(pretrained, encoded, process)
    encoded = scaler.of(encoded)
    same_weights = partial(
        assert_same_on_all_ranks, "weights", partial(_digest, pretrained.model), process
    )
    same_weights()
    history = []
    finished: Path | None = None  # of the last stage that an earlier process has finished
    for index, stage in enumerate(stages):
        arguments = stage_arguments(config, stage, index, precision, metrics, encoded, folder)
        home = Path(arguments.output_dir)
        if broadcast_from_rank_zero(partial(is_whole, home / AFTER), process):
            logger.info("stage %s is finished already", stage.name)
            history.append(read_history(home))
            finished = home
            continue
        if finished is not None:
            load_after(finished, pretrained.model)
            finished = None
        # Whatever came before, and in whichever process: the same adapters, the same dropout.
        set_seed(arguments.seed)
        work = _Work(pretrained, encoded, scaler, stage, metrics, config, process, arguments)
        history.append(_train_stage(work))
        same_weights()
        if process.is_first:
            write_after(home, pretrained.model, history[-1])
        wait(process)
    if finished is not None:
        load_after(finished, pretrained.model)
    scaler.fold(pretrained.model)
    return Trained(pretrained.model, history)


def _digest(model: PreTrainedModel) -> str:
    """Of every weight, to the bit."""
    digest = hashlib.sha256()
    for tensor in model.state_dict().values():
        digest.update(tensor.detach().cpu().contiguous().numpy())
    return digest.hexdigest()


def _with_micro_batches(
    pretrained: Pretrained, encoded: Encoded, precision: str, config: Config, folder: RunFolder
) -> Config:
    """The configuration with the size of a micro-batch that `auto` finds."""
    if config.training.micro_batch_size != AUTO:
        return config
    share = math.ceil(config.training.batch_size / folder.process.world_size)
    model, inputs = pretrained.model, encoded.splits["train"].inputs

    def find() -> int:
        with _recomputed(model, config.training.gradient_checkpointing):
            return largest_micro_batch(model, inputs, encoded.collator, share, precision)

    found = folder.decide("micro_batch_size", find)
    return replace(config, training=replace(config.training, micro_batch_size=found))


def _say_how_a_step_is_shared(config: Config, process: ProcessContext) -> None:
    batch, micro = config.training.batch_size, config.training.micro_batch_size
    assert not isinstance(micro, str), "auto is decided by now"
    accumulation = accumulation_steps(batch, micro, process.world_size)
    if process.world_size * accumulation > 1:
        logger.info(
            "each step: %d texts, by %d processes each in %d passes of at most %d",
            batch,
            process.world_size,
            accumulation,
            math.ceil(batch / (process.world_size * accumulation)),
        )


def refuse_absent_trackers(report_to: list[str]) -> None:
    """Stop before training where a tracker is asked for that is not installed."""
    for name in report_to:
        if find_spec(name) is None:
            raise UserError(
                ExitCode.CONFIG,
                f"training.report_to has {name}, which is not installed. "
                f"Type pip install {name}, or leave it out.",
            )


def refuse_unfitting(training: TrainingConfig, corpus: Corpus) -> None:
    """Stop before training where what is asked of the loss does not fit the problem."""
    found = corpus.references("train")
    weigh_labels(found, corpus.labels, corpus.problem, training.class_weights)
    if not corpus.problem.has_labels and training.label_smoothing:
        raise UserError(
            ExitCode.CONFIG,
            f"training.label_smoothing={training.label_smoothing} is for labels; the corpus has "
            "scores. Leave it out.",
        )


@dataclass(frozen=True)
class _Work:
    """One stage and all that it is done with."""

    pretrained: Pretrained
    encoded: Encoded
    scaler: TargetScaler
    stage: Stage
    metrics: Metrics
    config: Config
    process: ProcessContext
    arguments: TrainingArguments

    def measure(self, given: Encoded, model: PreTrainedModel) -> dict[str, float | None]:
        """Validation metrics of the model as it is now."""
        validation, tokens = given.splits["validation"], self.config.evaluation.max_tokens
        found = predict_logits(model, validation.inputs, given.collator, tokens, self.process)
        original = self.scaler.original
        return self.metrics.compute(original(found), original(validation.labels))

    @property
    def label_weights(self) -> np.ndarray | None:
        """How much a row of each label counts."""
        found = self.encoded.splits["train"].labels
        model_config = self.pretrained.model.config
        labels = tuple(model_config.id2label[i] for i in range(model_config.num_labels))
        problem = self.metrics.problem
        return weigh_labels(found, labels, problem, self.config.training.class_weights)


def _train_stage(work: _Work) -> StageHistory:
    stage, config, encoded = work.stage, work.config, work.encoded
    model, anatomy = work.pretrained.model, work.pretrained.anatomy
    start = time.perf_counter()
    some = encoded.splits["validation"].inputs.first(COMPARED_ROWS)
    ask = partial(predict_logits, model, some, encoded.collator, config.evaluation.max_tokens)
    recomputed = _recomputed(model, config.training.gradient_checkpointing)
    with adapted(model, stage, anatomy, ask), recomputed:
        learning, all_of_them = count_parameters(model, stage, anatomy)
        logger.info(
            "stage %s: %s learns, %s of %s parameters (%.1f%%)",
            stage.name,
            stage.describe(anatomy),
            f"{learning:,}",
            f"{all_of_them:,}",
            100 * learning / all_of_them,
        )
        stored = trained_on_features(work.pretrained, encoded, stage, config.features, work.process)
        with stored as given, frozen_below(model, stage, anatomy):
            encoded_at = time.perf_counter()
            outcome = _solve(work, given) if stage.solver is Solver.exact else None
            if outcome is None:
                outcome = _by_gradient(work, given)
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
    )


@contextmanager
def _recomputed(model: PreTrainedModel, wanted: bool) -> Iterator[None]:
    """Activations are thrown away in the forward pass, and computed again in the backward pass."""
    if wanted:
        model.activation_checkpointing_enable({"use_reentrant": False})
        model.disable_input_require_grads()  # they would carry gradients through what is frozen
    try:
        yield
    finally:
        if wanted:
            model.activation_checkpointing_disable()


def _by_gradient(work: _Work, given: Encoded) -> Outcome:
    """Train on what is given: tokens, or what the frozen part of the model makes of them."""
    config, process = work.config, work.process
    # Planned by the texts' own lengths, whatever is stored of them.
    inputs = work.encoded.splits["train"].inputs
    batches = PlannedBatches(
        inputs.lengths,
        config.training.batch_size,
        work.arguments.seed,
        accumulation=work.arguments.gradient_accumulation_steps,
        rank=process.rank,
        world_size=process.world_size,
        documents=inputs.documents,
    )
    model, anatomy = work.pretrained.model, work.pretrained.anatomy
    stops = SavesAndStops(process, config.training.checkpoint_minutes)
    trainer = StageTrainer(
        model=model,
        args=work.arguments,
        train_dataset=TrainingRows(given.splits["train"], given.collator),
        eval_dataset=TrainingRows(given.splits["validation"], given.collator),
        batches=batches,
        groups=parameter_groups(model, work.stage, anatomy, config.training.weight_decay),
        measure=partial(work.measure, given),
        process=process,
        **_watched(work, stops),
    )
    outcome = descend(trainer, batches, given.splits["train"].inputs.lengths)
    if stops.stopped_by is not None:
        raise stopped(stops.stopped_by, f"after step {outcome.steps}")
    return outcome


def _watched(work: _Work, stops: SavesAndStops) -> dict[str, Any]:
    """The loss and the callbacks: progress, a loss that is not finite, early stopping."""
    training = work.config.training
    problem = work.metrics.problem.problem_type
    finite = FiniteLoss(document_loss(problem, training.label_smoothing, work.label_weights))
    in_terminal = training.progress and sys.stderr.isatty()
    progress = StageProgress(work.stage.name, work.metrics.best, in_terminal)
    callbacks: list[TrainerCallback] = [finite, progress, stops]
    if training.early_stopping is not None:
        rows, held_out = (len(work.encoded.splits[n].labels) for n in ("train", "validation"))
        between = epochs_between(work.stage, rows, held_out)  # two looks; it counts looks
        callbacks.append(EarlyStoppingCallback(math.ceil(training.early_stopping / between)))
    return {"compute_loss_func": finite, "callbacks": callbacks}


def _solve(work: _Work, given: Encoded) -> Outcome | None:
    """Solve the head; None where it has to be trained by gradient instead."""
    strength = solve_head(
        work.pretrained,
        given.splits["train"],
        given.splits["validation"],
        given.collator,
        work.config.evaluation.max_tokens,
        work.process,
        work.config.seed,
        work.label_weights,
    )
    if strength is None:
        logger.info("  this head cannot hold a linear function: it is trained by gradient")
        return None
    found = work.measure(given, work.pretrained.model)
    best = work.metrics.best
    logger.info(
        "  solved exactly, as a regression with C = %g; validation %s %.4f",
        strength,
        best,
        math.nan if found[best] is None else found[best],
    )
    return Outcome(0, found[best], None, [{f"eval_{name}": value for name, value in found.items()}])
