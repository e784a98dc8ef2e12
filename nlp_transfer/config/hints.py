"""Suggests the key that was meant, where a key is of another section or another library."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable, Sequence

from nlp_transfer.config.options import STAGE, options
from nlp_transfer.config.sections.dataset import FILE_SUFFIXES

# What other libraries and common sense call an option.
ALIASES = {
    "strategy.epochs": ("num_train_epochs", "num_epochs", "n_epochs", "max_epochs", "epoch"),
    "strategy.learning_rate": ("lr", "body_learning_rate", "rate"),
    "strategy.top_layers": ("unfreeze_layers", "layers", "n_layers", "freeze", "freeze_layers"),
    "strategy.stages.STAGE.lora_rank": ("lora_r", "rank"),
    "checkpoint": ("model", "encoder", "backbone", "pretrained_model"),
    "checkpoint.name": ("model_name", "model_name_or_path", "model_id", "base_model"),
    "dataset.train": ("train", "train_file", "training_file", "train_data", "data", "file", "csv"),
    "dataset.validation": ("validation", "validation_file", "valid", "val", "dev", "eval_file"),
    "dataset.test": ("test_file", "test_data"),
    "dataset.text": ("text_column", "text_col", "sentence", "texts"),
    "dataset.text_pair": ("text2", "sentence2", "second_text"),
    "dataset.label": ("label_column", "label_col", "labels", "target", "class", "classes"),
    "dataset.limit": ("max_train_samples", "num_samples", "n_samples", "subsample"),
    "dataset.validation_fraction": ("val_split", "validation_split", "validation_size"),
    "dataset.test_fraction": ("test_size", "test_split"),
    "tokenization.max_length": ("max_seq_length", "max_seq_len", "max_len", "seq_len"),
    "training.batch_size": (
        "batch",
        "bs",
        "train_batch_size",
        "per_device_train_batch_size",
        "global_batch_size",
    ),
    "training.micro_batch_size": ("gradient_accumulation_steps", "device_batch_size"),
    "training.warmup": ("warmup_ratio", "warmup_steps", "warmup_proportion"),
    "training.schedule": ("lr_scheduler", "lr_scheduler_type", "scheduler"),
    "training.weight_decay": ("wd", "decay"),
    "training.max_grad_norm": ("clip", "gradient_clipping", "grad_clip"),
    "training.precision": ("fp16", "bf16", "fp32", "mixed_precision", "amp"),
    "training.early_stopping": ("patience", "early_stopping_patience"),
    "training.class_weights": ("class_weight", "weights"),
    "training.cpu": ("device", "gpu", "cuda", "no_cuda", "use_cpu"),
    "training.report_to": ("logger", "tracker", "wandb", "tensorboard", "mlflow"),
    "evaluation.metrics": ("metric", "scores"),
    "evaluation.best": ("metric_for_best_model", "monitor"),
    "evaluation.thresholds": ("threshold",),
    "run_dir": ("output_dir", "output", "out", "out_dir", "save_dir", "folder", "output_folder"),
    "overwrite": ("overwrite_output_dir", "force"),
    "seed": ("random_state", "random_seed"),
    "hub.repository": ("hub_model_id", "push_to_hub", "repo", "repo_id"),
}
_KEYS = {alias: key for key, aliases in ALIASES.items() for alias in aliases}
SHOWN = 3
ALIKE = 0.8  # similarity of a flag that was misspelt


def likely_keys(key: str) -> list[str]:
    """The keys that an unknown key may mean, best first; none if its words say nothing.

    An alias counts, and so does a key of another section with the same last word.
    """
    word = key.replace("-", "_").rpartition(".")[2].lower()
    if word in _KEYS:
        return [_KEYS[word]]
    same = [option.key for option in options() if option.key.rpartition(".")[2] == word]
    of_all_stages = [name for name in same if STAGE not in name]
    return (of_all_stages or same)[:SHOWN]


def explain(key: str) -> str | None:
    """What to type instead of an unknown key, as the end of a sentence; None: nothing is known."""
    keys = likely_keys(key)
    if not keys:
        return None
    if keys == ["checkpoint"]:
        return "did you mean checkpoint=NAME, or checkpoint.name with a name of the Hub?"
    return f"did you mean {' or '.join(keys)}?"


def value_of_flag(arguments: Sequence[str], place: int) -> str | None:
    """What a person gives to the flag at `place`: behind its `=`, or the next word."""
    _, equals, value = arguments[place].partition("=")
    if equals:
        return value
    following = arguments[place + 1 : place + 2]
    return next((word for word in following if "=" not in word and word[0] not in "-~"), None)


def likely_flag(flag: str, flags: Iterable[str]) -> str | None:
    """The one of a command's flags that is spelt most like a flag that it does not have."""
    long = [each for each in flags if each.startswith("--")]
    return next(iter(difflib.get_close_matches(flag, long, n=1, cutoff=ALIKE)), None)


def unknown_flag(flag: str, value: str | None, program: str, flags: Iterable[str] = ()) -> str:
    """The message for `--epochs 3`, where options are typed as KEY=VALUE.

    Args:
        flags: that there are.
    """
    keys, similar_flag = likely_keys(flag.lstrip("-")), likely_flag(flag, flags)
    if not keys and similar_flag:
        return f"{flag} is not a flag. Did you mean {similar_flag}? {program} --help lists them."
    if not keys:
        return f"{flag} is not a flag. Options are typed as KEY=VALUE; {program} --help lists them."
    typed = " or ".join(f"{key}={'VALUE' if value is None else value}" for key in keys)
    return f"{flag} is not a flag. Options are typed as KEY=VALUE: {typed}"


def bare_word(word: str) -> str:
    """The message for a word that is neither KEY=VALUE nor the value of a flag."""
    if word.lower().endswith(FILE_SUFFIXES):
        typed = shlex.quote(f"dataset.train={word}")
        return f"{word!r} is not KEY=VALUE. For your own file: +task=classify {typed}"
    return f"{word!r} is not KEY=VALUE, as in +task=sentiment or strategy.epochs=3."


def spaced_equals(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Words without those around an equal sign that stands alone, and a message for each sign."""
    alone = [place for place, word in enumerate(words) if word == "="]
    around = {near for place in alone for near in (place - 1, place, place + 1)}
    problems = [
        f"'=' stands alone. Type {''.join(words[max(place - 1, 0) : place + 2])}, without spaces."
        for place in alone
    ]
    return [word for place, word in enumerate(words) if place not in around], problems
