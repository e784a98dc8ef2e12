"""Checks a configuration for values that have the right type and are impossible."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from nlp_transfer.config.choices import (
    Adapt,
    Cache,
    ClassWeights,
    LongText,
    Parallel,
    Precision,
    Thresholds,
)
from nlp_transfer.config.constants import AUTO
from nlp_transfer.config.dataset_validation import (
    impossible_cuts,
    impossible_labels,
    impossible_long_texts,
    impossible_places,
    impossible_texts,
)
from nlp_transfer.config.schema import Config
from nlp_transfer.config.sections.delivery import HubConfig
from nlp_transfer.config.sections.evaluation import EvaluationConfig
from nlp_transfer.config.sections.training import TRACKERS, AugmentConfig, TrainingConfig
from nlp_transfer.config.strategy_validation import impossible_strategy
from nlp_transfer.problems import problems

# Of a branch or a tag; git takes some more.
GIT_NAME = r"(?!.*(\.\.|//|/\.|\.lock$))[A-Za-z0-9_][A-Za-z0-9_./-]*(?<![./])"
LARGEST_SEED = 2**32 - 1  # that numpy takes


def impossible(config: Config, in_memory: bool = False) -> Iterator[str]:
    """Values that have the right type and still cannot be.

    Args:
        in_memory: data and metrics may be given from Python; else they must be named.
    """
    yield from _impossible_numbers(config)
    yield from impossible_strategy(config.strategy)
    for key, name in (("run_dir", config.run_dir), ("checkpoint.name", config.checkpoint.name)):
        if name == "":
            yield f"{key} is empty: give a name, or leave it out."
    dataset = config.dataset
    if not in_memory and dataset.name is None and dataset.train == "train":
        yield (
            "dataset.train is missing: name the file with the labelled texts "
            "(+task=classify dataset.train=reviews.csv)."
        )
    yield from impossible_places(dataset)
    yield from _impossible_metrics(config, in_memory)
    yield from _impossible_thresholds(config.evaluation)
    yield from impossible_labels(dataset)
    yield from impossible_cuts(dataset)
    yield from impossible_long_texts(config)
    yield from _impossible_training(config.training)
    yield from impossible_with_fsdp(config)
    yield from _impossible_augmentation(config)
    yield from impossible_texts(config)
    yield from impossible_hub(config.hub)


def _impossible_metrics(config: Config, in_memory: bool) -> Iterator[str]:
    best, measured = config.evaluation.best, config.evaluation.metrics
    if measured is None:
        kind, kinds = config.dataset.problem, problems()
        some = [kinds[kind]] if kind in kinds else kinds.values()
        measured = [name for each in some for name in each.default_metrics]
    if not measured:
        yield "evaluation.metrics is empty: name at least one, or leave it out."
    elif not in_memory and best is not None and best not in measured:
        yield (
            f"evaluation.best={best!r} is not measured; evaluation.metrics has "
            f"{', '.join(dict.fromkeys(measured))}."
        )


def _impossible_thresholds(evaluation: EvaluationConfig) -> Iterator[str]:
    precision = evaluation.wanted_precision
    if not 0 < precision <= 1:
        yield f"evaluation.wanted_precision={precision} must be greater than 0 and at most 1."
    for_precision = evaluation.thresholds is Thresholds.precision
    if not for_precision and precision != EvaluationConfig.wanted_precision:
        yield f"evaluation.wanted_precision={precision} needs evaluation.thresholds=precision."


def _impossible_augmentation(config: Config) -> Iterator[str]:
    augment = config.training.augment
    if augment.mix and config.dataset.text_pair is not None:
        yield (
            f"training.augment.mix={augment.mix:g} is for single texts: a part of another pair "
            "would make the label wrong. Leave it out."
        )
    if augment != AugmentConfig() and config.tokenization.long_text is LongText.windows:
        yield (
            "training.augment changes whole texts, and tokenization.long_text=windows reads parts "
            "of them. Leave out one of the two, or set long_text=truncate or head_tail."
        )


def impossible_hub(hub: HubConfig) -> Iterator[str]:
    """Of an upload: a name that the Hub does not take, or options that exclude one another."""
    if hub.repository is None:
        for name in ("private", "revision", "tag", "pull_request"):
            if getattr(hub, name):
                yield f"hub.{name}={getattr(hub, name)} needs hub.repository=user/name."
        return
    # Imported here: only uploads wait for it.
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(hub.repository)
        valid = hub.repository.count("/") == 1
    except HFValidationError:
        valid = False
    if not valid:
        yield (
            f"hub.repository={hub.repository!r} must be user/name, of letters, digits, '-', '_' "
            "and '.', at most 96 of them."
        )
    for name in ("revision", "tag"):
        value = getattr(hub, name)
        if hub.pull_request and value is not None:
            yield f"hub.pull_request=true always targets main: leave out hub.{name}."
        elif value is not None and not re.fullmatch(GIT_NAME, value):
            yield (
                f"hub.{name}={value!r} is not a name that git accepts: letters, digits, '-', '_', "
                "'.' and '/', as in v1.0 or teams/red."
            )


def _impossible_training(training: TrainingConfig) -> Iterator[str]:
    yield from _impossible_class_weights(training.class_weights)
    if training.early_stopping is not None and not training.keep_best:
        yield "training.early_stopping needs the best epoch: leave out training.keep_best=false."
    batch, micro = training.batch_size, training.micro_batch_size
    if isinstance(micro, str) and micro != AUTO:
        yield f"training.micro_batch_size={micro!r} must be a number or {AUTO}."
    elif isinstance(micro, int) and micro > batch:
        yield f"training.micro_batch_size={micro} is larger than training.batch_size={batch}."
    unknown = [name for name in training.report_to if name not in TRACKERS]
    if unknown:
        trackers = ", ".join(TRACKERS)
        yield f"training.report_to: {unknown[0]!r} is not a tracker; there are {trackers}."


def impossible_with_fsdp(config: Config) -> Iterator[str]:
    """What needs the whole model in each process."""
    training = config.training
    if training.parallel is not Parallel.fsdp:
        return
    adapt = config.strategy.adapt
    instead = {
        f"strategy.adapt={adapt.value}": (adapt is not Adapt.none, "leave it out"),
        "training.compile=true": (training.compile, "leave it out"),
        "training.precision=fp16": (training.precision is Precision.fp16, "use bf16 or fp32"),
        "training.micro_batch_size=auto": (training.micro_batch_size == AUTO, "name a number"),
        "strategy.max_minutes": (config.strategy.max_minutes is not None, "leave it out"),
        "features.cache=on": (config.features.cache is Cache.on, "leave it out"),
    }
    for key, (is_asked, advice) in instead.items():
        if is_asked:
            yield (
                f"{key} needs the whole model in each process, and training.parallel=fsdp shards "
                f"it over them: {advice}."
            )


def _impossible_class_weights(weights: Any) -> Iterator[str]:
    if isinstance(weights, dict):
        wrong = {name: weight for name, weight in weights.items() if not _is_weight(weight)}
        if wrong or not weights:
            yield f"training.class_weights={weights} must give every label a number greater than 0."
    elif weights not in [kind.value for kind in ClassWeights]:
        names = ", ".join(kind.value for kind in ClassWeights)
        yield (
            f"training.class_weights={weights!r} must be one of {names}, "
            "or weights by name ({spam: 3, ham: 1})."
        )


def _is_weight(weight: Any) -> bool:
    return (
        isinstance(weight, int | float) and not isinstance(weight, bool) and 0 < weight < math.inf
    )


def _impossible_numbers(config: Config) -> Iterator[str]:
    positive = {
        "dataset.limit": config.dataset.limit,
        "tokenization.max_length": config.tokenization.max_length,
        "training.batch_size": config.training.batch_size,
        "training.micro_batch_size": config.training.micro_batch_size,
        "training.early_stopping": config.training.early_stopping,
        "training.threads": config.training.threads,
        "evaluation.max_tokens": config.evaluation.max_tokens,
    }
    for key, count in positive.items():
        if isinstance(count, int) and count < 1:
            yield f"{key}={count} must be at least 1."
    shares = {
        "checkpoint.dropout": config.checkpoint.dropout,
        "dataset.validation_fraction": config.dataset.validation_fraction,
        "dataset.test_fraction": config.dataset.test_fraction,
        "training.warmup": config.training.warmup,
        "training.label_smoothing": config.training.label_smoothing,
        **{f"training.augment.{name}": p for name, p in vars(config.training.augment).items()},
    }
    for key, share in shares.items():
        if share is not None and not 0 <= share < 1:
            yield f"{key}={share} must be at least 0 and less than 1."
    if config.dataset.validation_fraction == 0:
        yield "dataset.validation_fraction=0 leaves nothing to choose the best epoch by."
    not_negative = {
        "seed": config.seed,
        "training.weight_decay": config.training.weight_decay,
        "training.max_grad_norm": config.training.max_grad_norm,
        "export.verify_rows": config.export.verify_rows,
        "features.keep_gb": config.features.keep_gb,
        "training.checkpoint_minutes": config.training.checkpoint_minutes,
    }
    for key, amount in not_negative.items():
        if not 0 <= amount < math.inf:
            yield f"{key}={amount} must be a number that is not negative."
    if config.seed > LARGEST_SEED:
        yield f"seed={config.seed} must be at most {LARGEST_SEED}."
    if config.features.max_gb is not None and not config.features.max_gb >= 0:
        yield f"features.max_gb={config.features.max_gb} must be a number that is not negative."
