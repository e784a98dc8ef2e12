"""Runs one `Trainer` per stage and hands back a plain model."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from transformers import PreTrainedModel, set_seed

from nlp_transfer.config.schema import AUTO, Config
from nlp_transfer.evaluation.metric_set import Metrics
from nlp_transfer.models.loading import Pretrained
from nlp_transfer.models.stages import Stage
from nlp_transfer.runs.folder import RunFolder
from nlp_transfer.tokenization.encoding import Encoded
from nlp_transfer.training.extensions import NO_EXTENSIONS, Extensions
from nlp_transfer.training.history import AFTER, StageHistory, load_after, read_history, write_after
from nlp_transfer.training.objectives.target_scaling import fit_target_scaler
from nlp_transfer.training.optimization.arguments import stage_arguments
from nlp_transfer.training.optimization.batch_size_finder import largest_micro_batch
from nlp_transfer.training.optimization.batching import accumulation_steps
from nlp_transfer.training.optimization.checkpointing import is_whole
from nlp_transfer.training.stage import StageRun, loss_of, recomputed, run_stage
from nlp_transfer.utils.device import decide_precision, say_if_slow
from nlp_transfer.utils.distributed import (
    ProcessContext,
    assert_same_on_all_ranks,
    broadcast_from_rank_zero,
    wait,
)
from nlp_transfer.utils.logging import logger


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
    extensions: Extensions = NO_EXTENSIONS,
) -> Trained:
    """Run the stages in order, each with an optimizer (and a DDP wrap) over just what learns in it.

    Without a validation split nothing is measured, and the last weights of a stage are kept.

    Raises:
        UserError: if the loss is not finite, or the machine cannot do the precision asked for.
    """
    process = folder.process
    requested = config.training.precision
    precision = folder.decide("precision", lambda: decide_precision(requested, process.device))
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
        loss = loss_of(stage, config, metrics.problem, extensions)
        arguments = stage_arguments(config, stage, index, precision, loss, metrics, encoded, folder)
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
        labels_seen = any(
            loss_of(earlier, config, metrics.problem, extensions).reads_labels
            for earlier in stages[:index]
        )
        run = StageRun(
            pretrained,
            encoded,
            scaler,
            stage,
            metrics,
            config,
            process,
            arguments,
            labels_seen,
            extensions,
        )
        history.append(run_stage(run))
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
        with recomputed(model, config.training.gradient_checkpointing):
            return largest_micro_batch(model, inputs, encoded.collator, share, precision)

    micro_batch_size = folder.decide("micro_batch_size", find)
    return replace(config, training=replace(config.training, micro_batch_size=micro_batch_size))


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
