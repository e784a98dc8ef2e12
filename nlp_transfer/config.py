"""Everything a run can be told, as dataclasses, checked at the door.

Defaults live here and nowhere else; the YAML files of `conf/` say only what differs.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from typing import Any, get_type_hints

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nlp_transfer.errors import ExitCode, UserError

# Above this rate a few steps are enough to wipe out what pretraining has learned.
DESTRUCTIVE_LEARNING_RATE = 1e-3


class Precision(Enum):
    """Arithmetic of the training step; the weights stay in float32."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


class Schedule(Enum):
    """How the learning rate falls after the warm-up."""

    linear = "linear"
    cosine = "cosine"
    constant = "constant"


@dataclass
class CheckpointConfig:
    """Which pretrained encoder, and how far it is trusted."""

    name: str = MISSING  # a Hub name, a local folder, or embedded:all-MiniLM-L6-v2
    revision: str | None = None
    pretrained: bool = True  # false: the same architecture from random weights
    dropout: float | None = None  # None: the checkpoint's own
    trust_remote_code: bool = False
    allow_pickle: bool = False  # weights that are not safetensors can run code when they are read


@dataclass
class DatasetConfig:
    """Where the labelled texts are, and what their columns are called."""

    name: str | None = None  # a Hub name or embedded:reviews; None: train / validation / test are files
    subset: str | None = None  # the Hub's second name: glue has sst2, mrpc …
    revision: str | None = None
    train: str = "train"  # a file or glob, or the name of the Hub's split
    validation: str | None = None  # None: cut from train
    test: str | None = None
    text: str = "text"
    label: str = "label"
    label_names: dict[str, str] | None = None  # {0: ham, 1: spam} gives names to numbers
    limit: int | None = None  # a stratified, seeded part of train
    validation_fraction: float = 0.1  # cut from train where there is no validation split
    test_fraction: float = 0.1  # cut from train where train is all there is


@dataclass
class TokenizationConfig:
    """How texts are cut into tokens."""

    max_length: int | None = None  # tokens; None: as many as the checkpoint can read


@dataclass
class StageConfig:
    """One stretch of training: how many top layers learn, how fast, for how long."""

    layers: str = MISSING  # all (with the embeddings), 0 (the head alone), 2 (the top two)
    epochs: float = 3.0
    encoder_learning_rate: float = 5e-5
    head_learning_rate: float | None = None  # None: the encoder's
    layer_decay: float = 1.0  # each layer learns this many times as fast as the one above it


@dataclass
class StrategyConfig:
    """A list of stages, and short forms that apply to all of them where they make sense."""

    name: str = MISSING
    stages: dict[str, StageConfig] = field(default_factory=dict)
    epochs: float | None = None  # of every stage
    learning_rate: float | None = None  # the encoder's; the head's where nothing else learns
    top_layers: int | None = None  # of every stage that trains some but not all layers
    allow_destructive_rate: bool = False  # fine-tune above 1e-3 all the same


@dataclass
class TrainingConfig:
    """How a stage is trained."""

    batch_size: int = 32  # documents of one optimizer step, over all processes
    micro_batch_size: int | None = None  # of one forward pass on one process; None: as it comes
    precision: Precision = Precision.auto
    schedule: Schedule = Schedule.linear
    warmup: float = 0.1  # share of a stage's steps
    weight_decay: float = 0.01  # not on biases and norms
    max_grad_norm: float = 1.0
    label_smoothing: float = 0.0
    early_stopping: int | None = None  # epochs without a better metric before a stage ends
    keep_best: bool = True  # hand back the best epoch of a stage, not its last
    threads: int | None = None  # of the CPU, per process; None: torch's own choice
    cpu: bool = False  # leave an accelerator unused
    progress: bool = True


@dataclass
class EvaluationConfig:
    """What is measured, and by what the best epoch is chosen."""

    metrics: list[str] = field(default_factory=lambda: ["accuracy", "f1_macro", "log_loss"])
    best: str = "accuracy"
    positive_label: str | None = None  # of binary F1, precision and recall; None: the last of two
    max_tokens: int = 4096  # of one forward pass, padding included


@dataclass
class ExportConfig:
    """How the exported folder is proved."""

    verify_rows: int = 256  # validation texts that a fresh process answers; 0: all of them


@dataclass
class Config:
    """One run."""

    task: str = MISSING
    seed: int = 42
    run_dir: str | None = None  # None: runs/<task>-<checkpoint>-<hash of what is asked>
    overwrite: bool = False  # start a finished or unfinished run again
    dry_run: bool = False  # say the plan, train nothing
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    tokenization: TokenizationConfig = field(default_factory=TokenizationConfig)
    strategy: StrategyConfig = field(default_factory=StrategyConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    export: ExportConfig = field(default_factory=ExportConfig)


# Two runs that differ only here give the same model, so they are the same run.
NOT_PART_OF_THE_RESULT = (
    "run_dir",
    "overwrite",
    "dry_run",
    "training.threads",
    "training.progress",
    "export.verify_rows",
)


def default_tree() -> dict[str, Any]:
    """Every key with its default, untyped: Hydra composes over this, `to_config` checks types."""
    tree = OmegaConf.to_container(OmegaConf.structured(Config), enum_to_str=True)
    assert isinstance(tree, dict)
    return tree


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
            merged = OmegaConf.merge(merged, _nest(key, _text_keys(value)))
        except OmegaConfBaseException as error:
            problems.append(f"{key}={value!r}: {str(error).splitlines()[0]}.")
    missing = [key for key in sorted(OmegaConf.missing_keys(merged)) if not _said(key, problems)]
    problems += [_missing_message(key) for key in missing]
    if not problems:
        config = OmegaConf.to_object(merged)
        assert isinstance(config, Config)
        problems = list(_impossible(config))
        if not problems:
            return config
    raise UserError(ExitCode.CONFIG, "\n".join(problems))


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


def as_dict(config: Config) -> dict[str, Any]:
    """The resolved configuration in plain types, as `config.yaml` and the run's hash see it."""
    tree = OmegaConf.to_container(OmegaConf.structured(config), enum_to_str=True)
    assert isinstance(tree, dict)
    return tree


def _children(node: Any) -> tuple[list[str] | None, Any]:
    """The names below a node of the schema (None: any name), and the node behind a name."""
    if is_dataclass(node):
        hints = get_type_hints(node)
        return [f.name for f in fields(node)], lambda name: hints[name]
    arguments = getattr(node, "__args__", ())
    for option in (node, *arguments):
        if getattr(option, "__origin__", None) is dict:
            return None, lambda _: option.__args__[1]
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
    node: Any = Config
    for part in key.split("."):
        node = _children(node)[1](part)
    if is_dataclass(node):
        return True
    return getattr(node, "__origin__", None) is dict and is_dataclass(node.__args__[1])


def _nest(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def _text_keys(value: Any) -> Any:
    """`{0: ham}` from a command line has an integer key; YAML, JSON and we say "0"."""
    return {str(k): v for k, v in value.items()} if isinstance(value, dict) else value


def _said(key: str, problems: list[str]) -> bool:
    return any(problem.startswith(key) for problem in problems)


def _missing_message(key: str) -> str:
    if key == "task":
        return (
            "No task is given. Type python -m nlp_transfer.train +task=sentiment, "
            "or --help for the list of tasks."
        )
    return f"{key} is missing: it has no default, so it must be given."


def _impossible(config: Config) -> Iterator[str]:
    """Values that have the right type and still cannot be."""
    yield from _impossible_numbers(config)
    yield from _impossible_strategy(config.strategy)
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
    batch, micro = config.training.batch_size, config.training.micro_batch_size
    if micro is not None and micro > batch:
        yield f"training.micro_batch_size={micro} is larger than training.batch_size={batch}."


FILE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")


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
    }
    for key, amount in not_negative.items():
        if amount < 0:
            yield f"{key}={amount} must not be negative."


def _impossible_strategy(strategy: StrategyConfig) -> Iterator[str]:
    if not strategy.stages:
        yield f"strategy {strategy.name} has no stages; add strategy.stages.<name>.layers=all."
    if strategy.top_layers is not None:
        if strategy.top_layers < 1:
            yield f"strategy.top_layers={strategy.top_layers} must be at least 1."
        if not any(stage.layers not in ("0", "all") for stage in strategy.stages.values()):
            yield (
                f"strategy.top_layers={strategy.top_layers} has no stage to apply to: every stage "
                f"of strategy {strategy.name} trains the head alone or everything. "
                "Type strategy=top_layers."
            )
    positive = {"strategy.epochs": strategy.epochs, "strategy.learning_rate": strategy.learning_rate}
    for name, stage in strategy.stages.items():
        key = f"strategy.stages.{name}"
        if stage.layers != "all" and not stage.layers.isdecimal():
            yield f"{key}.layers={stage.layers!r} must be all, 0 (the head alone) or a number."
        positive[f"{key}.epochs"] = stage.epochs
        positive[f"{key}.encoder_learning_rate"] = stage.encoder_learning_rate
        positive[f"{key}.head_learning_rate"] = stage.head_learning_rate
        if not 0 < stage.layer_decay <= 1:
            yield f"{key}.layer_decay={stage.layer_decay} must be greater than 0 and at most 1."
    for key, amount in positive.items():
        if amount is not None and not amount > 0:
            yield f"{key}={amount} must be greater than 0."
    yield from _destructive_rates(strategy)


def _destructive_rates(strategy: StrategyConfig) -> Iterator[str]:
    if strategy.allow_destructive_rate:
        return
    for name, stage in strategy.stages.items():
        rate = strategy.learning_rate or stage.encoder_learning_rate
        if stage.layers != "0" and rate > DESTRUCTIVE_LEARNING_RATE:
            key = "learning_rate" if strategy.learning_rate else f"stages.{name}.encoder_learning_rate"
            yield (
                f"strategy.{key}={rate:g} would destroy the pretrained weights in stage {name} "
                f"(at most {DESTRUCTIVE_LEARNING_RATE:g}; 2e-5 to 1e-4 is usual). "
                "If it is meant, add strategy.allow_destructive_rate=true."
            )
