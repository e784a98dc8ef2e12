"""A device that is only described: its memory and its rate of matrix products."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.training.context import TrainingContext
from nlp_transfer.training.forecast.forecast import RecipeForecast
from nlp_transfer.training.forecast.timing import StageTiming
from nlp_transfer.training.forecast.work import epoch_works, inference_work

# The share of the nominal rate that a training step reaches: expected, at most, at least.
EFFICIENCY = (0.25, 0.5, 0.1)
BETWEEN = (0.03, 0.01, 0.08)  # seconds of a step that are no matrix product: launches, the host
TOKENS = 16384  # of one forward pass without gradients
HALVED = 0.6  # of the activations in float32, where matrix products are in bf16
EXAMPLE = "--device 'T4,16,65'"


@dataclass(frozen=True)
class Device:
    """What the data sheet of a device says."""

    name: str
    gigabytes: float
    teraflops: float  # of matrix products in the precision it is fastest at for training

    @classmethod
    def parse(cls, text: str) -> Device:
        """From `name,GB,TFLOPS`.

        Raises:
            UserError: it is something else.
        """
        name, *numbers = [part.strip() for part in text.rsplit(",", 2)]
        try:
            gigabytes, teraflops = map(float, numbers)
        except ValueError:
            gigabytes = teraflops = math.nan
        if not (name and gigabytes > 0 and teraflops > 0):
            raise UserError(
                ExitCode.CONFIG,
                f"--device {text!r}: expected a name, gigabytes and TFLOPS with commas between "
                f"them, as in {EXAMPLE}.",
            )
        return cls(name, gigabytes, teraflops)


def seconds_on(
    device: Device, context: TrainingContext, forecast: RecipeForecast, folds: int
) -> tuple[float, float, float]:
    """Seconds of the steps of a recipe by nominal rates: at least, expected, at most."""
    steps = work = 0.0
    for index, timing in enumerate(forecast.timing.stages):
        own_steps, own_flops = _stage(timing, index, context, forecast)
        steps, work = steps + own_steps, work + own_flops
    trainings = 1 + folds * (1 - 1 / folds) if folds else 1
    expected, least, most = (
        trainings * (steps * between + work / (share * device.teraflops * 1e12))
        for share, between in zip(EFFICIENCY, BETWEEN, strict=True)
    )
    return least, expected, most


def _stage(
    timing: StageTiming, index: int, context: TrainingContext, forecast: RecipeForecast
) -> tuple[float, float]:
    """Steps of a stage, and its floating-point operations."""
    config, pretrained = context.config, context.pretrained
    width = forecast.timing.width
    by_depth = np.zeros(pretrained.structure.layers + 2)
    for name, parameter in pretrained.model.named_parameters():
        by_depth[pretrained.structure.depth(name)] += parameter.numel()
    by_depth[0] = 0  # embeddings are looked up
    everything = 2 * by_depth.sum()
    whole = inference_work(context.train_rows, width, TOKENS)
    if not timing.steps_timed:
        return 0.0, everything * whole
    stage = timing.stage
    lowest = min(stage.lowest, len(by_depth) - 1)
    learned = 2 * by_depth[lowest:].sum()
    seed = (config.seed + index) % 2**32
    works = epoch_works(context.train_rows, config.training.batch_size, seed, width)
    steps = stage.steps or math.ceil(stage.epochs * len(works))
    stores = stage.lowest > 1 and stage.epochs > 1
    forward = learned if stores else everything
    flops = steps * float(np.mean(works)) * (forward + 2 * learned)
    return steps, flops + (everything * whole if stores else 0.0)
