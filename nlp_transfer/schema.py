"""Checks a composed configuration whole: unknown keys, types, missing and impossible values."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nlp_transfer.config import (
    AUTO,
    FILE_SUFFIXES,
    Config,
    Solver,
    StageConfig,
    StrategyConfig,
    plain,
)
from nlp_transfer.errors import ExitCode, UserError

# Above this rate a few steps are enough to wipe out what pretraining has learned.
DESTRUCTIVE_LEARNING_RATE = 1e-3
LARGEST_SEED = 2**32 - 1  # that numpy takes
# Stands for a missing value while the rest is checked (all are texts; layers may be 0).
FILLED_IN = "0"


def default_tree() -> dict[str, Any]:
    """Every key with its default, untyped: Hydra composes over this, `to_config` checks types."""
    return plain(OmegaConf.structured(Config))


def to_config(tree: dict[str, Any]) -> Config:
    """Check a composed tree whole and return it typed.

    Raises:
        UserError: one message with everything that is wrong.
    """
    schema = OmegaConf.structured(Config)
    problems = []
    merged = schema
    for key, value in _leaves(tree):
        nearest = nearest_key(key)
        if nearest is not None:
            problems.append(unknown_key(key, nearest))
            continue
        try:
            # OmegaConf's float and int nodes take strings: `seed="5"` is 5, `seed=five` is not.
            _refuse_what_is_let_through(_type_of(key), value)
            merged = OmegaConf.unsafe_merge(merged, _nest(key, _text_keys(value)))
        except (OmegaConfBaseException, TypeError) as error:
            problems.append(f"{key}={value!r}: {str(error).splitlines()[0]}.")
    missing = sorted(OmegaConf.missing_keys(merged))
    strategy = merged.strategy
    problems += [_missing_message(key, strategy) for key in missing if not _said(key, problems)]
    for key in missing:
        merged = OmegaConf.merge(merged, _nest(key, FILLED_IN))
    config = OmegaConf.to_object(merged)
    assert isinstance(config, Config)
    problems += _impossible(config)
    if problems:
        raise UserError(ExitCode.CONFIG, "\n".join(problems))
    return config


def nearest_key(key: str) -> str | None:
    """None for a key that exists, else the valid key that is spelt most like it."""
    node: Any = Config
    prefix: list[str] = []
    for part in key.split("."):
        names, node_of = _children(node)
        if names is not None and part not in names:
            close = difflib.get_close_matches(part, names, n=1, cutoff=0.0)
            return ".".join([*prefix, close[0]]) if close else ".".join(prefix)
        prefix.append(part)
        node = node_of(part)
    return None


def unknown_key(key: str, nearest: str) -> str:
    """The message for a key that does not exist."""
    return f"{key} is not a key of the configuration; the nearest one is {nearest}."


def _children(node: Any) -> tuple[list[str] | None, Any]:
    """The names below a node of the schema (None: any name), and the node behind a name."""
    if is_dataclass(node):
        hints = get_type_hints(node)
        return [f.name for f in fields(node)], lambda name: hints[name]
    arguments = getattr(node, "__args__", ())
    for option in (node, *arguments):
        if getattr(option, "__origin__", None) is dict:
            return None, lambda _, mapping=option: mapping.__args__[1]
    return [], lambda _: None


def _leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict) and value and _is_section(key):
            yield from _leaves(value, f"{key}.")
        else:
            yield key, value


def _is_section(key: str) -> bool:
    """Whether a key holds further keys of ours (and not a mapping the user fills freely)."""
    if nearest_key(key) is not None:
        return False
    node = _type_of(key)
    if is_dataclass(node):
        return True
    return getattr(node, "__origin__", None) is dict and is_dataclass(node.__args__[1])


def _type_of(key: str) -> Any:
    """The annotation of a key that exists."""
    node: Any = Config
    for part in key.split("."):
        node = _children(node)[1](part)
    return node


def _nest(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def _text_keys(value: Any) -> Any:
    """`{0: ham}` from a command line has an integer key; YAML, JSON and we say "0"."""
    return {str(k): v for k, v in value.items()} if isinstance(value, dict) else value


def _refuse_what_is_let_through(kind: Any, given: Any) -> None:
    """OmegaConf takes true for a number, and lists and mappings for the texts of a list."""
    if isinstance(given, bool) and float in (kind, *getattr(kind, "__args__", ())):
        raise TypeError(f"Value '{given}' of type 'bool' could not be converted to Float")
    parts = given.values() if isinstance(given, dict) else given if isinstance(given, list) else ()
    for part in parts:
        if not isinstance(part, str | int | float):
            raise TypeError(f"{part!r} in it is not a text")


def _said(key: str, problems: list[str]) -> bool:
    return any(problem.startswith(key) for problem in problems)


def _missing_message(key: str, strategy: Any) -> str:
    if key == "task":
        return (
            "No task is given. Type python -m nlp_transfer.train +task=sentiment, "
            "or --help for the list of tasks."
        )
    if key.startswith("strategy.stages.") and OmegaConf.select(strategy, "name") == AUTO:
        return (
            f"{key} is missing: strategy=auto chooses its stages by the data. "
            "Name a strategy to set a key of one of its stages."
        )
    if key.startswith("strategy.stages."):
        return (
            f"{key} is missing: a stage says which layers learn. The strategy has the stages "
            f"{', '.join(strategy.stages)}; is one of them misspelt?"
        )
    return f"{key} is missing: it has no default, so it must be given."


def _impossible(config: Config) -> Iterator[str]:
    """Values that have the right type and still cannot be."""
    yield from _impossible_numbers(config)
    yield from _impossible_strategy(config.strategy)
    for key, name in (("run_dir", config.run_dir), ("checkpoint.name", config.checkpoint.name)):
        if name == "":
            yield f"{key} is empty: give a name, or leave it out."
    dataset = config.dataset
    if dataset.name is None and dataset.train == "train":
        yield (
            "dataset.train is missing: name the file with the labelled texts "
            "(dataset=files dataset.train=reviews.csv)."
        )
    if dataset.name is not None:
        for split in ("train", "validation", "test"):
            value = getattr(dataset, split)
            if value is not None and value.lower().endswith(FILE_SUFFIXES):
                yield (
                    f"dataset.{split}={value!r} is a file, but the dataset is {dataset.name!r}. "
                    f"Add dataset=files to train on your own files."
                )
    if config.evaluation.best not in config.evaluation.metrics:
        yield (
            f"evaluation.best={config.evaluation.best!r} is not measured; evaluation.metrics has "
            f"{', '.join(config.evaluation.metrics)}."
        )
    if config.training.early_stopping is not None and not config.training.keep_best:
        yield "training.early_stopping needs the best epoch: leave out training.keep_best=false."
    batch, micro = config.training.batch_size, config.training.micro_batch_size
    if micro is not None and micro > batch:
        yield f"training.micro_batch_size={micro} is larger than training.batch_size={batch}."


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
        if count is not None and count < 1:
            yield f"{key}={count} must be at least 1."
    shares = {
        "checkpoint.dropout": config.checkpoint.dropout,
        "dataset.validation_fraction": config.dataset.validation_fraction,
        "dataset.test_fraction": config.dataset.test_fraction,
        "training.warmup": config.training.warmup,
        "training.label_smoothing": config.training.label_smoothing,
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
    }
    for key, amount in not_negative.items():
        if not 0 <= amount < math.inf:
            yield f"{key}={amount} must be a number that is not negative."
    if config.seed > LARGEST_SEED:
        yield f"seed={config.seed} must be at most {LARGEST_SEED}."
    if config.features.max_gb is not None and not config.features.max_gb >= 0:
        yield f"features.max_gb={config.features.max_gb} must be a number that is not negative."


def _impossible_strategy(strategy: StrategyConfig) -> Iterator[str]:
    if not strategy.stages and not strategy.is_auto:
        yield f"strategy {strategy.name} has no stages; add strategy.stages.<name>.layers=all."
    if strategy.top_layers is not None:
        if strategy.top_layers < 1:
            yield f"strategy.top_layers={strategy.top_layers} must be at least 1."
        if not any(stage.layers not in ("0", "all") for stage in strategy.stages.values()):
            yield (
                f"strategy.top_layers={strategy.top_layers} has no stage to apply to in strategy "
                f"{strategy.name}. Type strategy=top_layers."
            )
    positive = {
        "strategy.epochs": strategy.epochs,
        "strategy.learning_rate": strategy.learning_rate,
    }
    for name, stage in strategy.stages.items():
        key = f"strategy.stages.{name}"
        yield from _impossible_stage(key, stage)
        positive[f"{key}.epochs"] = stage.epochs
        positive[f"{key}.encoder_learning_rate"] = stage.encoder_learning_rate
        positive[f"{key}.head_learning_rate"] = stage.head_learning_rate
    if strategy.min_steps < 0:
        yield f"strategy.min_steps={strategy.min_steps} must be a number that is not negative."
    for key, amount in positive.items():
        if amount is not None and not 0 < amount < math.inf:
            yield f"{key}={amount} must be a number greater than 0."
    yield from _destructive_rates(strategy)


def _impossible_stage(key: str, stage: StageConfig) -> Iterator[str]:
    if stage.layers != "all" and not stage.layers.isdecimal():
        yield f"{key}.layers={stage.layers!r} must be all, 0 (the head alone) or a number."
    if stage.solver is Solver.exact and stage.layers != "0":
        yield f"{key}.solver=exact is for layers=0, the head alone; layers={stage.layers} here."
    if stage.lora_rank < 0:
        yield f"{key}.lora_rank={stage.lora_rank} must be a number that is not negative."
    if stage.lora_rank and stage.layers == "0":
        yield f"{key}.lora_rank={stage.lora_rank} has nothing to adapt: layers=0 is the head alone."
    if not 0 < stage.layer_decay <= 1:
        yield f"{key}.layer_decay={stage.layer_decay} must be greater than 0 and at most 1."


def _destructive_rates(strategy: StrategyConfig) -> Iterator[str]:
    if strategy.allow_destructive_rate:
        return
    short = strategy.learning_rate
    rates = {
        f"strategy.stages.{name}.encoder_learning_rate": stage.encoder_learning_rate
        for name, stage in strategy.stages.items()
        if stage.layers != "0"
    }
    if short is not None and (rates or strategy.is_auto):
        rates = {"strategy.learning_rate": short}
    for key, rate in rates.items():
        if rate > DESTRUCTIVE_LEARNING_RATE:
            yield (
                f"{key}={rate:g} would destroy the pretrained weights "
                f"(at most {DESTRUCTIVE_LEARNING_RATE:g}; 2e-5 to 1e-4 is usual). "
                "If it is meant, add strategy.allow_destructive_rate=true."
            )
