"""What a run will take: seconds by part, memory and disk, from the timing of its stages."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from nlp_transfer.config.choices import Cache
from nlp_transfer.config.schema import Config
from nlp_transfer.data.corpus import Corpus
from nlp_transfer.models.strategies.recipes import Recipe
from nlp_transfer.models.strategies.stages import stage_steps
from nlp_transfer.tokenization.encoded import EncodedSplit
from nlp_transfer.tokenization.model_inputs import tokens_at_once
from nlp_transfer.training.context import TrainingContext
from nlp_transfer.training.forecast.timing import StageTiming, Timing, parts_of_step, time_recipe
from nlp_transfer.training.forecast.work import epoch_works, inference_work
from nlp_transfer.training.optimization.arguments import epochs_between
from nlp_transfer.training.refit import learns_from_held_out_rows
from nlp_transfer.training.shared_stages import shared_stages

# Seconds of the processor: figures and export; and of the process that verifies.
ENDING, VERIFYING = 4.0, 10.0
MOMENTS = 3  # of what learns: gradient, and two of AdamW


@dataclass(frozen=True)
class RecipeForecast:
    """What one recipe takes of a run, in seconds of the processor."""

    name: str
    steps: int  # of the final model
    folds: float  # seconds of its cross-validation, with what all its trainings share; 0: none
    final: float  # seconds of the final model, and of the one that the figures are of
    answering: float  # seconds of validation and test
    memory: int  # bytes beside what the process holds before
    disk: int  # bytes, while it trains
    timing: Timing

    @property
    def seconds(self) -> float:
        """Where this recipe is the only one."""
        return self.folds + self.final + self.answering


def forecast_recipe(
    context: TrainingContext, corpus: Corpus, recipe: Recipe, quick: bool = False
) -> RecipeForecast:
    """Time a few steps, and count what there is to do.

    Raises:
        UserError: where the recipe cannot be trained on this data.
    """
    timing = time_recipe(context, recipe, quick)
    config = context.config
    splits, tokens = context.encoded.splits, tokens_at_once(context.folder.process.device)
    train = context.training_rows(recipe, splits["train"])
    validation = None if corpus.folds is not None else splits.get("validation")
    rows = len(train.labels)
    trainings = 1 + recipe.self_training  # a teacher, and the recipe once more
    once = trainings * _training_seconds(timing, context, train, rows, validation)
    folds, final = 0.0, once
    if corpus.folds is not None:
        count = int(corpus.folds.max()) + 1
        own = _without_shared(timing, context, recipe)
        part = trainings * _training_seconds(own, context, train, rows - rows // count, None)
        answers = timing.answering * inference_work(train, timing.width, tokens)
        final = trainings * _training_seconds(own, context, train, rows, None)
        folds = once - final + count * part + answers
    elif learns_from_held_out_rows(config, corpus):
        more = rows + sum(len(splits[name].labels) for name in corpus.held_out)
        final += trainings * _training_seconds(timing, context, train, more, None)
    measured = ["validation", *(["test"] if config.evaluation.test else [])]
    answered = [splits[name] for name in measured if name in splits]
    answering = sum(inference_work(split, timing.width, tokens) for split in answered)
    return RecipeForecast(
        recipe.name,
        sum(_steps(stage, rows, config) for stage in timing.stages),
        folds,
        final,
        timing.answering * answering,
        _memory(timing, context, validation is not None),
        _disk(timing, context, once),
        timing,
    )


def _without_shared(timing: Timing, context: TrainingContext, recipe: Recipe) -> Timing:
    """Of the stages that every fold trains again, and the final model too."""
    config = replace(context.config, strategy=recipe.strategy)
    shared = shared_stages(context, config, [stage.stage for stage in timing.stages])
    return replace(timing, stages=timing.stages[len(shared) :])


def _steps(timing: StageTiming, rows: int, config: Config) -> int:
    by_gradient = timing.steps_timed > 0
    return stage_steps(timing.stage, rows, config.training.batch_size) if by_gradient else 0


def _training_seconds(
    timing: Timing,
    context: TrainingContext,
    train: EncodedSplit,
    rows: int,
    validation: EncodedSplit | None,
) -> float:
    """Of all stages.

    Args:
        train: whose lengths count.
        rows: as many of them are trained on.
    """
    return sum(
        _stage_seconds(stage, timing.width, context, train, rows, validation, index)
        for index, stage in enumerate(timing.stages)
    )


def _stage_seconds(  # noqa: PLR0913
    timing: StageTiming,
    width: int,
    context: TrainingContext,
    train: EncodedSplit,
    rows: int,
    validation: EncodedSplit | None,
    index: int,
) -> float:
    config, process = context.config, context.folder.process
    tokens, share = tokens_at_once(process.device), rows / len(train.labels)
    held_out = 0.0 if validation is None else inference_work(validation, width, tokens)
    read = share * inference_work(train, width, tokens)
    seconds = timing.setup + timing.solving * rows
    seconds += timing.encoding * (read + held_out)
    steps = _steps(timing, rows, config)
    if not steps:
        return seconds
    works = epoch_works(
        train,
        config.training.batch_size,
        (config.seed + index) % 2**32,
        width,
        parts_of_step(config, process),
    )
    constant, by_work = timing.step
    seconds += steps * (constant + by_work * float(np.mean(works)))
    if validation is not None:
        between = epochs_between(timing.stage, rows, len(validation.labels))
        looks = math.floor(timing.stage.epochs / between)
        seconds += looks * timing.evaluation * held_out
    return seconds


def _memory(timing: Timing, context: TrainingContext, keeps_best: bool) -> int:
    """Bytes of the largest stage: the copy of the model, what learning needs, activations."""
    parts = parts_of_step(context.config, context.folder.process)
    return max(
        timing.weights
        + 4 * (stage.parameters - _unused(stage, context)) * (MOMENTS + keeps_best)
        + activation_bytes(stage, context, parts)
        for stage in timing.stages
    )


def _unused(stage: StageTiming, context: TrainingContext) -> int:
    """Parameters of tokens that do not occur in train: they neither learn nor take moments."""
    tokens = context.train_rows.inputs.distinct_tokens
    if stage.stage.lowest > 0 or stage.stage.lora_rank or tokens is None:
        return 0
    embeddings = context.pretrained.model.get_input_embeddings()
    rows, width = embeddings.weight.shape
    return int((rows - len(tokens)) * width)


def activation_bytes(
    stage: StageTiming, context: TrainingContext, parts: int, longest: int | None = None
) -> int:
    """What the step with the longest texts keeps for its backward pass.

    Args:
        parts: micro-batches of a step.
        longest: tokens of a text at most; None: as long as they are.
    """
    lengths = context.train_rows.inputs.lengths
    if longest is not None:
        lengths = np.minimum(lengths, longest)
    rows = min(math.ceil(context.config.training.batch_size / parts), len(lengths))
    length = int(lengths.max()) * (2 if stage.reads == "pairs" else 1)
    rows *= 2 if stage.reads == "passes" or stage.stage.consistency else 1
    by_token, by_pair = stage.activations
    return int(rows * (by_token * length + by_pair * length**2))


def _disk(timing: Timing, context: TrainingContext, seconds: float) -> int:
    """Bytes of the export, two checkpoints where the training is long, and stored features."""
    config = context.config
    checkpoint = timing.weights + max(12 * stage.parameters for stage in timing.stages)
    is_long = seconds > 60 * config.training.checkpoint_minutes
    stored = 0
    if config.features.cache is not Cache.off:
        size = np.dtype(config.features.dtype.value).itemsize * timing.width
        splits = context.encoded.splits
        inputs = [splits[name].inputs for name in ("train", "validation") if name in splits]
        tokens = sum(int(each.offsets[-1]) for each in inputs)
        rows = sum(len(each) for each in inputs)
        stored = max(size * _vectors(stage, tokens, rows) for stage in timing.stages)
    return timing.weights + 2 * checkpoint * is_long + stored


def _vectors(timing: StageTiming, tokens: int, rows: int) -> int:
    """How many a stage stores."""
    stage = timing.stage
    if stage.lowest <= 1 or (timing.steps_timed and stage.epochs <= 1):
        return 0
    return rows if not timing.steps_timed else tokens
