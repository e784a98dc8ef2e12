"""Runs one `Trainer` per stage and hands back a plain model."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from transformers import PreTrainedModel, set_seed

from nlp_transfer.config.constants import AUTO
from nlp_transfer.config.schema import Config
from nlp_transfer.evaluation.metric_set import Metrics
from nlp_transfer.models.loading import Pretrained
from nlp_transfer.models.shortcuts.last_layer import shortened
from nlp_transfer.models.shortcuts.linear_maps import fast_linear_maps
from nlp_transfer.models.strategies.stages import Stage
from nlp_transfer.runs.folder import RunFolder
from nlp_transfer.tokenization.encoded import Encoded
from nlp_transfer.training.extensions import NO_EXTENSIONS, Extensions
from nlp_transfer.training.objectives.consistency import READINGS
from nlp_transfer.training.objectives.target_scaling import fit_target_scaler
from nlp_transfer.training.optimization.arguments import stage_arguments, stage_home
from nlp_transfer.training.optimization.batch_size_finder import largest_micro_batch
from nlp_transfer.training.optimization.batching import accumulation_steps
from nlp_transfer.training.stages.history import (
    StageHistory,
    StageKeeper,
    finished_stages,
    load_after,
    read_history,
)
from nlp_transfer.training.stages.stage import recomputed, run_stage
from nlp_transfer.training.stages.stage_run import StageRun, loss_of
from nlp_transfer.training.stages.stored import load_or_run
from nlp_transfer.utils.device import decide_precision, warn_if_slow
from nlp_transfer.utils.distributed import (
    ProcessContext,
    assert_same_on_all_ranks,
    broadcast_from_rank_zero,
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

    Without a validation split nothing is measured, and the last weights of a stage are kept. A
    stage that an earlier process has finished is not run again.

    Raises:
        UserError: if the loss is not finite, or the machine cannot do the precision asked for.
    """
    process = folder.process
    precision, config = _decide_machine(pretrained, encoded, config, folder)
    scaler = fit_target_scaler(pretrained, encoded, process)
    encoded = scaler.of(encoded)
    _assert_same_weights(pretrained.model, process)
    homes = [stage_home(folder, index, stage) for index, stage in enumerate(stages)]
    history = _load_finished(stages, homes, pretrained.model, process)
    keeper = StageKeeper(process, config.training.checkpoint_minutes)
    for index in range(len(history), len(stages)):
        stage, is_last = stages[index], index == len(stages) - 1
        loss = loss_of(stage, config, metrics.problem, extensions)
        run = StageRun(
            pretrained,
            encoded,
            scaler,
            stage,
            metrics,
            config,
            process,
            stage_arguments(config, stage, index, precision, loss, metrics, encoded, folder),
            earlier=stages[:index],
            extensions=extensions,
        )
        # Whatever came before, and in whichever process: the same adapters, the same dropout.
        set_seed(run.arguments.seed)
        history.append(load_or_run(run_stage, run))
        _assert_same_weights(pretrained.model, process)
        keeper.keep(homes[index], pretrained.model, history[-1], is_last and folder.keeps_last)
    scaler.fold(pretrained.model)
    return Trained(pretrained.model, history)


def _load_finished(
    stages: list[Stage], homes: list[Path], model: PreTrainedModel, process: ProcessContext
) -> list[StageHistory]:
    """The history of the stages that an earlier process finished; their weights go into `model`."""
    finished = broadcast_from_rank_zero(lambda: finished_stages(homes), process)
    for stage in stages[:finished]:
        logger.info("stage %s is finished already", stage.name)
    if finished:
        load_after(homes[finished - 1], model)
    return [read_history(home) for home in homes[:finished]]


def _assert_same_weights(model: PreTrainedModel, process: ProcessContext) -> None:
    assert_same_on_all_ranks("weights", partial(_digest, model), process)


def _decide_machine(
    pretrained: Pretrained, encoded: Encoded, config: Config, folder: RunFolder
) -> tuple[str, Config]:
    """`fp32`, `bf16` or `fp16`, and the configuration with a size of the micro-batches."""
    requested, device = config.training.precision, folder.process.device

    def decide() -> str:
        precision = decide_precision(requested, device)
        logger.info("precision: %s", precision)
        return precision

    precision = folder.decide("precision", decide)
    warn_if_slow(precision, device)
    config = _with_micro_batches(pretrained, encoded, precision, config, folder)
    _say_how_a_step_is_shared(config, folder.process)
    return precision, config


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
    reads_twice = any(stage.consistency for stage in config.strategy.stages.values())
    readings = READINGS if reads_twice else 1

    def find() -> int:
        with (
            recomputed(model, config.training.gradient_checkpointing),
            fast_linear_maps(model),
            shortened(model),
        ):
            return largest_micro_batch(model, inputs, encoded.collator, share, precision, readings)

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
