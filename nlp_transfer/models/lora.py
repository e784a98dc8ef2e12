"""Lets layers learn through adapters: low-rank matrices beside each linear map (Hu et al. 2021)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import numpy as np
from torch import nn
from transformers import PreTrainedModel

from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.models.strategies.stages import Stage
from nlp_transfer.models.structure import ModelStructure
from nlp_transfer.utils.logging import logger

LOUDNESS = 2  # alpha / rank: how much an adapter's output counts
EXACT = 1e-4  # what merging may move a logit by, in float32


@contextmanager
def adapted(
    model: PreTrainedModel,
    stage: Stage,
    structure: ModelStructure,
    logits: Callable[[], np.ndarray] | None = None,
) -> Iterator[None]:
    """Adapters beside every linear map of the layers that learn; merged at the end.

    They are put into the model itself, so its checkpoints hold them, the head, and everything else
    that is new. Nothing happens in a stage without adapters.

    Args:
        logits: of some rows, asked before and after the merge.

    Raises:
        UserError: if PEFT is not installed, or merging changes the logits.
    """
    if not stage.lora_rank:
        yield
        return
    if find_spec("peft") is None:
        raise UserError(
            ExitCode.CONFIG,
            f"Stage {stage.name} has adapters (lora_rank={stage.lora_rank}), which need PEFT. "
            "Type pip install 'nlp_transfer[lora]', or choose another strategy.",
        )
    from peft import LoraConfig, LoraModel

    rank = stage.lora_rank
    config = LoraConfig(
        r=rank, lora_alpha=LOUDNESS * rank, target_modules=targets(model, stage, structure)
    )
    tuner = LoraModel(model, config, stage.name)
    before = None
    try:
        yield
        before = logits() if logits is not None else None
    finally:
        tuner.merge_and_unload()
        model.requires_grad_(True)
    if logits is not None and before is not None:
        gap = float(np.abs(logits() - before).max())
        if not gap <= EXACT:
            raise UserError(
                ExitCode.TRAINING,
                f"Merging the adapters of stage {stage.name} changes a logit by {gap:.2g} "
                f"(at most {EXACT:g}). Try a lower strategy.learning_rate.",
            )
        logger.info("  adapters merged into the layers: logits equal within %.1e", gap)


def targets(model: PreTrainedModel, stage: Stage, structure: ModelStructure) -> list[str]:
    """The linear maps that get adapters: all of those in the layers that learn."""
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and stage.lowest <= structure.depth(name) <= structure.layers
    ]
