"""Checks a composed configuration whole: unknown keys, types, missing and impossible values."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from nlp_transfer.config.constants import AUTO
from nlp_transfer.config.hints import explain
from nlp_transfer.config.options import STAGE, options
from nlp_transfer.config.schema import Config, plain
from nlp_transfer.config.sections.dataset import DatasetConfig
from nlp_transfer.config.validation import impossible
from nlp_transfer.errors import ExitCode, UserError, damaged

# Stands for a missing value while the rest is checked (all are texts; layers may be 0).
FILLED_IN = "0"
PATHS = (
    ("", "run_dir"),
    ("checkpoint", "name"),
    ("tokenization", "folder"),
    ("features", "folder"),
)


def default_tree() -> dict[str, Any]:
    """Every key with its default, untyped: Hydra composes over this, `to_config` checks types."""
    return plain(OmegaConf.structured(Config))


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
        if nearest_key(key) is not None:
            raise TypeError(f"{key} is unknown")
        _refuse_what_is_let_through(_type_of(key), value)
        set_value(tree, key, _text_keys(value))
    return OmegaConf.unsafe_merge(OmegaConf.structured(Config), tree)


def _typed_one_by_one(leaves: dict[str, Any]) -> tuple[Any, list[str]]:
    """The schema with the values that fit, and a sentence about each of the others."""
    merged, problems = OmegaConf.structured(Config), []
    for key, value in leaves.items():
        nearest = nearest_key(key)
        if nearest is not None:
            problems.append(unknown_key(key, nearest))
            continue
        try:
            # OmegaConf's float and int nodes take strings: `seed="5"` is 5, `seed=five` is not.
            _refuse_what_is_let_through(_type_of(key), value)
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


def read_config(file: Path) -> Config:
    """What a run was asked, from the `config.yaml` in its folder.

    Raises:
        UserError: it is not whole, or holds what is no configuration.
    """
    try:
        loaded = OmegaConf.load(file)
    except (YAMLError, ValueError, OSError) as error:
        raise damaged(file, "it is no YAML") from error
    if not OmegaConf.is_dict(loaded):
        raise damaged(file, "it holds no configuration")
    tree = plain(loaded)
    if "task" not in tree:
        raise damaged(file, "it names no task")
    # Until `dataset.seed` was a key, the seed of the run drew the splits, too.
    tree.get("dataset", {}).setdefault("seed", tree.get("seed", Config.seed))
    return to_config(tree, in_memory=True)


MISSPELT = 0.8  # similarity of a word from which on it is one that was misspelt
UNLIKE = 0.5  # similarity below which a key says nothing about what was meant
KINDS = {"int": "a whole number", "float": "a number", "str": "a text"}


def nearest_key(key: str) -> str | None:
    """None for a key that exists, else the valid key that is spelt most like it."""
    node: Any = Config
    prefix: list[str] = []
    for part in key.split("."):
        names, node_of = _children(node)
        if names is not None and part not in names:
            close = difflib.get_close_matches(part, names, n=1, cutoff=0.0)
            if not close:
                return ".".join(prefix)
            nearest = ".".join([*prefix, close[0]])
            rest = key.split(".")[len(prefix) + 1 :]
            return _with_rest(nearest, rest, key) if rest else nearest
        prefix.append(part)
        node = node_of(part)
    return None


def _with_rest(section: str, rest: list[str], key: str) -> str:
    """The key below a section whose name was misspelt in `key`; without one, the section."""
    corrected = ".".join([section, *rest])
    nearest = nearest_key(corrected) or corrected
    like = difflib.SequenceMatcher(None, nearest, key).ratio() >= MISSPELT
    return nearest if like else section


def unknown_key(key: str, nearest: str) -> str:
    """The message for a key that does not exist."""
    if key.rpartition(".")[2] in ("streaming", "stream"):
        return (
            f"{key} is not a key: data are not streamed. Batches are planned from the lengths of "
            "all texts, and splits, leaks and metrics need all rows. dataset.limit takes a part."
        )
    section, _, word = key.rpartition(".")
    known_section = not section or nearest_key(section) is None
    misspelt = difflib.get_close_matches(word, [nearest.rpartition(".")[2]], cutoff=MISSPELT)
    hint = explain(key) if known_section and not misspelt else None
    depth = nearest.count(".")
    typed, known = (name.split(".")[depth] for name in (key, nearest))
    similarity = difflib.SequenceMatcher(None, typed, known).ratio()
    if hint is None and similarity < UNLIKE:
        hint = f"nlp-transfer options lists all keys, nlp-transfer options {word} searches them."
    return f"{key} is not a key of the configuration; {hint or f'the nearest one is {nearest}.'}"


@functools.cache
def _annotations(section: type) -> dict[str, Any]:
    return get_type_hints(section)


def _children(node: Any) -> tuple[list[str] | None, Any]:
    """The names below a node of the schema (None: any name), and the node behind a name."""
    if isinstance(node, type) and is_dataclass(node):
        hints = _annotations(node)
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
