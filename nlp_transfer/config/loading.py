"""Checks a composed configuration whole: unknown keys, types, missing and impossible values."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from nlp_transfer.config.constants import AUTO
from nlp_transfer.config.keys import nearest_key, type_of, unknown_key
from nlp_transfer.config.options import STAGE, options
from nlp_transfer.config.saved import refuse_cut_off, text_of
from nlp_transfer.config.schema import Config, plain
from nlp_transfer.config.sections.dataset import DatasetConfig
from nlp_transfer.config.validation import impossible
from nlp_transfer.errors import ExitCode, UserError, damaged

# Stands for a missing value while the rest is checked (all are texts; layers may be 0).
FILLED_IN = "0"
KINDS = {"int": "a whole number", "float": "a number", "str": "a text"}
PATHS = (
    ("", "run_dir"),
    ("checkpoint", "name"),
    ("tokenization", "folder"),
    ("features", "folder"),
)


def default_tree() -> dict[str, Any]:
    """Every key with its default, untyped: Hydra composes over this, `to_config` checks types."""
    return plain(_new_schema())


def to_config(tree: dict[str, Any], in_memory: bool = False) -> Config:
    """Check a composed tree whole and return it typed.

    Args:
        in_memory: data and metrics may be given from Python; else they must be named.

    Raises:
        UserError: one message with everything that is wrong.
    """
    leaves = dict(_leaves(tree))
    problems: list[str] = []
    try:
        merged = _typed(leaves)  # in one merge, which is enough where nothing is wrong
    except (TypeError, OmegaConfBaseException):
        merged, problems = _typed_one_by_one(leaves)
    missing = sorted(OmegaConf.missing_keys(merged))
    problems += [
        _missing_message(key, merged) for key in missing if not _is_reported(key, problems)
    ]
    for key in missing:
        merged = OmegaConf.merge(merged, _nest(key, FILLED_IN))
    config = OmegaConf.to_object(merged)
    assert isinstance(config, Config)
    _expand_home(config)
    problems += impossible(config, in_memory)
    if problems:
        raise UserError(ExitCode.CONFIG, "\n".join(problems))
    return config


def _typed(leaves: dict[str, Any]) -> Any:
    """The schema with all values; a `TypeError` or one of OmegaConf where any is wrong."""
    tree: dict[str, Any] = {}
    for key, value in leaves.items():
        if _is_default(key, value):
            continue
        if nearest_key(key) is not None:
            raise TypeError(f"{key} is unknown")
        _refuse_what_is_let_through(type_of(key), value)
        set_value(tree, key, _text_keys(value))
    return OmegaConf.unsafe_merge(_schema(), tree)


def _schema() -> Any:
    """Every key with its default and its type."""
    return copy.deepcopy(_new_schema())


@functools.cache
def _new_schema() -> Any:  # takes 30 ms, and a copy of it 3
    return OmegaConf.structured(Config)


@functools.cache
def _default_leaves() -> dict[str, Any]:
    return dict(_leaves(default_tree()))


def _is_default(key: str, value: Any) -> bool:
    default = _default_leaves().get(key, ...)
    return type(value) is type(default) and value == default


def _typed_one_by_one(leaves: dict[str, Any]) -> tuple[Any, list[str]]:
    """The schema with the values that fit, and a sentence about each of the others."""
    merged, problems = _schema(), []
    for key, value in leaves.items():
        nearest = nearest_key(key)
        if nearest is not None:
            problems.append(unknown_key(key, nearest))
            continue
        try:
            # OmegaConf's float and int nodes take strings: `seed="5"` is 5, `seed=five` is not.
            _refuse_what_is_let_through(type_of(key), value)
            merged = OmegaConf.unsafe_merge(merged, _nest(key, _text_keys(value)))
        except TypeError as error:
            problems.append(f"{key}={value!r}: {str(error).splitlines()[0]}.")
        except OmegaConfBaseException as error:
            reason = _expected(key) or str(error).splitlines()[0]
            null = f" Type \"{key}='null'\" for a column named null." if value is None else ""
            problems.append(f"{key}={value!r}: {reason}.{null if key == 'dataset.text' else ''}")
    return merged, problems


def set_value(tree: dict[str, Any], key: str, value: Any) -> None:
    """Set a value by its full key; whether that exists is for `to_config`."""
    *sections, name = key.split(".")
    for section in sections:
        below = tree.get(section)
        tree[section] = below if isinstance(below, dict) else {}
        tree = tree[section]
    tree[name] = value


def _expand_home(config: Config) -> None:
    """Paths that begin with `~`: a shell leaves it in KEY=~/… as it is."""
    for section, name in PATHS:
        holder = getattr(config, section) if section else config
        path = getattr(holder, name)
        if path is not None and path.startswith("~"):
            setattr(holder, name, str(Path(path).expanduser()))


def read_tree(file: Path) -> dict[str, Any]:
    """The content of a `config.yaml`; neither checked nor completed.

    Raises:
        UserError: it is not whole, or holds what is no configuration.
    """
    text = text_of(file)
    try:
        loaded = OmegaConf.create(text)
    except (YAMLError, ValueError, OmegaConfBaseException) as error:
        refuse_cut_off(file, text)
        raise damaged(file, "it is no YAML") from error
    if not OmegaConf.is_dict(loaded):
        raise damaged(file, "it holds no configuration")
    tree = plain(loaded)
    if "task" not in tree:
        raise damaged(file, "it names no task")
    refuse_cut_off(file, text)
    return tree


def read_config(file: Path) -> Config:
    """What a run was asked, from the `config.yaml` in its folder.

    Raises:
        UserError: it is not whole, or holds what is no configuration.
    """
    tree = read_tree(file)
    # Until `dataset.seed` was a key, the seed of the run drew the splits, too.
    tree.get("dataset", {}).setdefault("seed", tree.get("seed", Config.seed))
    return to_config(tree, in_memory=True)


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
    node = type_of(key)
    if is_dataclass(node):
        return True
    return getattr(node, "__origin__", None) is dict and is_dataclass(node.__args__[1])


def _nest(key: str, value: Any) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    set_value(tree, key, value)
    return tree


def _expected(key: str) -> str | None:
    """What a value of an option has to be; None for a section."""
    general = re.sub(r"(?<=^strategy\.stages\.)[^.]+", STAGE, key)
    types = [option.type for option in options() if option.key == general]
    if not types:
        return None
    parts = [KINDS.get(part, part) for part in types[0].split(" or ")]
    return f"expected {' or '.join(parts)}"


def _text_keys(value: Any) -> Any:
    """`{0: ham}` from a command line has an integer key; YAML, JSON and we say "0"."""
    return {str(k): v for k, v in value.items()} if isinstance(value, dict) else value


def _refuse_what_is_let_through(kind: Any, value: Any) -> None:
    """OmegaConf takes true for a number, and lists and mappings for the texts of a list."""
    if isinstance(value, bool) and float in (kind, *getattr(kind, "__args__", ())):
        raise TypeError(f"Value '{value}' of type 'bool' could not be converted to Float")
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in parts:
        if not isinstance(part, str | int | float):
            raise TypeError(f"{part!r} in it is not a text")


def _is_reported(key: str, problems: list[str]) -> bool:
    return any(problem.startswith(key) for problem in problems)


def _missing_message(key: str, merged: Any) -> str:
    strategy = merged.strategy
    if key == "task" and merged.dataset.train != DatasetConfig.train:
        return "No task is given. For files of your own, add +task=classify."
    if key == "task":
        return (
            "No task is given. Type nlp-transfer train +task=sentiment, or "
            "nlp-transfer train --help for the list of tasks."
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
