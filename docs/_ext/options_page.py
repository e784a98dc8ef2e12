"""Every option of the configuration, from the dataclasses and their attribute docstrings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from enum import Enum
from itertools import groupby
from typing import Any, get_args, get_type_hints

from markdown_tables import prose

from nlp_transfer.config import choices
from nlp_transfer.config.options import REQUIRED, STAGE, Option, attribute_docstrings, options
from nlp_transfer.config.schema import Config
from nlp_transfer.config.sections.strategy import StageConfig

# What a section is called, before the sentence of its dataclass.
STAGES = f"strategy.stages.{STAGE}"


def markdown() -> str:
    """One heading a section, one entry an option."""
    parts = []
    for section, entries in groupby(options(), section_of):
        shown = section.replace(STAGE, "&lt;stage&gt;")
        title = shown if section else "The run"
        sentence = prose(_docstring(section)) if section else ""
        parts.append(f"## {title}\n\n{sentence}\n")
        parts += [_entry(option) for option in entries]
    return "\n".join(parts)


def section_of(option: Option) -> str:
    """The key without its last word; empty for the options of the run itself."""
    return option.key.rpartition(".")[0]


def shown_key(option: Option) -> str:
    """The key as a person types it: the name of a stage stands for itself."""
    return option.key.replace(STAGE, "<stage>")


def _entry(option: Option) -> str:
    default = "" if option.default == REQUIRED else f":default: `{option.default}`\n"
    required = " Required." if option.default == REQUIRED else ""
    kind = (
        option.type if not option.values or option.values == ("true", "false") else "one of these"
    )
    lines = [f":::{{confval}} {shown_key(option)}", f":type: {kind}", default]
    lines += [f"{prose(option.meaning)}{required}", ""]
    lines += [f"- `{value}`{': ' + prose(text) if text else ''}" for value, text in values(option)]
    return "\n".join([*lines, ":::", ""])


def values(option: Option) -> Iterator[tuple[str, str]]:
    """The values of an enum, with what each means."""
    if option.values and option.values != ("true", "false"):
        enum = _enums()[option.key]
        texts = attribute_docstrings(choices).get(enum.__name__, {})
        yield from ((value, texts.get(value, "")) for value in option.values)


def _docstring(section: str) -> str:
    return " ".join((_sections()[section].__doc__ or "").split())


def _sections() -> dict[str, Any]:
    return {STAGES: StageConfig, **dict(_nested("", Config))}


def _nested(name: str, section: Any) -> Iterator[tuple[str, Any]]:
    """A section by its key, and those inside of it."""
    yield name, section
    hints = get_type_hints(section)
    for field in fields(section):
        if "Config" in getattr(hints[field.name], "__name__", ""):
            yield from _nested(f"{name}.{field.name}".lstrip("."), hints[field.name])


def _enums() -> dict[str, type[Enum]]:
    enums = {}
    for section, dataclass in _sections().items():
        for name, hint in get_type_hints(dataclass).items():
            for kind in (hint, *get_args(hint)):
                if isinstance(kind, type) and issubclass(kind, Enum):
                    enums[f"{section}.{name}".lstrip(".")] = kind
    return enums
