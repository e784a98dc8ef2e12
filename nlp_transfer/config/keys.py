"""The keys of the configuration: which exist, their types, and which one was meant."""

from __future__ import annotations

import difflib
import functools
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

from nlp_transfer.config.hints import explain
from nlp_transfer.config.schema import Config

MISSPELT = 0.8  # similarity of a word from which on it is one that was misspelt
UNLIKE = 0.5  # similarity below which the nearest key is not suggested


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


def type_of(key: str) -> Any:
    """The annotation of a key that exists."""
    node: Any = Config
    for part in key.split("."):
        node = _children(node)[1](part)
    return node


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
