"""Whether a training fits into memory, and what would make it fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from nlp_transfer.analysis.estimate.device import HALVED, Device
from nlp_transfer.training.context import TrainingContext
from nlp_transfer.training.forecast.forecast import (
    MOMENTS,
    RecipeForecast,
    activation_bytes,
)
from nlp_transfer.training.forecast.timing import StageTiming, parts_of_step
from nlp_transfer.utils.memory import free_bytes

CONTEXT = 0.7e9  # bytes that a GPU's driver and its libraries take
RECOMPUTED = 0.25  # of the activations that stay where they are recomputed: one layer's, and inputs
LORA_SHARE = 0.03  # of the parameters
SHORTER = (256, 128, 64)  # tokens


@dataclass(frozen=True)
class Fit:
    """What there is, what is needed, and what would make it fit."""

    needed: int  # bytes beside what the process holds already
    free: int  # bytes
    remedies: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether it does."""
        return self.needed <= self.free


def fit_of(
    forecasts: Sequence[RecipeForecast],
    context: TrainingContext,
    device: Device | None,
    host: int | None,
    own: int | None,
) -> Fit | None:
    """Of the recipe that needs most; None where the system does not say what it has.

    Args:
        host: bytes at the peak on the host.
        own: bytes at the peak on a device with memory of its own.
    """
    del host
    largest = max(forecasts, key=lambda forecast: forecast.memory)
    if device is not None:
        free: int | None = int(1e9 * device.gigabytes - CONTEXT)
    elif own is not None:
        import torch

        free = torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else None
    else:
        free = free_bytes()
    if free is None:
        return None
    needed = largest.memory if own is None else own
    if needed <= free:
        return Fit(needed, free)
    scale = 1.0 if device is None else HALVED
    return Fit(needed, free, tuple(_remedies(largest, context, free, scale)))


def _remedies(
    forecast: RecipeForecast, context: TrainingContext, free: int, scale: float
) -> Iterator[str]:
    """Each alone; what fits only together is said last."""
    parts = parts_of_step(context.config, context.folder.process)
    batch = context.config.training.batch_size
    weights = forecast.timing.weights

    def needs(kept: float, count: int, longest: int | None = None, share: float = 1.0) -> float:
        return max(
            weights
            + 4 * MOMENTS * min(stage.parameters, share * weights / 4)
            + scale * kept * activation_bytes(stage, context, count, longest)
            for stage in forecast.timing.stages
        )

    some = False
    micro = max(batch // parts // 2, 1)
    while micro > 1 and needs(1, -(-batch // micro)) > free:
        micro //= 2
    if micro < batch // parts and needs(1, -(-batch // micro)) <= free:
        some = True
        yield f"training.micro_batch_size={micro}: the same steps, in {-(-batch // micro)} passes"
    if needs(RECOMPUTED, parts) <= free:
        some = True
        yield "training.gradient_checkpointing=true: the same steps, a third slower"
    if needs(1, parts, share=LORA_SHARE) <= free and _learns_much(forecast.timing.stages, weights):
        some = True
        yield "strategy=lora: adapters learn, 2% of the parameters"
    lengths = context.train_rows.inputs.lengths
    for longest in SHORTER:
        if longest < lengths.max() and needs(1, parts, longest) <= free:
            some = True
            cut = int((lengths > longest).sum())
            share = 100 * cut / len(lengths)
            yield (
                f"tokenization.max_length={longest}: cuts {cut:,} of {len(lengths):,} texts "
                f"({share:.1f}%)"
            )
            break
    if not some and needs(RECOMPUTED, batch, SHORTER[0], LORA_SHARE) <= free:
        yield (
            "strategy=lora training.micro_batch_size=1 training.gradient_checkpointing=true "
            f"tokenization.max_length={SHORTER[0]}, together"
        )
        some = True
    if not some:
        yield "a smaller checkpoint: the weights alone leave no room for a text"


def _learns_much(stages: Sequence[StageTiming], weights: int) -> bool:
    learned = np.array([stage.parameters for stage in stages])
    return bool(learned.max() > 2 * LORA_SHARE * weights / 4)
