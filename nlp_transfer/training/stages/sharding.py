"""A stage whose model is sharded across the processes (`training.parallel=fsdp`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.models.shortcuts.embedding_rows import only_used_rows
from nlp_transfer.models.shortcuts.sharding import sharded
from nlp_transfer.models.strategies.learning import frozen_below
from nlp_transfer.utils.logging import logger

if TYPE_CHECKING:
    from nlp_transfer.training.stages.stage_run import StageRun


def refuse_sharding(run: StageRun) -> None:
    """Of a stage that needs the whole model in each process.

    Raises:
        UserError: if there is one, and the model is to be sharded.
    """
    if not run.is_sharded:
        return
    reason = None
    if run.loss.reads != "logits":
        reason = f"its loss, {run.loss.name}, reads {run.loss.reads}"
    elif run.arguments.fp16:
        reason = "this machine would train in fp16; use training.precision=fp32"
    if reason is not None:
        raise UserError(
            ExitCode.CONFIG,
            f"Stage {run.stage.name} needs the whole model in each process ({reason}), and "
            "training.parallel=fsdp shards it. Choose another strategy, or leave it out.",
        )


def used_rows(run: StageRun, tokens: np.ndarray | None) -> AbstractContextManager[None]:
    """Where the embeddings are sharded, none of them is left out: the table would be on each."""
    return nullcontext() if run.is_sharded else only_used_rows(run.pretrained.model, tokens)


@contextmanager
def sharded_stage(run: StageRun) -> Iterator[StageRun]:
    """The run with a copy of the model that is sharded across the processes, if asked."""
    if not run.is_sharded:
        yield run
        return
    pretrained, structure = run.pretrained, run.pretrained.structure
    logger.info("  weights, gradients and moments are sharded across the processes")
    with (
        sharded(pretrained.model, structure.layer_prefixes, run.process) as model,
        frozen_below(model, run.stage, structure),
    ):
        yield replace(run, pretrained=replace(pretrained, model=model))
