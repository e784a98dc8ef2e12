"""Lists every option of the configuration: key, type, default and meaning."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from enum import Enum
from functools import cache
from types import ModuleType, NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from nlp_transfer.config import constants
from nlp_transfer.config.schema import Config

STAGE = "STAGE"  # stands for the name of a stage, which the strategy chooses
REQUIRED = "required"


@dataclass(frozen=True)
class Option:
    """One key of the configuration."""

    key: str
    type: str  # such as `int or null`; of an enum its values
    default: str  # as it is typed
    meaning: str  # the docstring of its attribute
    values: tuple[str, ...] = ()  # where only some are possible


@cache
def options() -> tuple[Option, ...]:
    """Every option, in the order of the dataclasses."""
    return tuple(_options(Config, ""))


def search(word: str) -> list[Option]:
    """The options with a word in their key or meaning, whatever the case.

    Those that have it in their last word come first, and of these the ones for all stages.
    """
    needle = word.casefold()

    def rank(option: Option) -> int:
        key = option.key.casefold()
        if needle in key.rpartition(".")[2]:
            return 1 if STAGE in option.key else 0
        return 2 if needle in key else 3

    either = (o for o in options() if needle in o.key.casefold() or needle in o.meaning.casefold())
    return sorted(either, key=rank)


@cache
def attribute_docstrings(module: ModuleType) -> dict[str, dict[str, str]]:
    """The text below each attribute of each class of a module, on one line.

    Python keeps no docstring of an attribute, so it is read from the source.
    """
    tree = ast.parse(inspect.getsource(module))
    return {node.name: _docstrings(node) for node in tree.body if isinstance(node, ast.ClassDef)}


def _docstrings(node: ast.ClassDef) -> dict[str, str]:
    texts = {}
    for attribute, below in zip(node.body, node.body[1:], strict=False):
        target = getattr(attribute, "target", None) or next(
            iter(getattr(attribute, "targets", ())), None
        )
        if (
            isinstance(target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
            and isinstance(below.value.value, str)
        ):
            texts[target.id] = " ".join(below.value.value.split())
    return texts


def _options(section: type, prefix: str) -> Iterator[Option]:
    hints = get_type_hints(section)
    texts = attribute_docstrings(sys.modules[section.__module__]).get(section.__name__, {})
    for field in fields(section):
        key, kind = f"{prefix}{field.name}", hints[field.name]
        if is_dataclass(kind):
            assert isinstance(kind, type)
            yield from _options(kind, f"{key}.")
        elif get_origin(kind) is dict and is_dataclass(get_args(kind)[1]):
            yield from _options(get_args(kind)[1], f"{key}.{STAGE}.")
        else:
            meaning = texts.get(field.name, "")
            yield Option(key, _type(kind), _default(field), meaning, _values(kind))


def _type(kind: Any) -> str:
    if isinstance(kind, UnionType):
        return " or ".join(_type(part) for part in get_args(kind))
    if kind is NoneType:
        return "null"
    if kind is Any:
        return "any"
    if values := _values(kind):
        return " | ".join(values)
    if get_origin(kind) in (list, dict):
        inner = ", ".join(_type(part) for part in get_args(kind))
        return f"{get_origin(kind).__name__} of {inner}"
    return kind.__name__


def _values(kind: Any) -> tuple[str, ...]:
    if kind is bool:
        return ("true", "false")
    if isinstance(kind, type) and issubclass(kind, Enum):
        return tuple(kind.__members__)
    return ()


def _default(field: Field[Any]) -> str:
    if field.default_factory is not MISSING:
        return "[]" if field.default_factory is list else "{}"
    value = field.default
    if value is MISSING or value == constants.MISSING:
        return REQUIRED
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, bool | NoneType):
        return {True: "true", False: "false", None: "null"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
